//! Who runs the units: systemd, our supervisor, or nobody (the files alone are wanted).

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::layout::Layout;
use crate::pki::write_public;
use crate::units::{Unit, render};

/// How long services may take to end: the longest `TimeoutStopSec` of all, one after another.
const END_LIMIT: Duration = Duration::from_secs(120);

/// How long a process without supervisor may take to end.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);

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

    /// Where a unit's log is to be read.
    pub fn log_of(self, layout: &Layout, unit: &str) -> String {
        match self {
            Self::Systemd => format!("'journalctl -xeu {unit}'"),
            Self::Supervisor | Self::None => layout.log().join(format!("{unit}.log")).display().to_string(),
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
            let names = || units.iter().map(|unit| unit.name);
            systemctl(&["enable"].into_iter().chain(names()).collect::<Vec<_>>())?;
            // What was running before must take up the new files.
            systemctl(
                &["restart", "--no-block"]
                    .into_iter()
                    .chain(names())
                    .collect::<Vec<_>>(),
            )
        }
        ServiceManager::Supervisor => supervise(layout),
    }
}

fn present<'a>(layout: &Layout, names: &[&'a str]) -> Vec<&'a str> {
    let exists = |name: &&str| unit_file(layout, name).exists();
    names.iter().copied().filter(exists).collect()
}

/// Stops units for good; the runtime goes on, since it is needed to remove pods.
pub fn stop(manager: ServiceManager, layout: &Layout, names: &[&str]) -> anyhow::Result<()> {
    let present = present(layout, names);
    if present.is_empty() {
        return Ok(());
    }
    match manager {
        ServiceManager::None => Ok(()),
        ServiceManager::Systemd => {
            let mut arguments = vec!["disable", "--now"];
            arguments.extend(&present);
            systemctl(&arguments)
        }
        ServiceManager::Supervisor => {
            if !supervisor_runs(layout) {
                end_orphans(layout)?;
            }
            remove_files(layout, &present)?;
            // What is left is the runtime, which runs on, or is started if it had ended.
            supervise(layout)?;
            wait_for_ends(layout, &present)
        }
    }
}

/// Whether this node has a container runtime of its own, which the supervisor runs.
pub fn supervises_runtime(layout: &Layout) -> bool {
    layout.is_local() && unit_file(layout, "containerd").exists()
}

/// Processes whose supervisor was killed: it would not know them.
fn end_orphans(layout: &Layout) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(layout.run()) else {
        return Ok(());
    };
    for file in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = file
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".pid"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        if let Ok(pid) = text.trim().parse() {
            end_orphan(name, pid)?;
        }
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}

/// Ends a process if it still is the one of that name: the number may have been given to another.
fn end_orphan(name: &str, pid: u32) -> anyhow::Result<()> {
    let is_it = || {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command
            .split('\0')
            .next()
            .is_some_and(|program| program.ends_with(&format!("/{name}")))
    };
    let signal = |how: &str| {
        let status = Command::new("kill").args([how, &pid.to_string()]).status();
        status.map(drop).context("run kill")
    };
    let began = Instant::now();
    let mut how = "-TERM";
    while is_it() {
        if began.elapsed() > ORPHAN_LIMIT {
            how = "-KILL";
        }
        signal(how)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Forgets units that were stopped.
pub fn remove(manager: ServiceManager, layout: &Layout, names: &[&str]) -> anyhow::Result<()> {
    stop(manager, layout, names)?;
    let present = present(layout, names);
    remove_files(layout, &present)?;
    match manager {
        ServiceManager::Systemd if !present.is_empty() => systemctl(&["daemon-reload"]),
        ServiceManager::Supervisor => stop_supervisor(layout),
        _ => Ok(()),
    }
}

fn remove_files(layout: &Layout, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        let file = unit_file(layout, name);
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}

/// Waits until processes that the supervisor was told to end have ended: their pid files are gone then.
fn wait_for_ends(layout: &Layout, names: &[&str]) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let running = |name: &&&str| layout.run().join(format!("{name}.pid")).exists();
        let left: Vec<&str> = names.iter().filter(running).copied().collect();
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > END_LIMIT {
            bail!("{} did not end within {} s", left.join(", "), END_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// Whether the supervisor of this directory runs. One that was killed and is not yet reaped still has its number but no
/// command line, and a number may have been given to another process.
fn supervisor_runs(layout: &Layout) -> bool {
    let run_dir = layout.run().display().to_string();
    let command = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
    supervisor_pid(layout)
        .and_then(command)
        .is_some_and(|command| command.contains("keelson-supervisor") && command.contains(&run_dir))
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
