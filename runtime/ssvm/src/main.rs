//! The command line of the virtual machine.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
