//! The kubelet's settings: flags over the configuration file over upstream's defaults, checked once.

use crate::configuration::{self, KubeletConfiguration};
use crate::flags::Flags;
use crate::images::collect::Marks;
use crate::node::machine;
use crate::runtime::dns::{self, ClusterDns};
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "unix:///run/containerd/containerd.sock";
const DEFAULT_LOG_BYTES: i64 = 10 << 20;

/// Everything, typed.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub hostname: String,
    pub node_ips: Vec<String>,
    pub kubeconfig: Option<PathBuf>,
    pub bootstrap_kubeconfig: Option<PathBuf>,
    pub runtime_endpoint: String,
    pub root_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub pod_logs_dir: String,
    pub static_pods: Option<PathBuf>,
    pub register: bool,
    pub taints: Vec<Taint>,
    pub labels: BTreeMap<String, String>,
    pub server: ServerConfig,
    pub dns: ClusterDns,
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    pub cpu_cfs_quota: bool,
    pub seccomp_default: bool,
    pub max_pods: usize,
    pub pod_cidr: String,
    pub reserved: BTreeMap<String, Quantity>,
    pub status_look_every: Duration,
    pub status_report_every: Duration,
    pub lease_duration_s: i32,
    pub log_bytes_max: i64,
    pub log_files_max: usize,
    pub rotate_certificates: bool,
    pub image_marks: Marks,
}

/// The server's part.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub address: String,
    pub port: u16,
    pub read_only_port: u16,
    pub healthz_address: String,
    pub healthz_port: u16,
    pub cert: Option<(PathBuf, PathBuf)>,
    pub client_ca: Option<PathBuf>,
    pub anonymous: bool,
    pub token_webhook: bool,
    pub webhook_authorization: bool,
}

impl TryFrom<&Flags> for Config {
    type Error = String;

    fn try_from(flags: &Flags) -> Result<Self, String> {
        let file = read(flags.config.as_deref())?;
        refuse_unsupported(flags, &file)?;
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let period = |field, text: &Option<String>, default| {
            configuration::duration(field, text.as_deref())
                .map(|found| found.unwrap_or(Duration::from_secs(default)))
        };
        let node_name = node_name(flags)?;
        Ok(Config {
            hostname: node_name.clone(),
            node_name,
            node_ips: node_ips(flags.node_ip.as_deref())?,
            kubeconfig: flags.kubeconfig.clone(),
            bootstrap_kubeconfig: flags.bootstrap_kubeconfig.clone(),
            runtime_endpoint: (flags.container_runtime_endpoint.clone())
                .or(given(&file.container_runtime_endpoint))
                .unwrap_or_else(|| DEFAULT_ENDPOINT.into()),
            root_dir: flags.root_dir.clone(),
            cert_dir: flags.cert_dir.clone(),
            pod_logs_dir: (flags.pod_logs_dir.as_ref().map(|p| p.display().to_string()))
                .or(given(&file.pod_logs_dir))
                .unwrap_or_else(|| "/var/log/pods".into()),
            static_pods: (flags.pod_manifest_path.clone())
                .or(given(&file.static_pod_path).map(PathBuf::from)),
            register: flags.register_node && file.register_node.unwrap_or(true),
            taints: registered_taints(flags, &file)?,
            labels: labels(flags.node_labels.as_deref().unwrap_or_default())?,
            server: server(flags, &file),
            dns: cluster_dns(flags, &file)?,
            cgroup_root: flags
                .cgroup_root
                .clone()
                .or(given(&file.cgroup_root))
                .unwrap_or_else(|| "/".into()),
            cgroups_per_qos: flags.cgroups_per_qos.or(file.cgroups_per_qos).unwrap_or(true),
            cpu_cfs_quota: file.cpu_cfs_quota.unwrap_or(true),
            seccomp_default: file.seccomp_default.unwrap_or(false),
            max_pods: flags.max_pods.or(file.max_pods.filter(|m| *m > 0)).unwrap_or(110),
            pod_cidr: file.pod_cidr.clone().unwrap_or_default(),
            reserved: reserved(&file),
            status_look_every: period(
                "nodeStatusUpdateFrequency",
                &file.node_status_update_frequency,
                10,
            )?,
            status_report_every: period(
                "nodeStatusReportFrequency",
                &file.node_status_report_frequency,
                300,
            )?,
            lease_duration_s: file.node_lease_duration_seconds.filter(|s| *s > 0).unwrap_or(40),
            log_bytes_max: (file.container_log_max_size.clone())
                .map(|s| crate::quantity::value(&Quantity(s)))
                .filter(|b| *b > 0)
                .unwrap_or(DEFAULT_LOG_BYTES),
            image_marks: image_marks(&file)?,
            log_files_max: file.container_log_max_files.filter(|f| *f > 1).unwrap_or(5),
            rotate_certificates: flags
                .rotate_certificates
                .or(file.rotate_certificates)
                .unwrap_or(true),
        })
    }
}

