//! Checkpoints: any bytes in place of the file. The body is `tierce_fuzz::decode_checkpoint`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::decode_checkpoint(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "decode_checkpoint",
        tierce_fuzz::decode_checkpoint,
        &tierce_fuzz::samples::decode_checkpoint(),
    )
}
