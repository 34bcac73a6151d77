//! kube-apiserver.

use std::process::ExitCode;

use clap::Parser;
use kube_apiserver::options::Options;

/// Requests allocate by the thousand, on every thread: glibc's allocator was half of a write's CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    keelson_base::logging::init(&options.logging);
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 16));
    keelson_base::runtime::main("kube-apiserver", workers, |shutdown| {
        kube_apiserver::run::run(options, shutdown)
    })
}
