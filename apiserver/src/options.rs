//! The command line, with upstream's flag names; checked once, before anything starts.
//!
//! A flag that is listed is honoured, or changes nothing here because what it tunes does not exist (said at the flag). An
//! unknown flag ends the program.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use keelson_base::logging;

/// kube-apiserver: the Kubernetes API over an etcd v3 store.
#[derive(Clone, Debug, Parser)]
#[group(id = "apiserver")]
#[command(name = "kube-apiserver", version = keelson_base::version::FULL, max_term_width = 120)]
pub struct Options {
    #[command(flatten)]
    pub logging: logging::Options,
    #[command(flatten)]
    pub store: StoreOptions,
    #[command(flatten)]
    pub serving: ServingOptions,
    #[command(flatten)]
    pub authn: AuthnOptions,
    #[command(flatten)]
    pub services: ServiceOptions,
    #[command(flatten)]
    pub kubelet: KubeletOptions,

    /// Ordered list of authorizers: AlwaysAllow, AlwaysDeny, Node, RBAC.
    #[arg(long, value_delimiter = ',', default_value = "AlwaysAllow")]
    pub authorization_mode: Vec<String>,
    /// Admission plugins enabled beside the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins disabled although they are on by default.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// Whether privileged containers are allowed; upstream's default is to allow what admission lets pass.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allow_privileged: bool,
    /// Time to live of Events.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,
    /// Requests that only read, at one time; 0 is no limit.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Requests that write, at one time; 0 is no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request that is not long-running may take.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    pub request_timeout: Duration,
    /// Taken for compatibility: priority and fairness has no separate switch here.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_priority_and_fairness: bool,
    /// Whether profiling is served; it is not built in.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub profiling: bool,
    /// Versions to serve beside the stable ones: GROUP/VERSION=true.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    /// Feature gates: NAME=true; all of them are as the release ships.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// How many API servers run; the `kubernetes` Service's endpoints are leased, so the number is not needed.
    #[arg(long, default_value_t = 1)]
    pub apiserver_count: u32,
}

/// The store.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreOptions {
    /// etcd v3 servers: scheme://host:port, comma separated.
    #[arg(long, value_delimiter = ',', required = true)]
    pub etcd_servers: Vec<String>,
    /// CA of the store's servers.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Our certificate towards the store.
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// Prefix of all keys.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Interval of compaction; 0 leaves it to others.
    #[arg(long, default_value = "5m0s", value_parser = duration)]
    pub etcd_compaction_interval: Duration,
    /// Form of stored objects; JSON is the one written here, upstream reads both.
    #[arg(long, default_value = "application/json")]
    pub storage_media_type: String,
}

/// Where and as whom we serve.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingOptions {
    /// Port of HTTPS.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Address other members of the cluster reach us at; the host's own where none is given.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Serving certificate.
    #[arg(long, required = true)]
    pub tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long, required = true)]
    pub tls_private_key_file: PathBuf,
    /// Protocol floor: VersionTLS12 or VersionTLS13.
    #[arg(long, default_value = "VersionTLS12", value_parser = ["VersionTLS12", "VersionTLS13"])]
    pub tls_min_version: String,
    /// Streams per HTTP/2 connection.
    #[arg(long, default_value_t = crate::limits::HTTP2_STREAMS_MAX)]
    pub http2_max_streams_per_connection: u32,
    /// Port of the `kubernetes` Service on every node; 0 makes it a ClusterIP alone.
    #[arg(long, default_value_t = 0)]
    pub kubernetes_service_node_port: u16,
}

/// Who may come in.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthnOptions {
    /// CA of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether requests without credentials are let in as system:anonymous.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub anonymous_auth: bool,
    /// CSV of static tokens: token,user,uid,"group1,group2".
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Whether bootstrap token Secrets authenticate.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_bootstrap_token_auth: bool,
    /// Issuers of service account tokens; the first one signs new tokens.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    /// Public keys that service account tokens verify with.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Key that signs service account tokens.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// URL of the key set in the discovery document.
    #[arg(long, default_value = "")]
    pub service_account_jwks_uri: String,
    /// Longest life of a service account token.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub service_account_max_token_expiration: Duration,
    /// Whether tokens of deleted accounts are refused; always so here.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub service_account_lookup: bool,
    /// Whether the kubelets' projected tokens live longer than asked for, as upstream's transition aid.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,
    /// Audiences of this API; the issuer where none is given.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// CA of front proxies.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names front proxies may have; empty allows all.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// Our certificate towards aggregated API servers and webhooks.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Whether aggregated API servers are reached by endpoint instead of cluster IP.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_aggregator_routing: bool,
}

/// Services.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceOptions {
    /// CIDRs of cluster IPs: one, or one per family.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24")]
    pub service_cluster_ip_range: Vec<String>,
    /// Ports of NodePort services.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
}

/// How kubelets are reached.
#[derive(Clone, Debug, clap::Args)]
pub struct KubeletOptions {
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// CA of kubelets' serving certificates; without it they are not verified, as upstream.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub kubelet_timeout: Duration,
}

/// A duration as Go writes it; never negative.
fn duration(text: &str) -> Result<Duration, String> {
    let nanos = keelson_machinery::time::parse_duration(text)?;
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| format!("{text:?} is negative"))
}

/// `low-high`, inclusive.
pub fn port_range(text: &str) -> Result<(u16, u16), String> {
    let refuse = || format!("--service-node-port-range: {text:?} is no range of ports such as 30000-32767");
    let (low, high) = match text.split_once(['-', '+']) {
        Some((low, size)) if text.contains('+') => {
            let low: u16 = low.parse().map_err(|_| refuse())?;
            let size: u16 = size.parse().map_err(|_| refuse())?;
            (low, low.checked_add(size).ok_or_else(refuse)?)
        }
        Some((low, high)) => (
            low.parse().map_err(|_| refuse())?,
            high.parse().map_err(|_| refuse())?,
        ),
        None => {
            let port = text.parse().map_err(|_| refuse())?;
            (port, port)
        }
    };
    (low > 0 && low <= high).then_some((low, high)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_command_line_is_taken_and_unknown_flags_are_not() {
        let base = [
            "kube-apiserver",
            "--etcd-servers=https://a:2379,https://b:2379",
            "--tls-cert-file=c",
            "--tls-private-key-file=k",
            "--event-ttl=1h0m0s",
            "--allow-privileged=true",
        ];
        let options = Options::try_parse_from(base).unwrap();
        assert_eq!(options.store.etcd_servers.len(), 2);
        assert_eq!(options.event_ttl, Duration::from_secs(3600));
        assert!(options.allow_privileged && options.authn.anonymous_auth);
        let unknown = base.iter().copied().chain(["--no-such-flag"]);
        assert!(Options::try_parse_from(unknown).is_err());
    }

    #[test]
    fn port_ranges() {
        for (text, want) in [
            ("30000-32767", Some((30000, 32767))),
            ("1000+10", Some((1000, 1010))),
            ("80", Some((80, 80))),
            ("9-1", None),
            ("a-b", None),
            ("", None),
        ] {
            assert_eq!(port_range(text).ok(), want, "{text}");
        }
    }
}
