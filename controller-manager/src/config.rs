//! Flags, with upstream's names, and the configuration made from them once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgAction, Args, Parser};
use keelson_client::election;

use crate::duration;
use crate::table;

/// Runs the controllers of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(
    name = "kube-controller-manager",
    version,
    about,
    disable_help_subcommand = true
)]
pub struct Flags {
    /// Path to kubeconfig file with authorization and API server location; without it the pod's service account is used.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig with which callers of the secure port are authenticated.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig with which callers of the secure port are authorized.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Client certificates of callers of the secure port are checked against this CA.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// CA of the front proxy's client certificates.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Address of the secure port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: std::net::IpAddr,
    /// Port for /healthz and /metrics over TLS; 0 turns it off.
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    /// Certificate of the secure port; without it one is made at each start.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Name of the cluster.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// Controllers to enable: '*' is all that are on by default, 'foo' enables, '-foo' disables.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub controllers: Vec<String>,
    /// Use one service account per controller.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub use_service_account_credentials: bool,
    /// Published in every namespace as ConfigMap kube-root-ca.crt, and in service account token secrets.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// Key that signs service account tokens.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Port for profiling is not served; accepted for compatibility.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true)]
    pub profiling: bool,
    /// Requests per second to the API server; accepted for compatibility, plans are bounded otherwise.
    #[arg(long, default_value_t = 20.0)]
    pub kube_api_qps: f32,
    /// Accepted for compatibility, as --kube-api-qps.
    #[arg(long, default_value_t = 30)]
    pub kube_api_burst: i32,
    /// Feature gates as key=value pairs; unknown ones are ignored with a warning.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    #[command(flatten)]
    leader: LeaderFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    signing: SigningFlags,
    #[command(flatten)]
    node: NodeFlags,
    #[command(flatten)]
    concurrent: Concurrent,
    /// Logging.
    #[command(flatten)]
    pub logging: keelson_base::logging::Options,
}

/// Leader election.
#[derive(Debug, Args)]
struct LeaderFlags {
    /// Wait for the lease before acting.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true)]
    leader_elect: bool,
    /// How long a lease holds without renewal.
    #[arg(long, value_parser = duration::parse, default_value = "15s")]
    leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew.
    #[arg(long, value_parser = duration::parse, default_value = "10s")]
    leader_elect_renew_deadline: Duration,
    /// Pause between tries.
    #[arg(long, value_parser = duration::parse, default_value = "2s")]
    leader_elect_retry_period: Duration,
    /// Only "leases" exists.
    #[arg(long, default_value = "leases")]
    leader_elect_resource_lock: String,
    /// Name of the lease.
    #[arg(long, default_value = "kube-controller-manager")]
    leader_elect_resource_name: String,
    /// Namespace of the lease.
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
}

/// Pod and service networks.
#[derive(Debug, Args)]
struct NetworkFlags {
    /// Give each node a range of pod addresses.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    allocate_node_cidrs: bool,
    /// Range(s) of pod addresses of the cluster.
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<ipnet::IpNet>,
    /// Range(s) of service addresses.
    #[arg(long, value_delimiter = ',')]
    service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Mask size for node ranges (24 for IPv4, 64 for IPv6).
    #[arg(long)]
    node_cidr_mask_size: Option<u8>,
    /// Mask size for IPv4 node ranges.
    #[arg(long)]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// Mask size for IPv6 node ranges.
    #[arg(long)]
    node_cidr_mask_size_ipv6: Option<u8>,
    /// Only "RangeAllocator" exists.
    #[arg(long, default_value = "RangeAllocator")]
    cidr_allocator_type: String,
}

/// Certificate signing.
#[derive(Debug, Args)]
struct SigningFlags {
    /// CA certificate for all signers that have no own one.
    #[arg(long)]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_key_file: Option<PathBuf>,
    /// Longest lifetime of signed certificates.
    #[arg(long, value_parser = duration::parse, default_value = "8760h")]
    cluster_signing_duration: Duration,
    /// CA for kubernetes.io/kubelet-serving.
    #[arg(long)]
    cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    /// CA for kubernetes.io/kube-apiserver-client-kubelet.
    #[arg(long)]
    cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    /// CA for kubernetes.io/kube-apiserver-client.
    #[arg(long)]
    cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    /// CA for kubernetes.io/legacy-unknown.
    #[arg(long)]
    cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
}

