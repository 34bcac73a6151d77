//! The configuration file of `--config`: documents of `kubeadm.k8s.io/v1beta4` and one `KubeletConfiguration`.
//!
//! Only fields that are carried out are known; any other is refused by name, so that no file is half obeyed. Flags
//! that are given besides the file win over it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";
const KUBELET_API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// Bytes of a file read at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All documents of a file.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub init: InitConfiguration,
    pub cluster: ClusterConfiguration,
    pub join: JoinConfiguration,
    /// Overrides of what kubelets start from.
    pub kubelet: Option<Value>,
}

/// What `kubeadm init` does on this machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct InitConfiguration {
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: LocalApiEndpoint,
    pub node_registration: NodeRegistration,
    pub bootstrap_tokens: Vec<BootstrapToken>,
    pub skip_phases: Vec<String>,
}

/// Where this machine's API server listens.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalApiEndpoint {
    pub advertise_address: Option<std::net::IpAddr>,
    pub bind_port: Option<u16>,
}

/// This machine as a node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeRegistration {
    pub name: Option<String>,
    pub cri_socket: Option<String>,
    pub kubelet_extra_args: Vec<Arg>,
    pub ignore_preflight_errors: Vec<String>,
}

/// A token to create at `init`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BootstrapToken {
    pub token: Option<String>,
    pub ttl: Option<String>,
    pub description: Option<String>,
    pub usages: Option<Vec<String>>,
    pub groups: Option<Vec<String>>,
}

/// What the cluster is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterConfiguration {
    pub kubernetes_version: Option<String>,
    pub cluster_name: Option<String>,
    pub control_plane_endpoint: Option<String>,
    pub certificates_dir: Option<PathBuf>,
    pub encryption_algorithm: Option<String>,
    pub networking: Networking,
    pub api_server: ApiServer,
    pub controller_manager: Component,
    pub scheduler: Component,
    pub etcd: Etcd,
}

/// Address ranges and names.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Networking {
    pub dns_domain: Option<String>,
    pub pod_subnet: Option<String>,
    pub service_subnet: Option<String>,
}

/// Flags added to a component's own.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Component {
    pub extra_args: Vec<Arg>,
}

/// The API server's flags and names.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiServer {
    pub extra_args: Vec<Arg>,
    #[serde(rename = "certSANs")]
    pub cert_sans: Vec<String>,
}

/// The store; only one on this machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Etcd {
    pub local: Component,
}

/// `--name=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Arg {
    pub name: String,
    pub value: String,
}

/// What `kubeadm join` does on this machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JoinConfiguration {
    pub discovery: Discovery,
    pub node_registration: NodeRegistration,
}

/// How the cluster is found and trusted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Discovery {
    pub bootstrap_token: BootstrapTokenDiscovery,
    pub tls_bootstrap_token: Option<String>,
}

/// By token and CA pin.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BootstrapTokenDiscovery {
    pub token: Option<String>,
    pub api_server_endpoint: Option<String>,
    pub ca_cert_hashes: Vec<String>,
    #[serde(rename = "unsafeSkipCAVerification")]
    pub unsafe_skip_ca_verification: bool,
}

