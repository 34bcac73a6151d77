//! What the cluster itself remembers: its configuration, its administrators, how machines join.

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::wait::super_admin;
use super::{Init, say};
use crate::objects;
use crate::pki::spki_hash;
use crate::token;

/// Stores the configuration and binds the administrators.
pub async fn config(init: &Init) -> anyhow::Result<()> {
    let client = super_admin(init).await?;
    objects::ensure(&client, &objects::admins()).await?;
    say(
        "upload-config",
        "Storing the configuration used in ConfigMap \"kubeadm-config\" in the \"kube-system\" Namespace",
    );
    objects::ensure(&client, &objects::kubeadm_config(&init.settings)).await?;
    let kubelet = objects::kubelet_configuration(&init.settings)?;
    say(
        "kubelet",
        "Creating a ConfigMap \"kubelet-config\" in namespace kube-system with the configuration for the kubelets in \
         the cluster",
    );
    objects::ensure(&client, &objects::kubelet_config_map(&kubelet)).await
}

/// Labels and taints the node as one of the control plane.
pub async fn mark(init: &Init) -> anyhow::Result<()> {
    let name = init.settings.node_name.as_str();
    say(
        "mark-control-plane",
        format!(
            "Marking the node {name} as control-plane by adding the labels: [node-role.kubernetes.io/control-plane \
             node.kubernetes.io/exclude-from-external-load-balancers]"
        ),
    );
    say(
        "mark-control-plane",
        format!(
            "Marking the node {name} as control-plane by adding the taints \
             [node-role.kubernetes.io/control-plane:NoSchedule]"
        ),
    );
    let nodes: Api<Node> = Api::all(super_admin(init).await?);
    wait_for_node(&nodes, name).await?;
    let labels = json!({
        "node-role.kubernetes.io/control-plane": "",
        "node.kubernetes.io/exclude-from-external-load-balancers": "",
    });
    let taint = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
    let patch = json!({"metadata": {"labels": labels}, "spec": {"taints": taint}});
    let patched = nodes
        .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    patched.map(drop).with_context(|| format!("mark node {name}"))
}

/// Waits for the kubelet to register the node.
pub async fn wait_for_node(nodes: &Api<Node>, name: &str) -> anyhow::Result<()> {
    let registered =
        kube::runtime::wait::await_condition(nodes.clone(), name, |node: Option<&Node>| node.is_some());
    let limit = std::time::Duration::from_secs(240);
    tokio::time::timeout(limit, registered)
        .await
        .with_context(|| {
            format!(
                "node {name} is not registered after {} s: see the kubelet's log",
                limit.as_secs()
            )
        })?
        .with_context(|| format!("watch node {name}"))?;
    Ok(())
}

/// A token, the rules for joining machines, and the public `cluster-info`.
pub async fn bootstrap(init: &Init) -> anyhow::Result<()> {
    let client = super_admin(init).await?;
    if !init.hide_token {
        say("bootstrap-token", format!("Using token: {}", init.token.reveal()));
    }
    say(
        "bootstrap-token",
        "Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles",
    );
    objects::ensure(
        &client,
        &token::secret_object(&init.token, &init.terms, jiff::Timestamp::now()),
    )
    .await?;
    for rule in objects::bootstrap_rules()
        .iter()
        .chain(&objects::cluster_info_rules())
    {
        objects::ensure(&client, rule).await?;
    }
    for allowed in [
        "Node Bootstrap tokens to get nodes",
        "Node Bootstrap tokens to post CSRs in order for nodes to get long term certificate credentials",
        "the csrapprover controller automatically approve CSRs from a Node Bootstrap Token",
        "certificate rotation for all node client certificates in the cluster",
    ] {
        say(
            "bootstrap-token",
            format!("Configured RBAC rules to allow {allowed}"),
        );
    }
    say(
        "bootstrap-token",
        "Creating the \"cluster-info\" ConfigMap in the \"kube-public\" namespace",
    );
    let ca =
        std::fs::read_to_string(init.settings.layout.pki_file("ca.crt")).context("read the cluster's CA")?;
    objects::ensure(&client, &objects::cluster_info(&init.settings, &ca)).await
}

/// Prints what to type on the next machine.
pub async fn show_join(init: &Init) -> anyhow::Result<()> {
    let shown = if init.hide_token {
        "<value withheld>".to_owned()
    } else {
        init.token.reveal()
    };
    let (conf, endpoint) = (init.settings.layout.conf("admin"), init.settings.endpoint());
    let join = join_command(&endpoint, &shown, &init.settings.layout.pki_file("ca.crt"))?;
    let conf = conf.display();
    println!(
        "\nYour Kubernetes control-plane has initialized successfully!\n\n\
         To start using your cluster, you need to run the following as a regular user:\n\n  \
         mkdir -p $HOME/.kube\n  sudo cp -i {conf} $HOME/.kube/config\n  \
         sudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
         Alternatively, if you are the root user, you can run:\n\n  export KUBECONFIG={conf}\n\n\
         Then you can join any number of worker nodes by running the following on each as root:\n\n{}",
        join.replace(" --discovery", " \\\n\t--discovery")
    );
    Ok(())
}

/// `kubeadm join ...` with the token and the CA's pin.
pub fn join_command(endpoint: &str, token: &str, ca: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?;
    let hash = spki_hash(pem::parse(text).context("parse the cluster's CA")?.contents())?;
    Ok(format!(
        "kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {hash} "
    ))
}
