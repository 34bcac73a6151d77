//! The CRI description of a pod's sandbox.

use super::{labels, resources, security};
use crate::pod;
use k8s_openapi::api::core::v1::Pod;
use keelson_proto::cri::v1::{
    DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
    PortMapping, Protocol,
};

/// Longest host name Linux takes.
const HOSTNAME_CHARS_MAX: usize = 63;

/// What the node adds to a pod's sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxSettings {
    /// Where the logs of all pods are.
    pub pod_logs_dir: String,
    /// Parent cgroup for the pod, e.g. `/kubepods/besteffort/pod<uid>`.
    pub cgroup_parent: String,
    pub dns: DnsConfig,
    pub cluster_domain: String,
    pub node_hostname: String,
}

/// Directory of a pod's logs: `<pod logs>/<namespace>_<name>_<uid>`.
pub fn log_directory(pod_logs_dir: &str, pod: &Pod) -> String {
    format!(
        "{pod_logs_dir}/{}_{}_{}",
        pod::namespace(pod),
        pod::name(pod),
        pod::uid(pod)
    )
}

/// Host name and, where the pod has a subdomain, the domain it lies in.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return (name.clone(), String::new());
    }
    let mut hostname = spec
        .hostname
        .clone()
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| {
            let name = pod::name(pod);
            name[..name.len().min(HOSTNAME_CHARS_MAX)]
                .trim_end_matches(['-', '.'])
                .to_owned()
        });
    let domain = match spec.subdomain.as_deref() {
        Some(sub) if !sub.is_empty() => format!("{sub}.{}.svc.{cluster_domain}", pod::namespace(pod)),
        _ => String::new(),
    };
    if spec.set_hostname_as_fqdn.unwrap_or(false) && !domain.is_empty() {
        hostname = format!("{hostname}.{domain}");
    }
    (hostname, domain)
}

/// The whole configuration for one attempt.
pub fn render(
    pod: &Pod,
    attempt: u32,
    settings: &SandboxSettings,
    defaults: &security::Defaults,
) -> PodSandboxConfig {
    let hostname = if pod::host_network(pod) {
        // The runtime takes the node's name for a pod on the host's network.
        String::new()
    } else {
        hostname_and_domain(pod, &settings.cluster_domain).0
    };
    let sysctls = pod::spec(pod)
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_ref());
    let limits = resources::of_pod(pod);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod::name(pod).into(),
            uid: pod::uid(pod).into(),
            namespace: pod::namespace(pod).into(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(&settings.pod_logs_dir, pod),
        dns_config: Some(settings.dns.clone()),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: settings.cgroup_parent.clone(),
            security_context: Some(security::of_sandbox(pod, defaults)),
            sysctls: sysctls
                .into_iter()
                .flatten()
                .map(|s| (s.name.clone(), s.value.clone()))
                .collect(),
            overhead: None,
            resources: Some(LinuxContainerResources {
                cpu_shares: limits.cpu_shares,
                cpu_period: 100_000,
                cpu_quota: limits.cpu_quota_us.unwrap_or(0),
                memory_limit_in_bytes: limits.memory_bytes.unwrap_or(0),
                ..LinuxContainerResources::default()
            }),
        }),
        windows: None,
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let ports = pod::containers(pod)
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|p| PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => Protocol::Udp as i32,
                Some("SCTP") => Protocol::Sctp as i32,
                _ => Protocol::Tcp as i32,
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hostnames() {
        let check = |spec: serde_json::Value, hostname: &str, domain: &str| {
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec}),
            )
            .unwrap();
            assert_eq!(
                hostname_and_domain(&pod, "cluster.local"),
                (hostname.to_owned(), domain.to_owned())
            );
        };
        check(json!({"containers": []}), "web-0", "");
        check(
            json!({"containers": [], "hostname": "h", "subdomain": "s"}),
            "h",
            "s.ns.svc.cluster.local",
        );
        check(
            json!({"containers": [], "subdomain": "s", "setHostnameAsFQDN": true}),
            "web-0.s.ns.svc.cluster.local",
            "s.ns.svc.cluster.local",
        );
    }
}
