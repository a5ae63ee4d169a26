//! The binary `tierce`. Everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierce_tool::run()
}