/// Node lifecycle and pod garbage.
#[derive(Debug, Args)]
struct NodeFlags {
    /// How often node health is looked at without news.
    #[arg(long, value_parser = duration::parse, default_value = "5s")]
    node_monitor_period: Duration,
    /// Silence after which a node is unknown.
    #[arg(long, value_parser = duration::parse, default_value = "50s")]
    node_monitor_grace_period: Duration,
    /// Silence after which a starting node is unknown.
    #[arg(long, value_parser = duration::parse, default_value = "1m")]
    node_startup_grace_period: Duration,
    /// Nodes per second whose pods are evicted, in a healthy zone.
    #[arg(long, default_value_t = 0.1)]
    node_eviction_rate: f32,
    /// The same in an unhealthy zone.
    #[arg(long, default_value_t = 0.01)]
    secondary_node_eviction_rate: f32,
    /// Share of nodes not ready that makes a zone unhealthy.
    #[arg(long, default_value_t = 0.55)]
    unhealthy_zone_threshold: f32,
    /// Nodes from which a cluster counts as large.
    #[arg(long, default_value_t = 50)]
    large_cluster_size_threshold: i32,
    /// Terminated pods kept; 0 keeps all.
    #[arg(long, default_value_t = 12500)]
    terminated_pod_gc_threshold: i32,
}

/// Keys each controller works on at once.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "kebab-case")]
pub struct Concurrent {
    /// Deployments.
    #[arg(long = "concurrent-deployment-syncs", default_value_t = 5)]
    pub deployment_syncs: usize,
    /// ReplicaSets.
    #[arg(long = "concurrent-replicaset-syncs", default_value_t = 5)]
    pub replicaset_syncs: usize,
    /// ReplicationControllers.
    #[arg(long = "concurrent-rc-syncs", default_value_t = 5)]
    pub rc_syncs: usize,
    /// DaemonSets.
    #[arg(long = "concurrent-daemonset-syncs", default_value_t = 2)]
    pub daemonset_syncs: usize,
    /// StatefulSets.
    #[arg(long = "concurrent-statefulset-syncs", default_value_t = 5)]
    pub statefulset_syncs: usize,
    /// Jobs.
    #[arg(long = "concurrent-job-syncs", default_value_t = 5)]
    pub job_syncs: usize,
    /// CronJobs.
    #[arg(long = "concurrent-cron-job-syncs", default_value_t = 5)]
    pub cron_job_syncs: usize,
    /// Services, for Endpoints.
    #[arg(long = "concurrent-endpoint-syncs", default_value_t = 5)]
    pub endpoint_syncs: usize,
    /// Services, for EndpointSlices.
    #[arg(long = "concurrent-service-endpoint-syncs", default_value_t = 5)]
    pub service_endpoint_syncs: usize,
    /// Endpoints, for mirrored EndpointSlices.
    #[arg(long = "mirroring-concurrent-service-endpoint-syncs", default_value_t = 5)]
    pub mirroring_syncs: usize,
    /// Namespaces.
    #[arg(long = "concurrent-namespace-syncs", default_value_t = 10)]
    pub namespace_syncs: usize,
    /// Objects in garbage collection.
    #[arg(long = "concurrent-gc-syncs", default_value_t = 20)]
    pub gc_syncs: usize,
    /// ResourceQuotas.
    #[arg(long = "concurrent-resource-quota-syncs", default_value_t = 5)]
    pub resource_quota_syncs: usize,
    /// ServiceAccounts' tokens.
    #[arg(long = "concurrent-serviceaccount-token-syncs", default_value_t = 5)]
    pub serviceaccount_token_syncs: usize,
    /// Finished jobs.
    #[arg(long = "concurrent-ttl-after-finished-syncs", default_value_t = 5)]
    pub ttl_after_finished_syncs: usize,
}

/// A CA's files.
#[derive(Clone, Debug)]
pub struct SigningFiles {
    /// Certificate.
    pub cert: PathBuf,
    /// Key.
    pub key: PathBuf,
}

/// CA files per signer.
#[derive(Clone, Debug, Default)]
pub struct Signing {
    /// kubernetes.io/kubelet-serving
    pub kubelet_serving: Option<SigningFiles>,
    /// kubernetes.io/kube-apiserver-client-kubelet
    pub kubelet_client: Option<SigningFiles>,
    /// kubernetes.io/kube-apiserver-client
    pub apiserver_client: Option<SigningFiles>,
    /// kubernetes.io/legacy-unknown
    pub legacy_unknown: Option<SigningFiles>,
    /// Longest lifetime.
    pub duration: Duration,
}