/// Reads a file; none is an empty configuration.
pub fn read(path: Option<&Path>) -> anyhow::Result<Configuration> {
    let Some(path) = path else {
        return Ok(Configuration::default());
    };
    let context = || format!("read the configuration file {}", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    if length > FILE_BYTES_MAX {
        bail!(
            "{} has {length} bytes; at most {FILE_BYTES_MAX} are read",
            path.display()
        );
    }
    parse(&std::fs::read_to_string(path).with_context(context)?)
        .with_context(|| format!("configuration file {}", path.display()))
}

/// Takes the documents apart.
pub fn parse(text: &str) -> anyhow::Result<Configuration> {
    let mut all = Configuration::default();
    for document in serde_yaml::Deserializer::from_str(text) {
        let mut value = Value::deserialize(document).context("not YAML")?;
        if value.is_null() {
            continue;
        }
        let mut take = |key: &str| {
            let taken = value.as_object_mut().and_then(|fields| fields.remove(key));
            taken
                .and_then(|text| text.as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let (api_version, kind) = (take("apiVersion"), take("kind"));
        let what = || format!("{kind} of {api_version}");
        match (api_version.as_str(), kind.as_str()) {
            (API_VERSION, "InitConfiguration") => {
                all.init = serde_json::from_value(value).with_context(what)?
            }
            (API_VERSION, "ClusterConfiguration") => {
                all.cluster = serde_json::from_value(value).with_context(what)?
            }
            (API_VERSION, "JoinConfiguration") => {
                all.join = serde_json::from_value(value).with_context(what)?
            }
            (KUBELET_API_VERSION, "KubeletConfiguration") => all.kubelet = Some(value),
            _ => bail!(
                "no kind {kind:?} of {api_version:?} is known: write InitConfiguration, ClusterConfiguration or \
                 JoinConfiguration of {API_VERSION}, or KubeletConfiguration of {KUBELET_API_VERSION}"
            ),
        }
    }
    check(&all.cluster)?;
    Ok(all)
}

/// What can only have one value.
fn check(cluster: &ClusterConfiguration) -> anyhow::Result<()> {
    let minor = keelson_base::version::KUBERNETES
        .rsplit_once('.')
        .map_or("", |(minor, _)| minor);
    if let Some(version) = &cluster.kubernetes_version
        && !format!("{version}.").starts_with(&format!("{minor}."))
    {
        bail!("kubernetesVersion {version}: this kubeadm makes clusters of {minor} only");
    }
    if let Some(algorithm) = &cluster.encryption_algorithm
        && algorithm != "ECDSA-P256"
    {
        bail!(
            "encryptionAlgorithm {algorithm}: keys are ECDSA-P256; put keys of another kind into the certificates' directory beforehand"
        );
    }
    if let Some(name) = &cluster.cluster_name
        && name != "kubernetes"
    {
        bail!("clusterName {name}: it is kubernetes");
    }
    Ok(())
}

/// A command line with the extra arguments: one of the same name replaces ours.
pub fn with_extra_args(mut flags: Vec<String>, extra: &[Arg]) -> Vec<String> {
    for Arg { name, value } in extra {
        let start = format!("--{name}=");
        flags.retain(|flag| !flag.starts_with(&start));
        flags.push(format!("{start}{value}"));
    }
    flags
}

/// Lays the fields of `over` over `base`, objects within objects.
pub fn overlay(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => base.clone_from(over),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_taken_apart() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.2\n\
                    networking: {podSubnet: 10.9.0.0/16}\napiServer: {certSANs: [a.example]}\n\
                    controllerManager: {extraArgs: [{name: node-monitor-grace-period, value: 20s}]}\n---\n\
                    apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\n";
        let all = parse(text).unwrap();
        assert_eq!(all.cluster.networking.pod_subnet.as_deref(), Some("10.9.0.0/16"));
        assert_eq!(all.cluster.controller_manager.extra_args[0].value, "20s");
        assert_eq!(all.kubelet, Some(json!({"maxPods": 7})));
    }

    #[test]
    fn what_would_not_be_obeyed_is_refused() {
        let refused = |text: &str| format!("{:#}", parse(text).unwrap_err());
        let cluster = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";
        assert!(
            refused(&format!("{cluster}featureGates: {{A: true}}\n"))
                .contains("unknown field `featureGates`")
        );
        assert!(refused(&format!("{cluster}kubernetesVersion: v1.30.1\n")).contains("v1.36 only"));
        assert!(refused(&format!("{cluster}encryptionAlgorithm: RSA-2048\n")).contains("ECDSA-P256"));
        assert!(refused("apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\n").contains("v1beta3"));
        assert!(refused("a: [").contains("not YAML"));
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "\n".repeat(FILE_BYTES_MAX as usize)).unwrap();
        assert!(read(Some(&path)).is_ok());
        std::fs::write(&path, "\n".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(read(Some(&path)).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn extra_arguments_replace_ours() {
        let extra = [Arg {
            name: "v".into(),
            value: "4".into(),
        }];
        assert_eq!(
            with_extra_args(vec!["--v=2".into(), "--vmodule=x".into()], &extra),
            ["--vmodule=x", "--v=4"]
        );
    }

    #[test]
    fn overlays_go_into_objects() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        overlay(&mut base, &json!({"a": {"b": 3}, "d": [2], "e": 4}));
        assert_eq!(base, json!({"a": {"b": 3, "c": 2}, "d": [2], "e": 4}));
    }
}
