//! kubelet: the binary.

use clap::Parser;
use kubelet::{config::Config, flags::Flags, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = Flags::parse();
    keelson_base::logging::init(&flags.logging);
    let config = match Config::try_from(&flags) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(error, "invalid configuration");
            return ExitCode::FAILURE;
        }
    };
    keelson_base::runtime::main("kubelet", keelson_base::runtime::WORKERS_FEW, |shutdown| {
        run::run(config, shutdown)
    })
}