/// Checked configuration.
#[derive(Debug)]
pub struct Config {
    /// `None`: in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Names from --controllers.
    pub controllers: Vec<String>,
    /// `None`: act at once.
    pub leader_election: Option<election::Config>,
    /// A service account per controller.
    pub use_service_account_credentials: bool,
    /// Content of --root-ca-file.
    pub root_ca: Option<String>,
    /// Secure port; `None` is off.
    pub listen: Option<std::net::SocketAddr>,
    /// Certificate and key of the secure port.
    pub serving: Option<(PathBuf, PathBuf)>,
    /// CA of callers.
    pub client_ca: Option<PathBuf>,
    /// Node ranges are cut from these, with these mask sizes; empty: not allocated.
    pub node_ranges: Vec<(ipnet::IpNet, u8)>,
    /// Never given to nodes.
    pub service_ranges: Vec<ipnet::IpNet>,
    /// Certificate signers.
    pub signing: Signing,
    /// See flags.
    pub node_monitor_period: Duration,
    /// See flags.
    pub node_monitor_grace_period: Duration,
    /// See flags.
    pub node_startup_grace_period: Duration,
    /// See flags.
    pub node_eviction_rate: f32,
    /// See flags.
    pub secondary_node_eviction_rate: f32,
    /// See flags.
    pub unhealthy_zone_threshold: f32,
    /// See flags.
    pub large_cluster_size_threshold: i32,
    /// See flags.
    pub terminated_pod_gc_threshold: i32,
    /// See flags.
    pub concurrent: Concurrent,
}

impl TryFrom<Flags> for Config {
    type Error = anyhow::Error;

    fn try_from(flags: Flags) -> anyhow::Result<Self> {
        table::check_names(&flags.controllers)?;
        for gate in &flags.feature_gates {
            tracing::warn!(gate, "feature gate is not known here; ignored");
        }
        let root_ca = flags.root_ca_file.as_ref().map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read --root-ca-file {}", path.display()))
        });
        let serving = match (flags.tls_cert_file, flags.tls_private_key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => bail!("--tls-cert-file and --tls-private-key-file must be given together"),
        };
        let listen = (flags.bind_address, flags.secure_port).into();
        let node = flags.node;
        Ok(Self {
            kubeconfig: flags.kubeconfig,
            controllers: flags.controllers,
            leader_election: leader_election(flags.leader)?,
            use_service_account_credentials: flags.use_service_account_credentials,
            root_ca: root_ca.transpose()?,
            listen: (flags.secure_port != 0).then_some(listen),
            serving,
            client_ca: flags.client_ca_file,
            node_ranges: node_ranges(&flags.network)?,
            service_ranges: flags.network.service_cluster_ip_range,
            signing: signing(flags.signing)?,
            node_monitor_period: node.node_monitor_period,
            node_monitor_grace_period: node.node_monitor_grace_period,
            node_startup_grace_period: node.node_startup_grace_period,
            node_eviction_rate: node.node_eviction_rate,
            secondary_node_eviction_rate: node.secondary_node_eviction_rate,
            unhealthy_zone_threshold: node.unhealthy_zone_threshold,
            large_cluster_size_threshold: node.large_cluster_size_threshold,
            terminated_pod_gc_threshold: node.terminated_pod_gc_threshold,
            concurrent: flags.concurrent,
        })
    }
}

fn leader_election(flags: LeaderFlags) -> anyhow::Result<Option<election::Config>> {
    if !flags.leader_elect {
        return Ok(None);
    }
    if flags.leader_elect_resource_lock != "leases" {
        bail!("--leader-elect-resource-lock must be \"leases\"");
    }
    let mut config = election::Config::new(
        &flags.leader_elect_resource_namespace,
        &flags.leader_elect_resource_name,
    );
    config.lease_duration = flags.leader_elect_lease_duration;
    config.renew_deadline = flags.leader_elect_renew_deadline;
    config.retry_period = flags.leader_elect_retry_period;
    if config.lease_duration <= config.renew_deadline {
        bail!("--leader-elect-lease-duration must be longer than --leader-elect-renew-deadline");
    }
    if config.renew_deadline <= config.retry_period {
        bail!("--leader-elect-renew-deadline must be longer than --leader-elect-retry-period");
    }
    Ok(Some(config))
}

