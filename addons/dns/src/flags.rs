//! cluster-dns' flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;

/// Answers names of services and pods.
#[derive(Parser, Clone, Debug)]
#[command(name = "cluster-dns", version = keelson_base::version::FULL)]
pub struct Flags {
    /// Path to a kubeconfig. In-cluster where absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of this node; the host's name where absent.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// The address of this node: listened on, and published as an endpoint of the kube-dns Service.
    #[arg(long, env = "NODE_IP")]
    pub node_ip: IpAddr,
    /// The port for UDP and TCP.
    #[arg(long, default_value_t = 53)]
    pub port: u16,
    /// Further addresses to listen on.
    #[arg(long)]
    pub listen_address: Vec<SocketAddr>,
    /// The port for health and metrics; 0 to not serve them.
    #[arg(long, default_value_t = 9153)]
    pub metrics_port: u16,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The address of the kube-dns Service, which is created if it is not there.
    #[arg(long, default_value = "10.96.0.10")]
    pub cluster_dns: IpAddr,
    /// Where the node's resolvers are listed.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Clients that are answered.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,::1/128,fc00::/7,fe80::/10"
    )]
    pub allow_from: Vec<IpNet>,
    /// Do not write the Service and the EndpointSlice.
    #[arg(long)]
    pub no_publish: bool,
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}
