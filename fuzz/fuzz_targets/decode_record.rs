//! Records: any bytes at the place of one. The body is `tierce_fuzz::decode_record`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::decode_record(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "decode_record",
        tierce_fuzz::decode_record,
        &tierce_fuzz::samples::decode_record(),
    )
}
