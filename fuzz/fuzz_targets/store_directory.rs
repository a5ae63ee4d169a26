//! Whole directories of stores, edited as the bytes say. The body is `tierce_fuzz::stores::store_directory`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::stores::store_directory(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "store_directory",
        tierce_fuzz::stores::store_directory,
        &tierce_fuzz::stores::inputs(),
    )
}
