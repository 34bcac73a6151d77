//! Cluster DNS' Service and the rights of the node components.

use super::wait::super_admin;
use super::{Init, say};
use crate::objects;

/// Runs the phase.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    let client = super_admin(init).await?;
    objects::ensure(&client, &objects::dns_service(&init.settings)?).await?;
    for rule in objects::component_rules() {
        objects::ensure(&client, &rule).await?;
    }
    say("addons", "Applied essential addon: cluster DNS");
    say("addons", "Applied essential addon: kube-proxy");
    Ok(())
}
