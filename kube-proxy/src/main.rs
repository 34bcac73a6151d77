//! kube-proxy: the binary.

use std::process::ExitCode;

use clap::Parser;
use keelson_base::{logging, runtime};
use kube_proxy::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    logging::init(&flags.logging);
    runtime::main("kube-proxy", runtime::WORKERS_FEW, |shutdown| {
        kube_proxy::run::run(flags, shutdown)
    })
}
