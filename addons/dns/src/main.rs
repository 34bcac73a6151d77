//! cluster-dns: the binary.

use std::process::ExitCode;

use clap::Parser;
use cluster_dns::flags::Flags;
use keelson_base::{logging, runtime};

fn main() -> ExitCode {
    let flags = Flags::parse();
    logging::init(&flags.logging);
    runtime::main("cluster-dns", runtime::WORKERS_FEW, |shutdown| {
        cluster_dns::run::run(flags, shutdown)
    })
}
