//! `kubeadm join`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::node::{ClusterArgs, NodeArgs};
use crate::configuration;
use crate::join;
use crate::token::Token;

#[derive(Args, Debug)]
pub struct JoinArgs {
    /// HOST:PORT of the API server
    endpoint: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
    /// Path to a kubeadm configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Use this token for both discovery-token and tls-bootstrap-token when those values are not provided.
    #[arg(long)]
    token: Option<Token>,
    /// For token-based discovery, the token used to validate cluster information fetched from the API server.
    #[arg(long)]
    discovery_token: Option<Token>,
    /// Specify the token used to temporarily authenticate with the Kubernetes Control Plane while joining the node.
    #[arg(long)]
    tls_bootstrap_token: Option<Token>,
    /// For token-based discovery, validate that the root CA public key matches this hash (format: "<type>:<value>").
    #[arg(long = "discovery-token-ca-cert-hash", value_delimiter = ',')]
    pins: Vec<String>,
    /// For token-based discovery, allow joining without --discovery-token-ca-cert-hash pinning.
    #[arg(long)]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// Create a new control plane instance on this node (not supported: there is one control-plane machine).
    #[arg(long)]
    control_plane: bool,
}

/// Runs the command.
pub async fn run(args: JoinArgs) -> anyhow::Result<()> {
    if args.control_plane {
        bail!(
            "--control-plane: further control-plane machines cannot join yet; join as a worker, without the flag"
        );
    }
    let file = configuration::read(args.config.as_deref())?;
    let found = &file.join.discovery.bootstrap_token;
    let parsed = |text: &Option<String>| text.as_ref().map(|text| text.parse::<Token>()).transpose();
    let endpoint = args
        .endpoint
        .clone()
        .or_else(|| found.api_server_endpoint.clone());
    let both = args.token.clone().or(parsed(&found.token)?);
    let pins = [args.pins.clone(), found.ca_cert_hashes.clone()].concat();
    check_pins(&pins)?;
    let unsafe_skip = args.discovery_token_unsafe_skip_ca_verification || found.unsafe_skip_ca_verification;
    if pins.is_empty() && !unsafe_skip {
        bail!(
            "discovery.bootstrapToken: Invalid value: \"\": using token-based discovery without caCertHashes can be \
             unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file or pass \
             --discovery-token-unsafe-skip-ca-verification flag to continue"
        );
    }
    let no_token = "discovery: Invalid value: \"\": bootstrapToken or file must be set: give --token";
    let tls = args
        .tls_bootstrap_token
        .clone()
        .or(parsed(&file.join.discovery.tls_bootstrap_token)?);
    join::run(&join::Join {
        endpoint: endpoint.context("no API server named: write 'kubeadm join HOST:PORT ...'")?,
        discovery_token: args
            .discovery_token
            .clone()
            .or_else(|| both.clone())
            .context(no_token)?,
        tls_bootstrap_token: tls.or(both).context(no_token)?,
        pins,
        settings: args
            .node
            .settings(&ClusterArgs::default(), &file, &file.join.node_registration)?,
        manager: args.node.manager(),
        ignore_preflight_errors: args.node.ignored(&file.join.node_registration),
    })
    .await
}

/// Pins are `sha256:` and 64 hex digits.
fn check_pins(pins: &[String]) -> anyhow::Result<()> {
    for pin in pins {
        let Some((kind, value)) = pin.split_once(':') else {
            bail!("invalid public key hash {pin:?}, expected \"format:hex-value\"");
        };
        if kind != "sha256" {
            bail!("unknown hash format {kind:?}, only sha256 is supported");
        }
        if value.len() != 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!("invalid hash {pin:?}, expected a 32 byte SHA-256 hash, 64 hex digits");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_one_form() {
        assert!(check_pins(&[format!("sha256:{}", "a0".repeat(32))]).is_ok());
        for wrong in [
            "sha256:00",
            "md5:00",
            "00",
            &format!("sha256:{}", "zz".repeat(32)),
        ] {
            assert!(check_pins(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
