//! The command line of the virtual machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssvm::cli::main()
}
