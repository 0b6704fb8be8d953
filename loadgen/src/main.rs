//! The `tidegate-loadgen` program. What it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::cli::main()
}
