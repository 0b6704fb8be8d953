//! The `tidegate` program. What it does is in the library.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main(|_| Err(io::Error::from(io::ErrorKind::Unsupported)))
}
