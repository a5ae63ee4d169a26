//! Footers: any bytes at the end of a segment. The body is `tierce_fuzz::decode_footer`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::decode_footer(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "decode_footer",
        tierce_fuzz::decode_footer,
        &tierce_fuzz::samples::decode_footer(),
    )
}
