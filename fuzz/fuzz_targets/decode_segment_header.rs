//! Segment headers: any bytes at the start of a segment. The body is `tierce_fuzz::decode_segment_header`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::decode_segment_header(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "decode_segment_header",
        tierce_fuzz::decode_segment_header,
        &tierce_fuzz::samples::decode_segment_header(),
    )
}
