//! KubeletConfiguration (kubelet.config.k8s.io/v1beta1): the fields this kubelet honours, and those it accepts because
//! upstream's defaults and tools write them. An unknown field is an error.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    pub address: Option<String>,
    pub port: Option<u16>,
    pub read_only_port: Option<u16>,
    pub healthz_bind_address: Option<String>,
    pub healthz_port: Option<u16>,
    pub tls_cert_file: Option<String>,
    pub tls_private_key_file: Option<String>,
    pub rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: Option<bool>,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<String>>,
    pub resolv_conf: Option<String>,
    pub container_runtime_endpoint: Option<String>,
    pub image_service_endpoint: Option<String>,
    pub cgroup_driver: Option<String>,
    pub cgroup_root: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: Option<bool>,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: Option<bool>,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: Option<String>,
    pub max_pods: Option<usize>,
    pub pods_per_core: Option<i32>,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    pub pod_logs_dir: Option<String>,
    pub static_pod_path: Option<String>,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: Option<String>,
    pub container_log_max_size: Option<String>,
    pub container_log_max_files: Option<usize>,
    pub container_log_max_workers: Option<usize>,
    pub container_log_monitor_interval: Option<String>,
    pub node_status_update_frequency: Option<String>,
    pub node_status_report_frequency: Option<String>,
    pub node_lease_duration_seconds: Option<i32>,
    pub fail_swap_on: Option<bool>,
    pub memory_swap: Option<serde_json::Value>,
    pub register_node: Option<bool>,
    pub register_with_taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>,
    pub seccomp_default: Option<bool>,
    pub system_reserved: Option<BTreeMap<String, String>>,
    pub kube_reserved: Option<BTreeMap<String, String>>,
    pub enforce_node_allocatable: Option<Vec<String>>,
    pub event_record_qps: Option<i32>,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps_upper: Option<i32>,
    pub event_burst: Option<i32>,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: Option<i32>,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: Option<i32>,
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<i32>,
    pub registry_pull_qps: Option<i32>,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps_upper: Option<i32>,
    pub registry_burst: Option<i32>,
    pub sync_frequency: Option<String>,
    pub file_check_frequency: Option<String>,
    pub http_check_frequency: Option<String>,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: Option<i32>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: Option<i32>,
    pub volume_stats_agg_period: Option<String>,
    pub runtime_request_timeout: Option<String>,
    pub streaming_connection_idle_timeout: Option<String>,
    pub shutdown_grace_period: Option<String>,
    pub shutdown_grace_period_critical_pods: Option<String>,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub eviction_soft: Option<BTreeMap<String, String>>,
    pub eviction_pressure_transition_period: Option<String>,
    pub eviction_minimum_reclaim: Option<BTreeMap<String, String>>,
    pub cpu_manager_policy: Option<String>,
    pub cpu_manager_reconcile_period: Option<String>,
    pub memory_manager_policy: Option<String>,
    pub topology_manager_policy: Option<String>,
    pub hairpin_mode: Option<String>,
    pub make_ip_tables_util_chains: Option<bool>,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: Option<bool>,
    pub feature_gates: BTreeMap<String, bool>,
    pub logging: Option<serde_json::Value>,
    pub protect_kernel_defaults: Option<bool>,
    pub enable_controller_attach_detach: Option<bool>,
    pub enable_debugging_handlers: Option<bool>,
    pub enable_server: Option<bool>,
    pub content_type: Option<String>,
    pub max_open_files: Option<i64>,
    pub oom_score_adj: Option<i32>,
    pub crash_loop_back_off: Option<CrashLoopBackOff>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: WebhookAuthentication,
    pub anonymous: Anonymous,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookAuthentication {
    pub enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anonymous {
    pub enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authorization {
    pub mode: Option<String>,
    pub webhook: WebhookAuthorization,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: Option<String>,
}

/// Reads the file's text.
pub fn parse(text: &str) -> Result<KubeletConfiguration, String> {
    let config: KubeletConfiguration = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    if config.api_version != "kubelet.config.k8s.io/v1beta1" || config.kind != "KubeletConfiguration" {
        return Err(format!(
            "no kind \"{}\" is registered for version \"{}\": want KubeletConfiguration of kubelet.config.k8s.io/v1beta1",
            config.kind, config.api_version
        ));
    }
    Ok(config)
}

/// A Go duration (`10s`, `5m`, `1h30m`); zero counts as unset, as upstream's defaulting does.
pub fn duration(field: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    let invalid = || format!("{field}: invalid duration {text:?}");
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() && rest != "0" {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        let tail = &rest[digits..];
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        total += number
            * match &tail[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = &tail[unit..];
    }
    Ok((total > 0.0).then(|| Duration::from_secs_f64(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let good = parse(&format!(
            "{head}clusterDNS: [10.96.0.10]\nauthentication: {{x509: {{clientCAFile: /ca}}}}\n"
        ));
        assert_eq!(good.unwrap().cluster_dns.unwrap(), ["10.96.0.10"]);
        assert!(
            parse(&format!("{head}nonsense: 1\n"))
                .unwrap_err()
                .contains("unknown field `nonsense`")
        );
        assert!(parse("kind: Other\n").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(
            duration("f", Some("1m30s")).unwrap(),
            Some(Duration::from_secs(90))
        );
        assert_eq!(duration("f", Some("0s")).unwrap(), None);
        assert!(duration("f", Some("5x")).is_err());
    }
}
