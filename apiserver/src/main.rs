//! kube-apiserver.

use std::process::ExitCode;

use clap::Parser;
use kube_apiserver::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    keelson_base::logging::init(&options.logging);
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 16));
    keelson_base::runtime::main("kube-apiserver", workers, |shutdown| {
        kube_apiserver::run::run(options, shutdown)
    })
}
