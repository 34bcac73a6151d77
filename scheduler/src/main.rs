//! kube-scheduler: the binary.

use std::process::ExitCode;

use clap::Parser;
use keelson_base::{logging, runtime};
use kube_scheduler::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    logging::init(&flags.logging);
    runtime::main("kube-scheduler", runtime::WORKERS_FEW, |shutdown| {
        kube_scheduler::run::run(flags, shutdown)
    })
}
