//! The command line: upstream's commands and flags, a file per command.

mod certs;
mod config;
mod init;
mod join;
mod node;
mod reset;
mod token;
mod version;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use jiff::SignedDuration;

use crate::phases::preflight::Refused;

/// kubeadm: easily bootstrap a secure Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "kubeadm", version = keelson_base::version::FULL)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Number for the log level verbosity.
    #[arg(short = 'v', long = "v", global = true, default_value_t = 0)]
    verbosity: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this command in order to set up the Kubernetes control plane
    Init(Box<init::InitArgs>),
    /// Run this on any machine you wish to join an existing cluster
    Join(Box<join::JoinArgs>),
    /// Manage bootstrap tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Commands related to handling Kubernetes certificates
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Print and check configuration files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Performs a best effort revert of changes made to this host by 'kubeadm init' or 'kubeadm join'
    Reset(reset::ResetArgs),
    /// Print the version of kubeadm
    Version(version::VersionArgs),
}

/// Runs the command: 0 on success, else the reason on standard error and upstream's code.
pub fn run(cli: Cli) -> ExitCode {
    keelson_base::logging::init(&keelson_base::logging::Options {
        verbosity: cli.verbosity,
        ..Default::default()
    });
    keelson_base::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => Err(error).context("start the async runtime"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 1, or 2 where checks before the work refused it.
fn exit_code(error: &anyhow::Error) -> u8 {
    let refused = error.chain().any(|cause| cause.is::<Refused>());
    if refused { Refused::EXIT_CODE } else { 1 }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(*args).await,
        Command::Join(args) => join::run(*args).await,
        Command::Token(command) => token::run(command).await,
        Command::Certs(command) => certs::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Reset(args) => reset::run(&args).await,
        Command::Version(args) => version::run(&args),
    }
}

/// `24h`, `1h30m`, `45s`, `0`.
fn go_duration(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    text.parse()
        .map_err(|_| format!("time: invalid duration {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn refused_checks_have_a_code_of_their_own() {
        let failure = crate::phases::preflight::Failure::new("Port-6443", "Port 6443 is in use");
        let refused = crate::phases::preflight::report(vec![failure], &[]);
        let refused = refused.context("error execution phase preflight").unwrap_err();
        assert_eq!((exit_code(&refused), exit_code(&anyhow::anyhow!("else"))), (2, 1));
    }

    #[test]
    fn the_lines_we_print_and_others_write_down_parse() {
        for line in [
            "kubeadm join 192.0.2.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00",
            "kubeadm join --config join.yaml",
            "kubeadm init --pod-network-cidr 10.244.0.0/16 --apiserver-advertise-address=192.0.2.1 --upload-certs=false",
            "kubeadm init --config init.yaml --ignore-preflight-errors=all",
            "kubeadm init phase certs",
            "kubeadm token create --print-join-command --ttl 0",
            "kubeadm token list -o json",
            "kubeadm certs renew apiserver",
            "kubeadm config print init-defaults",
            "kubeadm reset -f --v=5",
            "kubeadm version -o short",
        ] {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
