//! KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1): the file given with `--config`. As upstream, a file
//! replaces the flags, except the node's name. Unknown fields are refused.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::flags::Flags;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    client_connection: ClientConnection,
    #[serde(default)]
    hostname_override: String,
    #[serde(default)]
    mode: String,
    #[serde(default, rename = "clusterCIDR")]
    cluster_cidr: String,
    #[serde(default)]
    bind_address: String,
    healthz_bind_address: Option<String>,
    metrics_bind_address: Option<String>,
    node_port_addresses: Option<Vec<String>>,
    #[serde(default)]
    nftables: Nftables,
    #[serde(default)]
    conntrack: Conntrack,
    /// Parts of other modes and of logging, which do nothing here.
    #[serde(flatten)]
    _foreign: Foreign,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClientConnection {
    kubeconfig: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Nftables {
    masquerade_bit: Option<u32>,
    masquerade_all: bool,
    min_sync_period: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conntrack {
    max_per_core: Option<u32>,
    min: Option<u32>,
    tcp_established_timeout: Option<String>,
    tcp_close_wait_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Foreign {
    #[serde(default, rename = "iptables")]
    _iptables: serde_json::Value,
    #[serde(default, rename = "ipvs")]
    _ipvs: serde_json::Value,
    #[serde(default, rename = "winkernel")]
    _winkernel: serde_json::Value,
    #[serde(default, rename = "logging")]
    _logging: serde_json::Value,
    #[serde(default, rename = "featureGates")]
    _feature_gates: serde_json::Value,
    #[serde(default, rename = "detectLocal")]
    _detect_local: serde_json::Value,
    #[serde(default, rename = "detectLocalMode")]
    _detect_local_mode: serde_json::Value,
    #[serde(default, rename = "configSyncPeriod")]
    _config_sync_period: serde_json::Value,
    #[serde(default, rename = "enableProfiling")]
    _enable_profiling: serde_json::Value,
    #[serde(default, rename = "oomScoreAdj")]
    _oom_score_adj: serde_json::Value,
    #[serde(default, rename = "portRange")]
    _port_range: serde_json::Value,
    #[serde(default, rename = "showHiddenMetricsForVersion")]
    _show_hidden_metrics: serde_json::Value,
    #[serde(default, rename = "bindAddressHardFail")]
    _bind_address_hard_fail: serde_json::Value,
}

/// The flags with a file's values in their place.
pub fn with_file(flags: Flags) -> Result<Flags> {
    let Some(path) = flags.config.clone() else {
        return Ok(flags);
    };
    let read = |path: &Path| -> Result<File> { Ok(serde_yaml::from_str(&std::fs::read_to_string(path)?)?) };
    let file = read(&path).with_context(|| format!("cannot use the configuration {}", path.display()))?;
    apply(flags, file).with_context(|| format!("configuration {}", path.display()))
}

fn apply(mut flags: Flags, file: File) -> Result<Flags> {
    if file.kind != "KubeProxyConfiguration" || file.api_version != "kubeproxy.config.k8s.io/v1alpha1" {
        bail!(
            "no kind {:?} is registered for version {:?}",
            file.kind,
            file.api_version
        );
    }
    if !matches!(file.mode.as_str(), "" | "nftables") {
        bail!(
            "mode: Unsupported value: {:?}: supported values: \"nftables\"",
            file.mode
        );
    }
    if !file.client_connection.kubeconfig.is_empty() {
        flags.kubeconfig = Some(file.client_connection.kubeconfig.into());
    }
    if flags.hostname_override.is_none() && !file.hostname_override.is_empty() {
        flags.hostname_override = Some(file.hostname_override);
    }
    if !file.cluster_cidr.is_empty() {
        let cidrs = file
            .cluster_cidr
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>();
        flags.cluster_cidr = cidrs.context("clusterCIDR")?;
    }
    if !matches!(file.bind_address.as_str(), "" | "0.0.0.0" | "::") {
        flags.bind_address = Some(file.bind_address.parse().context("bindAddress")?);
    }
    set(&mut flags.healthz_bind_address, file.healthz_bind_address);
    set(&mut flags.metrics_bind_address, file.metrics_bind_address);
    set(&mut flags.nodeport_addresses, file.node_port_addresses);
    set(&mut flags.masquerade_bit, file.nftables.masquerade_bit);
    flags.masquerade_all |= file.nftables.masquerade_all;
    set(
        &mut flags.min_sync_period,
        file.nftables.min_sync_period.filter(|p| p != "0s"),
    );
    set(&mut flags.conntrack_max_per_core, file.conntrack.max_per_core);
    set(&mut flags.conntrack_min, file.conntrack.min);
    set(
        &mut flags.conntrack_tcp_timeout_established,
        file.conntrack.tcp_established_timeout,
    );
    set(
        &mut flags.conntrack_tcp_timeout_close_wait,
        file.conntrack.tcp_close_wait_timeout,
    );
    Ok(flags)
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn load(rest: &str) -> Result<Flags> {
        let text =
            format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{rest}");
        apply(Flags::parse_from(["kube-proxy"]), serde_yaml::from_str(&text)?)
    }

    #[test]
    fn a_file_replaces_flags() {
        let flags = load(
            "mode: nftables\nclusterCIDR: 10.1.0.0/16,fd00::/48\nnftables: {masqueradeBit: 5}\nconntrack: {min: 7}\n\
             iptables: {syncPeriod: 30s}\nconfigSyncPeriod: 15m0s\nhealthzBindAddress: 127.0.0.1:1\n",
        )
        .unwrap();
        assert_eq!(
            (
                flags.cluster_cidr.len(),
                flags.masquerade_bit,
                flags.conntrack_min
            ),
            (2, 5, 7)
        );
        assert_eq!(flags.healthz_bind_address, "127.0.0.1:1");
    }

    #[test]
    fn other_modes_and_kinds_are_refused() {
        assert!(load("mode: ipvs\n").is_err());
        assert!(load("clusterCIDR: nonsense\n").is_err());
    }
}
