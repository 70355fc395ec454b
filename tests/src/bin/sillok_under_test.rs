//! The one binary, `sillok`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sillok_cli::main()
}
