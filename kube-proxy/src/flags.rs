//! kube-proxy's flags, upstream's names.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;

/// Makes services' addresses work on this node.
#[derive(Parser, Clone, Debug)]
#[command(name = "kube-proxy", version = keelson_base::version::FULL)]
pub struct Flags {
    /// The path to the configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to kubeconfig file with authorization information. In-cluster where absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name; the host's name where absent.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Which proxy mode to use; only nftables is implemented.
    #[arg(long, default_value = "nftables", value_parser = ["nftables"])]
    pub proxy_mode: String,
    /// The CIDR range of the pods in the cluster; two, comma-separated, for dual stack.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Overrides the node's address where node ports are served on the primary one.
    #[arg(long)]
    pub bind_address: Option<std::net::IpAddr>,
    /// The address and port for the health check server; empty disables it.
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// The address and port for the metrics server; empty disables it.
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Ranges of the addresses that serve node ports; `primary` (the default) is the node's own address.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Masquerade all traffic sent to service cluster IPs.
    #[arg(long)]
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading.
    #[arg(long = "nftables-masquerade-bit", alias = "iptables-masquerade-bit", default_value_t = 14,
          value_parser = clap::value_parser!(u32).range(0..32))]
    pub masquerade_bit: u32,
    /// The shortest time between two changes of the rules, e.g. 1s.
    #[arg(long = "nftables-min-sync-period", default_value = "50ms")]
    pub min_sync_period: String,
    /// Maximum number of NAT connections to track per CPU core (0 to leave the limit as it is).
    #[arg(long, default_value_t = 32768)]
    pub conntrack_max_per_core: u32,
    /// Minimum number of conntrack entries to allocate.
    #[arg(long, default_value_t = 131_072)]
    pub conntrack_min: u32,
    /// Idle timeout for established TCP connections (0s to leave it as it is).
    #[arg(long, default_value = "24h")]
    pub conntrack_tcp_timeout_established: String,
    /// NAT timeout for TCP connections in the CLOSE_WAIT state (0s to leave it as it is).
    #[arg(long, default_value = "1h")]
    pub conntrack_tcp_timeout_close_wait: String,
    /// Remove the rules and end.
    #[arg(long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}

/// An address to listen on; `None` is nowhere.
pub fn listen_address(text: &str, default_port: u16) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(ip) = text.parse() {
        return Ok(Some(SocketAddr::new(ip, default_port)));
    }
    text.parse()
        .map(Some)
        .map_err(|_| anyhow::anyhow!("{text:?} is not an address and port"))
}
