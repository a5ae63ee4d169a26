//! Sheets of backups: any text. The body is `tierce_fuzz::texts::backup_sheet`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::texts::backup_sheet(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "backup_sheet",
        tierce_fuzz::texts::backup_sheet,
        &tierce_fuzz::texts::sheets(),
    )
}
