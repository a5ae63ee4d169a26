//! Typed keys: any bytes. The body is `tierce_fuzz::texts::typed_key`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierce_fuzz::texts::typed_key(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    tierce_fuzz::replay::main(
        "typed_key",
        tierce_fuzz::texts::typed_key,
        &tierce_fuzz::texts::keys(),
    )
}