fn read(path: Option<&Path>) -> Result<KubeletConfiguration, String> {
    let Some(path) = path else {
        return Ok(KubeletConfiguration::default());
    };
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
    text.and_then(|text| configuration::parse(&text))
        .map_err(|e| format!("--config {}: {e}", path.display()))
}

fn node_name(flags: &Flags) -> Result<String, String> {
    let name = flags.hostname_override.clone().unwrap_or_else(machine::hostname);
    match name.trim() {
        "" => Err("the host has no name: set --hostname-override".into()),
        name => Ok(name.to_lowercase()),
    }
}

/// Settings that would be silently wrong are errors.
fn refuse_unsupported(flags: &Flags, file: &KubeletConfiguration) -> Result<(), String> {
    let driver = flags
        .cgroup_driver
        .as_deref()
        .or(file.cgroup_driver.as_deref())
        .unwrap_or("cgroupfs");
    if driver != "cgroupfs" {
        return Err(format!(
            "cgroupDriver {driver:?} is not supported yet: use cgroupfs in the kubelet and in the runtime"
        ));
    }
    for (field, value) in [
        ("cpuManagerPolicy", &file.cpu_manager_policy),
        ("memoryManagerPolicy", &file.memory_manager_policy),
        ("topologyManagerPolicy", &file.topology_manager_policy),
    ] {
        if let Some(policy) = value
            .as_deref()
            .filter(|p| !p.is_empty() && !p.eq_ignore_ascii_case("none"))
        {
            return Err(format!("{field} {policy:?} is not supported yet: use none"));
        }
    }
    if file.static_pod_url.as_deref().is_some_and(|u| !u.is_empty()) {
        return Err("staticPodURL is not supported yet: use staticPodPath".into());
    }
    Ok(())
}

fn server(flags: &Flags, file: &KubeletConfiguration) -> ServerConfig {
    let path = |flag: &Option<PathBuf>, file: &Option<String>| {
        flag.clone()
            .or(file.clone().filter(|f| !f.is_empty()).map(PathBuf::from))
    };
    let cert = path(&flags.tls_cert_file, &file.tls_cert_file);
    let key = path(&flags.tls_private_key_file, &file.tls_private_key_file);
    let mode = flags
        .authorization_mode
        .as_deref()
        .or(file.authorization.mode.as_deref())
        .unwrap_or("Webhook");
    ServerConfig {
        address: flags
            .address
            .clone()
            .or(file.address.clone())
            .unwrap_or_else(|| "0.0.0.0".into()),
        port: flags.port.or(file.port.filter(|p| *p > 0)).unwrap_or(10250),
        read_only_port: flags.read_only_port.or(file.read_only_port).unwrap_or(0),
        healthz_address: file
            .healthz_bind_address
            .clone()
            .unwrap_or_else(|| "127.0.0.1".into()),
        healthz_port: flags.healthz_port.or(file.healthz_port).unwrap_or(10248),
        cert: cert.zip(key),
        client_ca: path(&flags.client_ca_file, &file.authentication.x509.client_ca_file),
        anonymous: flags
            .anonymous_auth
            .or(file.authentication.anonymous.enabled)
            .unwrap_or(false),
        token_webhook: flags
            .authentication_token_webhook
            .or(file.authentication.webhook.enabled)
            .unwrap_or(true),
        webhook_authorization: mode != "AlwaysAllow",
    }
}

