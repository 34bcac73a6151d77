//! kubeadm: the binary.

use clap::Parser;

fn main() -> std::process::ExitCode {
    kubeadm::cli::run(kubeadm::cli::Cli::parse())
}
