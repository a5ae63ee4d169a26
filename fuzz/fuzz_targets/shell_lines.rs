//! Scripts of the shell: any text. The body is `tierce_tool::fuzzing::shell_script`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_tool::fuzzing::shell_script(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "shell_lines",
        tierce_tool::fuzzing::shell_script,
        &tierce_fuzz::texts::scripts(),
    )
}
