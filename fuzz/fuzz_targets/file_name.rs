//! Names: any text in place of a file's name. The body is `tierce_fuzz::file_name`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::file_name(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "file_name",
        tierce_fuzz::file_name,
        &tierce_fuzz::samples::file_name(),
    )
}
