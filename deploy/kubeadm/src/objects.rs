//! The API objects kubeadm keeps in the cluster: upstream's names, so that tools that look for them find them.

use anyhow::Context;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::configuration::overlay;
use crate::settings::Settings;
use crate::{kubeconfig, yaml};

/// The group of joining machines, which bootstrap tokens carry.
pub const NODE_TOKEN_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Administrators by `admin.conf`: bound here, so that access can be withdrawn, unlike `system:masters`.
pub fn admins() -> Value {
    cluster_role_binding(
        "kubeadm:cluster-admins",
        "cluster-admin",
        &[("Group", "kubeadm:cluster-admins")],
    )
}

/// What joining machines read and ask for.
pub fn bootstrap_rules() -> Vec<Value> {
    let joining = [("Group", NODE_TOKEN_GROUP)];
    let readers = [("Group", NODE_TOKEN_GROUP), ("Group", "system:nodes")];
    let csr = "system:certificates.k8s.io:certificatesigningrequests";
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "kubeadm:get-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
        }),
        cluster_role_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &joining),
        cluster_role_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &joining),
        cluster_role_binding(
            "kubeadm:node-autoapprove-bootstrap",
            &format!("{csr}:nodeclient"),
            &joining,
        ),
        cluster_role_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{csr}:selfnodeclient"),
            &[("Group", "system:nodes")],
        ),
        reader_role("kubeadm:nodes-kubeadm-config", "kubeadm-config"),
        reader_binding("kubeadm:nodes-kubeadm-config", &readers),
        reader_role("kubeadm:kubelet-config", "kubelet-config"),
        reader_binding("kubeadm:kubelet-config", &readers),
    ]
}

/// What the node components of a worker need, which act as the node itself, and ours on the control plane.
pub fn component_rules() -> Vec<Value> {
    let dns = [("User", "keelson:cluster-dns"), ("Group", "system:nodes")];
    let network = [("User", "keelson:network"), ("Group", "system:nodes")];
    let group = "rbac.authorization.k8s.io";
    vec![
        cluster_role_binding(
            "kubeadm:node-proxier",
            "system:node-proxier",
            &[("Group", "system:nodes")],
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "keelson:cluster-dns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces", "pods", "nodes"], "verbs": ["list", "watch", "get"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch", "get"]},
            ],
        }),
        cluster_role_binding("keelson:cluster-dns", "keelson:cluster-dns", &dns),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "keelson:cluster-dns", "namespace": "kube-system"},
            "rules": [
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                 "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
                {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "create", "update", "patch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "keelson:cluster-dns", "namespace": "kube-system"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "keelson:cluster-dns"},
            "subjects": subjects(&dns),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "keelson:network"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}],
        }),
        cluster_role_binding("keelson:network", "keelson:network", &network),
    ]
}

/// Anyone may read the signed `cluster-info`.
pub fn cluster_info_rules() -> Vec<Value> {
    let name = "kubeadm:bootstrap-signer-clusterinfo";
    let group = "rbac.authorization.k8s.io";
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": "kube-public"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "kube-public"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": subjects(&[("User", "system:anonymous")]),
        }),
    ]
}

/// The public ConfigMap that the bootstrap signer signs for each token.
pub fn cluster_info(settings: &Settings, ca_pem: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig::cluster_only(&settings.server(), ca_pem)},
    })
}

/// How the cluster was made, for later joins and upgrades.
pub fn kubeadm_config(settings: &Settings) -> Value {
    let configuration = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
        "kubernetesVersion": keelson_base::version::KUBERNETES,
        "clusterName": "kubernetes",
        "controlPlaneEndpoint": settings.endpoint(),
        "certificatesDir": settings.layout.pki(),
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "dnsDomain": settings.dns_domain, "podSubnet": settings.pod_cidr, "serviceSubnet": settings.service_cidr,
        },
    });
    config_map(
        "kubeadm-config",
        "ClusterConfiguration",
        &yaml::render(&configuration),
    )
}

/// The kubelet's configuration that every machine of the cluster starts from.
pub fn kubelet_configuration(settings: &Settings) -> anyhow::Result<Value> {
    // A local node's images were imported: one that is removed to free space could not be pulled again.
    let image_collection_starts_percent = if settings.layout.is_local() { 100 } else { 85 };
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "imageGCHighThresholdPercent": image_collection_starts_percent,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": settings.layout.pki_file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [settings.service_address(10)?],
        "clusterDomain": settings.dns_domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "podLogsDir": settings.layout.pod_logs(),
        "rotateCertificates": true,
        "staticPodPath": settings.layout.manifests(),
    });
    overlay(&mut configuration, &settings.kubelet_overrides);
    Ok(configuration)
}

/// The same, kept in the cluster.
pub fn kubelet_config_map(configuration: &Value) -> Value {
    config_map("kubelet-config", "kubelet", &yaml::render(configuration))
}

/// The Service that pods resolve names at; its endpoints are kept by the DNS processes themselves.
pub fn dns_service(settings: &Settings) -> anyhow::Result<Value> {
    Ok(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system",
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": settings.service_address(10)?,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "metrics", "port": 9153, "protocol": "TCP"},
            ],
        },
    }))
}

fn config_map(name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"},
        "data": {key: text},
    })
}

fn subjects(of: &[(&str, &str)]) -> Value {
    let each = |(kind, name): &(&str, &str)| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    of.iter().map(each).collect()
}

fn cluster_role_binding(name: &str, role: &str, to: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects(to),
    })
}

fn reader_role(name: &str, config_map: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": "kube-system"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map], "verbs": ["get"]}],
    })
}

fn reader_binding(name: &str, to: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "kube-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": subjects(to),
    })
}

/// An API handle for the kind and namespace an object names.
pub fn api_of(client: &kube::Client, object: &Value) -> anyhow::Result<Api<DynamicObject>> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().context("an object without kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Creates an object, or merges it into the one that is there.
pub async fn ensure(client: &kube::Client, object: &Value) -> anyhow::Result<()> {
    let name = object["metadata"]["name"]
        .as_str()
        .context("an object without name")?;
    let what = || format!("write {} {name}", object["kind"].as_str().unwrap_or_default());
    let api = api_of(client, object)?;
    let typed: DynamicObject = serde_json::from_value(object.clone()).with_context(what)?;
    let refused = match api.create(&PostParams::default(), &typed).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if may_exist(status.code) => kube::Error::Api(status),
        Err(error) => return Err(error).with_context(what),
    };
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(object))
        .await
    {
        Ok(_) => Ok(()),
        // It was not there: what the creation was refused for is the reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Err(refused).with_context(what),
        Err(error) => Err(error).with_context(what),
    }
}

/// Answers to the creation of an object that may exist: a Service of a fixed address is invalid before it is a twin,
/// because the address is taken, by itself.
fn may_exist(code: u16) -> bool {
    matches!(code, 409 | 422)
}
