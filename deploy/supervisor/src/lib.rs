//! Runs the systemd units of a node on a host without systemd.
//!
//! `start` puts itself in the background, starts every unit of a directory, restarts what ends, and writes
//! `NAME.pid` and `NAME.log`; `stop` ends them all in reverse order. It understands of unit files what ours use:
//! ExecStart, After, Type, Restart, RestartSec, KillMode, TimeoutStopSec. Left out: everything else of systemd.
//!
//! One thread, no timers while nothing happens: it sleeps in `poll` on signals and readiness messages.

mod daemon;
mod events;
mod unit_file;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "keelson-supervisor",
    version,
    about = "Runs the units of a node on a host without systemd"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start all units in the background and return once they run.
    Start(Start),
    /// Stop all units and the supervisor.
    Stop {
        /// Directory of pid files.
        #[arg(long)]
        run_dir: PathBuf,
    },
}

/// Flags of `start`.
#[derive(clap::Args, Clone, Debug)]
pub struct Start {
    /// Directory of NAME.service files.
    #[arg(long)]
    pub units: PathBuf,
    /// Directory of pid files and of the readiness socket.
    #[arg(long)]
    pub run_dir: PathBuf,
    /// Directory of log files.
    #[arg(long)]
    pub log_dir: PathBuf,
    /// Stay in the foreground.
    #[arg(long)]
    pub foreground: bool,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Start(start) => daemon::start(&start),
        Command::Stop { run_dir } => daemon::stop(&run_dir),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson-supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
