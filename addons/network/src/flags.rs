//! keelson-network's flags.

use std::path::PathBuf;

use clap::Parser;
use ipnet::Ipv4Net;

/// Connects pods across nodes.
#[derive(Parser, Clone, Debug)]
#[command(name = "keelson-network", version = keelson_base::version::FULL)]
pub struct Flags {
    /// Path to a kubeconfig. In-cluster where absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of this node; the host's name where absent.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Where the container runtime reads its CNI configuration.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// All pods' addresses; traffic inside it is not masqueraded.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: Ipv4Net,
    /// Remove everything this program made, and end.
    #[arg(long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}
