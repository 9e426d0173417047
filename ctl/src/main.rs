//! `hzctl`: reads the command line, runs one command, ends with one of the fixed exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    hzctl::cli::main()
}
