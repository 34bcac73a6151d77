//! `kubeadm config`: the defaults as files, and a check of one.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{configuration, yaml};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print configuration
    #[command(subcommand)]
    Print(PrintCommand),
    /// Read a file containing the kubeadm configuration API and report any similar problems
    Validate {
        /// Path to a kubeadm configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum PrintCommand {
    /// Print default init configuration, that can be used for 'kubeadm init'
    InitDefaults,
    /// Print default join configuration, that can be used for 'kubeadm join'
    JoinDefaults,
}

/// Runs the command.
pub fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Print(PrintCommand::InitDefaults) => print!("{}", documents(&init_defaults())),
        ConfigCommand::Print(PrintCommand::JoinDefaults) => print!("{}", documents(&[join_defaults()])),
        ConfigCommand::Validate { config } => {
            configuration::read(Some(config))?;
            println!("ok");
        }
    }
    Ok(())
}

fn documents(all: &[Value]) -> String {
    all.iter().map(yaml::render).collect::<Vec<_>>().join("---\n")
}

/// The values upstream shows where there is no default: an address and a token to replace.
fn init_defaults() -> [Value; 2] {
    let version = "kubeadm.k8s.io/v1beta4";
    [
        json!({
            "apiVersion": version, "kind": "InitConfiguration",
            "bootstrapTokens": [{
                "groups": [crate::objects::NODE_TOKEN_GROUP], "token": "abcdef.0123456789abcdef", "ttl": "24h0m0s",
                "usages": ["signing", "authentication"],
            }],
            "localAPIEndpoint": {"advertiseAddress": "1.2.3.4", "bindPort": 6443},
            "nodeRegistration": {"criSocket": "unix:///run/containerd/containerd.sock", "name": "node"},
        }),
        json!({
            "apiVersion": version, "kind": "ClusterConfiguration",
            "apiServer": {}, "controllerManager": {}, "scheduler": {}, "etcd": {"local": {}},
            "certificatesDir": "/etc/kubernetes/pki", "clusterName": "kubernetes",
            "encryptionAlgorithm": "ECDSA-P256", "kubernetesVersion": keelson_base::version::KUBERNETES,
            "networking": {"dnsDomain": "cluster.local", "podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12"},
        }),
    ]
}

fn join_defaults() -> Value {
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": "kube-apiserver:6443", "token": "abcdef.0123456789abcdef",
                "unsafeSkipCAVerification": true,
            },
            "tlsBootstrapToken": "abcdef.0123456789abcdef",
        },
        "nodeRegistration": {"criSocket": "unix:///run/containerd/containerd.sock", "name": "node"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_defaults_are_accepted() {
        let all = configuration::parse(&documents(&init_defaults())).unwrap();
        assert_eq!(all.init.local_api_endpoint.bind_port, Some(6443));
        let all = configuration::parse(&documents(&[join_defaults()])).unwrap();
        assert!(all.join.discovery.bootstrap_token.unsafe_skip_ca_verification);
    }
}
