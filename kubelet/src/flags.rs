//! Command-line flags, upstream's names. A flag that is given wins over the configuration file.

use clap::Parser;
use std::path::PathBuf;

/// Runs the pods bound to this node.
#[derive(Parser, Clone, Debug)]
#[command(name = "kubelet", version = keelson_base::version::FULL)]
pub struct Flags {
    /// File with the configuration (KubeletConfiguration, kubelet.config.k8s.io/v1beta1).
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Kubeconfig that says how to reach the API server.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig used to ask for a client certificate when --kubeconfig does not exist.
    #[arg(long)]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Endpoint of the container runtime, unix:///PATH.
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// Name of the node instead of the host name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Address (or a dual-stack pair) of the node.
    #[arg(long)]
    pub node_ip: Option<String>,
    /// Directory of the kubelet's files.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory of certificates the kubelet obtains or makes.
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Register the node with the API server.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub register_node: bool,
    /// Taints the node registers with, key=value:effect, comma separated.
    #[arg(long)]
    pub register_with_taints: Option<String>,
    /// Labels the node registers with, key=value, comma separated.
    #[arg(long)]
    pub node_labels: Option<String>,
    /// Ignored: the sandbox image is the runtime's.
    #[arg(long)]
    pub pod_infra_container_image: Option<String>,
    /// Directory or file of static pods.
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// Address to serve on.
    #[arg(long)]
    pub address: Option<String>,
    /// Port to serve on.
    #[arg(long)]
    pub port: Option<u16>,
    /// Read-only port; 0 is off.
    #[arg(long)]
    pub read_only_port: Option<u16>,
    /// Port of /healthz on the loopback interface; 0 is off.
    #[arg(long)]
    pub healthz_port: Option<u16>,
    /// Certificate of the server.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the server.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// CA of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Let requests without credentials in as system:anonymous.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// AlwaysAllow or Webhook.
    #[arg(long)]
    pub authorization_mode: Option<String>,
    /// Use TokenReview for bearer tokens.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub authentication_token_webhook: Option<bool>,
    /// Addresses of the cluster's DNS servers, comma separated.
    #[arg(long)]
    pub cluster_dns: Option<String>,
    /// Domain of the cluster.
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// Resolver configuration of the node.
    #[arg(long)]
    pub resolv_conf: Option<String>,
    /// cgroupfs (the only driver so far).
    #[arg(long)]
    pub cgroup_driver: Option<String>,
    /// cgroup below which the pods' cgroups are made.
    #[arg(long)]
    pub cgroup_root: Option<String>,
    /// Make a cgroup per QoS class and pod.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub cgroups_per_qos: Option<bool>,
    /// Most pods on this node.
    #[arg(long)]
    pub max_pods: Option<usize>,
    /// Directory of pod logs.
    #[arg(long)]
    pub pod_logs_dir: Option<PathBuf>,
    /// Ask for a new client certificate before the old one ends.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub rotate_certificates: Option<bool>,
    /// Refuse to run with swap on.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub fail_swap_on: Option<bool>,
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}
