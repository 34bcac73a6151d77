//! keelson-supervisor: the binary.

use clap::Parser;

fn main() -> std::process::ExitCode {
    keelson_supervisor::run(keelson_supervisor::Cli::parse())
}
