//! Sequences of operations, as the bytes say. The body is `tierce_fuzz::histories::operations`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::histories::operations(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "operations",
        tierce_fuzz::histories::operations,
        &tierce_fuzz::histories::inputs(),
    )
}