fn cluster_dns(flags: &Flags, file: &KubeletConfiguration) -> Result<ClusterDns, String> {
    let servers = match &flags.cluster_dns {
        Some(text) => text
            .split(',')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect(),
        None => file.cluster_dns.clone().unwrap_or_default(),
    };
    for server in &servers {
        server
            .parse::<IpAddr>()
            .map_err(|_| format!("clusterDNS: {server:?} is not an IP address"))?;
    }
    let path = flags
        .resolv_conf
        .as_deref()
        .or(file.resolv_conf.as_deref())
        .unwrap_or("/etc/resolv.conf");
    let host = match path {
        "" => String::new(),
        path => std::fs::read_to_string(path).map_err(|e| format!("resolvConf {path}: {e}"))?,
    };
    Ok(ClusterDns {
        servers,
        domain: flags
            .cluster_domain
            .clone()
            .or(file.cluster_domain.clone())
            .unwrap_or_default(),
        host: dns::parse_resolv_conf(&host),
    })
}

fn reserved(file: &KubeletConfiguration) -> BTreeMap<String, Quantity> {
    let mut milli: BTreeMap<String, i64> = BTreeMap::new();
    for list in [&file.system_reserved, &file.kube_reserved] {
        for (name, amount) in list.iter().flatten() {
            *milli.entry(name.clone()).or_default() += crate::quantity::milli(&Quantity(amount.clone()));
        }
    }
    milli
        .into_iter()
        .map(|(name, milli)| (name, Quantity(format!("{milli}m"))))
        .collect()
}

fn node_ips(flag: Option<&str>) -> Result<Vec<String>, String> {
    let Some(text) = flag.filter(|t| !t.is_empty()) else {
        return Ok(machine::default_address()
            .map(|ip| ip.to_string())
            .into_iter()
            .collect());
    };
    text.split(',')
        .map(|ip| {
            ip.parse::<IpAddr>()
                .map(|ip| ip.to_string())
                .map_err(|_| format!("--node-ip {ip:?} is not an IP address"))
        })
        .collect()
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("--node-labels: {pair:?} is not key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn image_marks(file: &KubeletConfiguration) -> Result<Marks, String> {
    let percent =
        |value: Option<i32>, default| u64::try_from(value.unwrap_or(default)).ok().filter(|p| *p <= 100);
    let high = percent(file.image_gc_high_threshold_percent, 85);
    let low = percent(file.image_gc_low_threshold_percent, 80);
    match (high, low) {
        (Some(high_percent), Some(low_percent)) if low_percent < high_percent => Ok(Marks {
            high_percent,
            low_percent,
        }),
        _ => Err(
            "imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent, both from 0 to 100"
                .into(),
        ),
    }
}

fn registered_taints(flags: &Flags, file: &KubeletConfiguration) -> Result<Vec<Taint>, String> {
    match &flags.register_with_taints {
        Some(text) => taints(text),
        None => Ok(file.register_with_taints.clone().unwrap_or_default()),
    }
}

fn taints(text: &str) -> Result<Vec<Taint>, String> {
    text.split(',')
        .filter(|p| !p.is_empty())
        .map(|item| {
            let invalid = || format!("--register-with-taints: {item:?} is not key[=value]:effect");
            let (key, effect) = item.rsplit_once(':').ok_or_else(invalid)?;
            if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
                return Err(format!("--register-with-taints: invalid taint effect: {effect}"));
            }
            let (key, value) = key
                .split_once('=')
                .map_or((key, None), |(k, v)| (k, Some(v.to_owned())));
            Ok(Taint {
                key: key.into(),
                value,
                effect: effect.into(),
                time_added: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn flags_become_settings() {
        let flags = Flags::parse_from([
            "kubelet",
            "--hostname-override=N1",
            "--node-ip=10.0.0.1",
            "--node-labels=a=b,c=",
            "--resolv-conf=",
            "--register-with-taints=k=v:NoSchedule,x:NoExecute",
            "--cluster-dns=10.96.0.10",
        ]);
        let config = Config::try_from(&flags).unwrap();
        assert_eq!(config.node_name, "n1");
        assert_eq!(config.labels["a"], "b");
        assert_eq!(config.taints[1].key, "x");
        assert_eq!(config.server.port, 10250);
        let bad = Flags {
            cluster_dns: Some("nope".into()),
            ..flags
        };
        assert!(Config::try_from(&bad).unwrap_err().contains("not an IP address"));
    }
}
