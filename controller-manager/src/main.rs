//! The kube-controller-manager binary: flags, logging, exit code.

use std::process::ExitCode;

use clap::Parser;
use keelson_base::runtime::WORKERS_FEW;
use kube_controller_manager::{COMPONENT, Flags};

fn main() -> ExitCode {
    let flags = Flags::parse();
    keelson_base::logging::init(&flags.logging);
    keelson_base::runtime::main(COMPONENT, WORKERS_FEW, |shutdown| {
        kube_controller_manager::run(flags, shutdown)
    })
}
