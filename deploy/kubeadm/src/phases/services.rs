//! The node's services: configuration files, units, start.

use super::{Init, say};
use crate::pki::write_public;
use crate::{objects, services, units, yaml};

/// Runs the phase.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    let settings = &init.settings;
    let configuration = objects::kubelet_configuration(settings)?;
    write_public(
        &settings.layout.kubelet().join("config.yaml"),
        &yaml::render(&configuration),
    )?;
    let units = units::control_plane(settings);
    services::write(&settings.layout, &units)?;
    say(
        "control-plane",
        format!(
            "Wrote {} units to {}",
            units.len(),
            settings.layout.units().display()
        ),
    );
    services::start(init.manager, &settings.layout, &units)?;
    say("control-plane", "Started the units");
    Ok(())
}
