//! Dumps and documents to import: any text. The body is `tierce_tool::fuzzing::dump_or_import`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_tool::fuzzing::dump_or_import(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "dump_or_import",
        tierce_tool::fuzzing::dump_or_import,
        &tierce_fuzz::texts::dumps(),
    )
}
