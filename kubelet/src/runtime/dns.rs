//! The resolver configuration of a pod, from its policy, its own settings, the cluster's and the node's.

use crate::pod;
use k8s_openapi::api::core::v1::Pod;
use keelson_proto::cri::v1::DnsConfig;

/// Most search domains and their total length that the kernel's resolvers take.
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_NAMESERVERS: usize = 3;

/// What the kubelet was told about DNS.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    pub servers: Vec<String>,
    pub domain: String,
    /// The node's own resolv.conf, parsed.
    pub host: DnsConfig,
}

/// Reads a resolv.conf: nameservers, the last `search` line, options.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                dns.searches = words
                    .filter(|w| *w != ".")
                    .map(|w| w.trim_end_matches('.').to_owned())
                    .collect()
            }
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// The resolver configuration of the pod, and a warning when limits cut it.
pub fn of_pod(pod: &Pod, cluster: &ClusterDns) -> (DnsConfig, Option<String>) {
    let spec = pod::spec(pod);
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if pod::host_network(pod) => "Default",
        "ClusterFirst" | "ClusterFirstWithHostNet" if cluster.servers.is_empty() => "Default",
        "ClusterFirst" | "ClusterFirstWithHostNet" => "ClusterFirst",
        "None" => "None",
        _ => "Default",
    };
    let mut dns = match policy {
        "ClusterFirst" => cluster_first(pod::namespace(pod), cluster),
        "None" => DnsConfig::default(),
        _ => cluster.host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        append(&mut dns.servers, own.nameservers.iter().flatten());
        append(&mut dns.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            merge_option(
                &mut dns.options,
                option.name.as_deref().unwrap_or_default(),
                option.value.as_deref(),
            );
        }
    }
    let warning = limit(&mut dns);
    (dns, warning)
}

fn cluster_first(namespace: &str, cluster: &ClusterDns) -> DnsConfig {
    let mut searches = Vec::new();
    if !cluster.domain.is_empty() {
        let domain = &cluster.domain;
        searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
    }
    append(&mut searches, cluster.host.searches.iter());
    DnsConfig {
        servers: cluster.servers.clone(),
        searches,
        options: vec!["ndots:5".into()],
    }
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn merge_option(options: &mut Vec<String>, name: &str, value: Option<&str>) {
    options.retain(|o| o.split(':').next() != Some(name));
    options.push(match value {
        Some(value) if !value.is_empty() => format!("{name}:{value}"),
        _ => name.to_owned(),
    });
}

fn limit(dns: &mut DnsConfig) -> Option<String> {
    let mut warning = None;
    if dns.servers.len() > MAX_NAMESERVERS {
        dns.servers.truncate(MAX_NAMESERVERS);
        warning = Some(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let before = dns.searches.len();
    dns.searches.truncate(MAX_SEARCHES);
    while dns.searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS {
        dns.searches.pop();
    }
    if dns.searches.len() < before {
        warning = Some(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
    warning
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, servers: &[&str], searches: &[&str], options: &[&str]) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
        let cluster = ClusterDns {
            servers: vec!["10.96.0.10".into()],
            domain: "cluster.local".into(),
            host: parse_resolv_conf("nameserver 1.1.1.1\nsearch lan.\noptions timeout:1\n"),
        };
        let (dns, _) = of_pod(&pod, &cluster);
        assert_eq!(
            (dns.servers, dns.searches, dns.options),
            (
                servers.iter().map(|s| s.to_string()).collect(),
                searches.iter().map(|s| s.to_string()).collect(),
                options.iter().map(|s| s.to_string()).collect()
            )
        );
    }

    #[test]
    fn policies() {
        let cluster = [
            "ns.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
            "lan",
        ];
        check(json!({"containers": []}), &["10.96.0.10"], &cluster, &["ndots:5"]);
        check(
            json!({"containers": [], "hostNetwork": true}),
            &["1.1.1.1"],
            &["lan"],
            &["timeout:1"],
        );
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            &["10.96.0.10"],
            &cluster,
            &["ndots:5"],
        );
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            &["9.9.9.9"],
            &[],
            &["ndots:2", "edns0"],
        );
    }
}
