//! keelson-network: the binary.

use std::process::ExitCode;

use clap::Parser;
use keelson_base::{logging, runtime};
use keelson_network::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    logging::init(&flags.logging);
    runtime::main("keelson-network", runtime::WORKERS_FEW, |shutdown| {
        keelson_network::run::run(flags, shutdown)
    })
}
