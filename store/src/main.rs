//! The kube-store binary: etcd's flags, and the commands `verify` and `restore`.

use std::process::ExitCode;

use keelson_base::error::chain;
use kube_store::config::Config;
use kube_store::flags::{Command, FlagError, parse};
use kube_store::service::maintenance::ETCD_VERSION;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that serve requests, beside the member's and the keeper's.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let (cli, ignored) = match parse(std::env::args()) {
        Ok(parsed) => parsed,
        Err(FlagError::Clap(error)) => error.exit(),
        Err(error) => return fail(&error),
    };
    if cli.flags.version {
        println!(
            "etcd Version: {ETCD_VERSION}\nkube-store Version: {}",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::SUCCESS;
    }
    keelson_base::logging::init(&keelson_base::logging::Options::default());
    if !ignored.is_empty() {
        tracing::warn!(
            flags = ignored.join(" "),
            "these flags of etcd have no meaning here"
        );
    }
    if let Some(Command::Verify { dir }) = &cli.command {
        let outcome = kube_store::verify::verify(&kube_store::run::data_dir(dir));
        return outcome.map_or_else(|error| fail(error.as_ref()), |()| ExitCode::SUCCESS);
    }
    let config = match Config::try_from(cli.flags) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if let Some(Command::Restore {
        file,
        skip_hash_check,
    }) = &cli.command
    {
        let outcome = kube_store::restore::restore(&config, file, *skip_hash_check);
        return outcome.map_or_else(|error| fail(error.as_ref()), |()| ExitCode::SUCCESS);
    }
    keelson_base::runtime::main("kube-store", WORKERS, |shutdown| {
        kube_store::run::run(config, shutdown)
    })
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kube-store: {}", chain(error));
    ExitCode::FAILURE
}
