//! kube-scheduler's flags, upstream's names.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Assigns pods to nodes.
#[derive(Parser, Clone, Debug)]
#[command(name = "kube-scheduler", version = keelson_base::version::FULL)]
pub struct Flags {
    /// The path to the configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to kubeconfig file with authorization and master location information. In-cluster where absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The IP address on which to listen for the --secure-port port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS; 0 to not serve at all.
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    /// File containing the x509 certificate for HTTPS. A self-signed one is made where absent.
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File containing the x509 private key matching --tls-cert-file.
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Start a leader election client and gain leadership before scheduling.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true")]
    pub leader_elect: bool,
    /// How long a lease holds without renewal.
    #[arg(long, default_value = "15s")]
    pub leader_elect_lease_duration: String,
    /// How long the leader tries to renew before it gives up.
    #[arg(long, default_value = "10s")]
    pub leader_elect_renew_deadline: String,
    /// Pause between tries to acquire or renew.
    #[arg(long, default_value = "2s")]
    pub leader_elect_retry_period: String,
    /// The name of the lease.
    #[arg(long, default_value = "kube-scheduler")]
    pub leader_elect_resource_name: String,
    /// The namespace of the lease.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// Accepted for upstream's manifests; health and metrics are served without asking who reads them.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Accepted for upstream's manifests; health and metrics are served without asking who reads them.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}