fn node_ranges(flags: &NetworkFlags) -> anyhow::Result<Vec<(ipnet::IpNet, u8)>> {
    if !flags.allocate_node_cidrs {
        return Ok(Vec::new());
    }
    if flags.cidr_allocator_type != "RangeAllocator" {
        bail!("--cidr-allocator-type must be \"RangeAllocator\"");
    }
    if flags.cluster_cidr.is_empty() {
        bail!("--allocate-node-cidrs needs --cluster-cidr");
    }
    if flags.cluster_cidr.len() > 2 {
        bail!("--cluster-cidr takes one range, or one of each IP family");
    }
    let size = |range: &ipnet::IpNet| match range {
        ipnet::IpNet::V4(_) => flags
            .node_cidr_mask_size_ipv4
            .or(flags.node_cidr_mask_size)
            .unwrap_or(24),
        ipnet::IpNet::V6(_) => flags
            .node_cidr_mask_size_ipv6
            .or(flags.node_cidr_mask_size)
            .unwrap_or(64),
    };
    let mut ranges = Vec::new();
    for range in &flags.cluster_cidr {
        let size = size(range);
        if size < range.prefix_len() || size > range.max_prefix_len() || size - range.prefix_len() > 16 {
            bail!(
                "node mask size /{size} does not fit --cluster-cidr {range}: it may be up to 16 bits longer"
            );
        }
        ranges.push((range.trunc(), size));
    }
    Ok(ranges)
}

fn signing(flags: SigningFlags) -> anyhow::Result<Signing> {
    let pair = |cert: Option<PathBuf>, key: Option<PathBuf>, name: &str| match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(SigningFiles { cert, key })),
        (None, None) => Ok(None),
        _ => bail!(
            "--cluster-signing-{name}cert-file and --cluster-signing-{name}key-file must be given together"
        ),
    };
    let all = pair(
        flags.cluster_signing_cert_file,
        flags.cluster_signing_key_file,
        "",
    )?;
    let own = |own: Option<SigningFiles>| own.or_else(|| all.clone());
    Ok(Signing {
        kubelet_serving: own(pair(
            flags.cluster_signing_kubelet_serving_cert_file,
            flags.cluster_signing_kubelet_serving_key_file,
            "kubelet-serving-",
        )?),
        kubelet_client: own(pair(
            flags.cluster_signing_kubelet_client_cert_file,
            flags.cluster_signing_kubelet_client_key_file,
            "kubelet-client-",
        )?),
        apiserver_client: own(pair(
            flags.cluster_signing_kube_apiserver_client_cert_file,
            flags.cluster_signing_kube_apiserver_client_key_file,
            "kube-apiserver-client-",
        )?),
        legacy_unknown: own(pair(
            flags.cluster_signing_legacy_unknown_cert_file,
            flags.cluster_signing_legacy_unknown_key_file,
            "legacy-unknown-",
        )?),
        duration: flags.cluster_signing_duration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> anyhow::Result<Config> {
        let all = ["kube-controller-manager"]
            .into_iter()
            .chain(args.iter().copied());
        Config::try_from(Flags::try_parse_from(all)?)
    }

    #[test]
    fn kubeadms_flags_are_taken() {
        let config = parse(&[
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/c",
            "--authorization-kubeconfig=/c",
            "--bind-address=127.0.0.1",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-name=kubernetes",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--kubeconfig=/c",
            "--leader-elect=true",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ])
        .unwrap();
        assert_eq!(config.node_ranges, [("10.244.0.0/16".parse().unwrap(), 24)]);
        assert!(config.use_service_account_credentials && config.leader_election.is_some());
    }

    #[test]
    fn bad_flags_are_refused() {
        let table: [(&[&str], &str); 5] = [
            (&["--allocate-node-cidrs"], "--cluster-cidr"),
            (&["--leader-elect-lease-duration=5s"], "must be longer"),
            (&["--controllers=nosuch"], "nosuch"),
            (&["--tls-cert-file=/x"], "together"),
            (&["--node-monitor-period=5"], "invalid duration"),
        ];
        for (args, expected) in table {
            let error = format!("{:#}", parse(args).unwrap_err());
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
