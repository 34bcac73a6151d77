//! `kubeadm join`: makes this machine a worker. Nothing is left behind where it fails.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use keelson_client::connect;
use kube::api::Api;
use serde_json::Value;

use crate::configuration::overlay;
use crate::discovery::{Cluster, discover};
use crate::kubeconfig::with_token;
use crate::phases::{preflight, say};
use crate::pki::{write_public, write_secret};
use crate::services::ServiceManager;
use crate::settings::Settings;
use crate::token::Token;
use crate::units::Unit;
use crate::{objects, reset, services, units, yaml};

/// How long the kubelet may take to get its certificate.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(300);

/// What `join` was asked for.
pub struct Join {
    pub endpoint: String,
    pub discovery_token: Token,
    pub tls_bootstrap_token: Token,
    pub pins: Vec<String>,
    pub settings: Settings,
    pub manager: ServiceManager,
    pub ignore_preflight_errors: Vec<String>,
}

/// Joins; what was written is removed again where a step fails.
pub async fn run(join: &Join) -> anyhow::Result<()> {
    say("preflight", "Running pre-flight checks");
    let layout = &join.settings.layout;
    let mut errors = preflight::common(layout, &join.settings.cri_socket);
    errors.extend(preflight::port_free(10250));
    let files = [
        layout.conf("kubelet"),
        layout.conf("bootstrap-kubelet"),
        layout.pki_file("ca.crt"),
    ];
    errors.extend(files.iter().filter_map(|file| preflight::file_available(file)));
    preflight::report(errors, &join.ignore_preflight_errors).context("error execution phase preflight")?;
    let cluster = discover(&join.endpoint, &join.discovery_token, &join.pins)
        .await
        .context("error execution phase preflight: couldn't validate the identity of the API Server")?;
    let outcome = join_cluster(join, &cluster).await;
    if outcome.is_err() {
        reset::remove_node(join.manager, layout)?;
    }
    outcome
}

async fn join_cluster(join: &Join, cluster: &Cluster) -> anyhow::Result<()> {
    let layout = &join.settings.layout;
    let token = join.tls_bootstrap_token.reveal();
    let bootstrap = layout.conf("bootstrap-kubelet");
    write_public(&layout.pki_file("ca.crt"), &cluster.ca_pem)?;
    write_secret(
        &bootstrap,
        &with_token(
            &cluster.server,
            &cluster.ca_pem,
            "tls-bootstrap-token-user",
            &token,
        ),
    )?;
    let client = connect(Some(bootstrap.as_path()), "kubeadm")
        .await
        .context("use the bootstrap token")?;
    say(
        "preflight",
        "Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"...",
    );
    say(
        "preflight",
        "Use 'kubeadm init phase upload-config kubeadm --config your-config-file' to re-upload it.",
    );
    let mut settings = join.settings.clone();
    read_cluster_configuration(&client, &mut settings).await?;
    refuse_taken_name(&client, &settings.node_name).await?;
    let kubelet = kubelet_configuration(&client, &settings).await?;
    say(
        "kubelet-start",
        format!(
            "Writing kubelet configuration to file {:?}",
            config_file(&settings).display().to_string()
        ),
    );
    write_public(&config_file(&settings), &kubelet)?;
    // The others use the kubeconfig that the kubelet obtains.
    let (first, others): (Vec<Unit>, Vec<Unit>) = units::worker(&settings)
        .into_iter()
        .partition(|unit| matches!(unit.name, "containerd" | "kubelet"));
    services::write(layout, &first)?;
    say("kubelet-start", "Starting the kubelet");
    services::start(join.manager, layout, &first)?;
    wait_for_certificate(&settings).await?;
    services::write(layout, &others)?;
    services::start(join.manager, layout, &others)?;
    std::fs::remove_file(&bootstrap).with_context(|| format!("remove {}", bootstrap.display()))?;
    let own = connect(Some(layout.conf("kubelet").as_path()), "kubeadm")
        .await
        .context("use the kubelet's kubeconfig")?;
    crate::phases::upload::wait_for_node(&Api::<Node>::all(own), &settings.node_name).await?;
    println!(
        "\nThis node has joined the cluster:\n* Certificate signing request was sent to apiserver and a response was \
         received.\n* The Kubelet was informed of the new secure connection details.\n\n\
         Run 'kubectl get nodes' on the control-plane to see this node join the cluster.\n"
    );
    Ok(())
}

fn config_file(settings: &Settings) -> PathBuf {
    settings.layout.kubelet().join("config.yaml")
}

async fn config_map_text(client: &kube::Client, name: &str, key: &str) -> anyhow::Result<Value> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let found = api
        .get(name)
        .await
        .with_context(|| format!("read ConfigMap {name}: is the bootstrap token expired or deleted?"))?;
    let text = found.data.and_then(|mut data| data.remove(key));
    let text = text.with_context(|| format!("ConfigMap {name} has no key {key}"))?;
    serde_yaml::from_str(&text).with_context(|| format!("parse {key} of ConfigMap {name}"))
}

async fn read_cluster_configuration(client: &kube::Client, settings: &mut Settings) -> anyhow::Result<()> {
    let configuration = config_map_text(client, "kubeadm-config", "ClusterConfiguration").await?;
    let networking = &configuration["networking"];
    let take = |key: &str, into: &mut String| {
        if let Some(text) = networking[key].as_str() {
            text.clone_into(into);
        }
    };
    take("dnsDomain", &mut settings.dns_domain);
    take("podSubnet", &mut settings.pod_cidr);
    take("serviceSubnet", &mut settings.service_cidr);
    Ok(())
}

/// Two machines of one name would fight over one Node.
async fn refuse_taken_name(client: &kube::Client, name: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let Some(node) = nodes
        .get_opt(name)
        .await
        .context("look for a node of this name")?
    else {
        return Ok(());
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    if conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    {
        bail!(
            "a Node with name {name:?} and status \"Ready\" already exists in the cluster. You must delete the \
             existing Node or change the name of this new joining Node"
        );
    }
    Ok(())
}

/// The cluster's kubelet configuration with this machine's own paths.
async fn kubelet_configuration(client: &kube::Client, settings: &Settings) -> anyhow::Result<String> {
    let mut configuration = config_map_text(client, "kubelet-config", "kubelet").await?;
    let own = objects::kubelet_configuration(settings)?;
    for key in ["podLogsDir", "staticPodPath"] {
        configuration[key] = own[key].clone();
    }
    configuration["authentication"]["x509"] = own["authentication"]["x509"].clone();
    overlay(&mut configuration, &settings.kubelet_overrides);
    Ok(yaml::render(&configuration))
}

/// The kubelet writes its kubeconfig once its signing request is approved and signed.
async fn wait_for_certificate(settings: &Settings) -> anyhow::Result<()> {
    say(
        "kubelet-start",
        "Waiting for the kubelet to perform the TLS Bootstrap",
    );
    let file = settings.layout.conf("kubelet");
    let began = Instant::now();
    while !file.exists() {
        if began.elapsed() > BOOTSTRAP_LIMIT {
            bail!(
                "the kubelet got no certificate within {} s: see its log, and 'kubectl get csr' on the control plane",
                BOOTSTRAP_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
