//! `sscc`: see [`sscc::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sscc::cli::main()
}
