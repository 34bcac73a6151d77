//! `kubeadm certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::certs;
use crate::layout::Layout;

#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Check certificates expiration for a Kubernetes cluster
    CheckExpiration(Place),
    /// Renew certificates for a Kubernetes cluster
    Renew {
        /// Name as check-expiration shows it, or 'all'
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the certificates are.
#[derive(Args, Debug)]
pub struct Place {
    /// The path where the certificates are stored.
    #[arg(long)]
    cert_dir: Option<PathBuf>,
    /// Directory of a node whose files lie below one directory.
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(command: &CertsCommand) -> anyhow::Result<()> {
    let layout = |place: &Place| Layout::new(place.state_dir.clone(), place.cert_dir.clone());
    match command {
        CertsCommand::CheckExpiration(place) => {
            print!(
                "{}",
                certs::render_expiration(&layout(place), jiff::Timestamp::now())?
            );
            Ok(())
        }
        CertsCommand::Renew { name, place } => certs::renew(&layout(place), name),
    }
}
