//! Who runs the units: systemd, our supervisor, or nobody (the files alone are wanted).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::layout::Layout;
use crate::pki::write_public;
use crate::units::{Unit, render};

/// The service manager of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceManager {
    /// systemd, by `systemctl`.
    Systemd,
    /// `keelson-supervisor`, which reads the same unit files.
    Supervisor,
    /// Units are written, nothing is started.
    None,
}

impl ServiceManager {
    /// systemd where it runs, the supervisor elsewhere.
    pub fn detect() -> Self {
        if std::path::Path::new("/run/systemd/system").is_dir() {
            Self::Systemd
        } else {
            Self::Supervisor
        }
    }
}

/// Writes the units' files.
pub fn write(layout: &Layout, units: &[Unit]) -> anyhow::Result<()> {
    units
        .iter()
        .try_for_each(|unit| write_public(&unit_file(layout, unit.name), &render(unit)))
}

fn unit_file(layout: &Layout, name: &str) -> PathBuf {
    layout.units().join(format!("{name}.service"))
}

/// Starts units, now and at every boot.
pub fn start(manager: ServiceManager, layout: &Layout, units: &[Unit]) -> anyhow::Result<()> {
    match manager {
        ServiceManager::None => Ok(()),
        ServiceManager::Systemd => {
            systemctl(&["daemon-reload"])?;
            let mut arguments = vec!["enable", "--now", "--no-block"];
            arguments.extend(units.iter().map(|unit| unit.name));
            systemctl(&arguments)?;
            // What was running before must take up the new files.
            let mut restart = vec!["restart", "--no-block"];
            restart.extend(units.iter().map(|unit| unit.name));
            systemctl(&restart)
        }
        ServiceManager::Supervisor => supervise(layout),
    }
}

/// Stops units and forgets them.
pub fn remove(manager: ServiceManager, layout: &Layout, names: &[&str]) -> anyhow::Result<()> {
    let present: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| unit_file(layout, name).exists())
        .collect();
    match manager {
        ServiceManager::Systemd if !present.is_empty() => {
            let mut arguments = vec!["disable", "--now"];
            arguments.extend(&present);
            systemctl(&arguments)?;
        }
        ServiceManager::Supervisor => stop_supervisor(layout)?,
        _ => {}
    }
    for name in &present {
        let file = unit_file(layout, name);
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    if manager == ServiceManager::Systemd && !present.is_empty() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(())
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .context("run systemctl")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("systemctl {} failed: {}", arguments.join(" "), why.trim());
    }
    Ok(())
}

/// The supervisor's own pid file.
fn supervisor_pid(layout: &Layout) -> Option<i32> {
    std::fs::read_to_string(layout.run().join("supervisor.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A running supervisor takes up changed files at SIGHUP; otherwise one is started.
fn supervise(layout: &Layout) -> anyhow::Result<()> {
    let binary = crate::layout::bin_dir()
        .context("find our own directory")?
        .join("keelson-supervisor");
    let status = Command::new(&binary)
        .arg("start")
        .arg(format!("--units={}", layout.units().display()))
        .arg(format!("--run-dir={}", layout.run().display()))
        .arg(format!("--log-dir={}", layout.log().display()))
        .status()
        .with_context(|| format!("run {}", binary.display()))?;
    if !status.success() {
        bail!(
            "{} did not start: see {}",
            binary.display(),
            layout.log().join("supervisor.log").display()
        );
    }
    Ok(())
}

fn stop_supervisor(layout: &Layout) -> anyhow::Result<()> {
    if supervisor_pid(layout).is_none() {
        return Ok(());
    }
    let binary = crate::layout::bin_dir()
        .context("find our own directory")?
        .join("keelson-supervisor");
    let status = Command::new(&binary)
        .arg("stop")
        .arg(format!("--run-dir={}", layout.run().display()))
        .status()
        .with_context(|| format!("run {}", binary.display()))?;
    if !status.success() {
        bail!("{} could not stop the node's services", binary.display());
    }
    Ok(())
}
