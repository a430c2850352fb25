//! `ssvm`: see [`ssvm::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ssvm::cli::main()
}
