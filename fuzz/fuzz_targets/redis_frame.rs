//! Entries on a server: any bytes. The body is `tierce_fuzz::texts::redis_frame`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::texts::redis_frame(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "redis_frame",
        tierce_fuzz::texts::redis_frame,
        &tierce_fuzz::texts::frames(),
    )
}
