//! One server process: started, measured from /proc, signalled, and never left behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// The kernel's unit of CPU time in /proc; fixed for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;
/// Pause between two looks at a process that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Resident memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub anonymous: f64,
    pub file: f64,
}

/// A process that ends with this value.
pub struct Process(Child);

impl Process {
    /// Starts a program with its output in a file.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log file")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self(child))
    }

    /// CPU time of all its threads so far, ended ones included.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The command's name is in parentheses and may hold spaces; user and system time are fields 14 and 15.
        let fields = text.rsplit_once(") ").context("a stat line without a command")?.1;
        let ticks = |field: usize| {
            fields
                .split(' ')
                .nth(field - 3)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let (user, system) = (ticks(14), ticks(15));
        let ticks = user.context("no user time")? + system.context("no system time")?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Its resident memory.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let mib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.map_or(0.0, |kib| kib / 1024.0)
        };
        Ok(Memory {
            anonymous: mib("RssAnon:"),
            file: mib("RssFile:") + mib("RssShmem:"),
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).context("a process id")?);
        nix::sys::signal::kill(pid, signal).context("signal a server")
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.0.try_wait().context("look for a server's end")?.is_none() {
            if began.elapsed() > limit {
                bail!("a server has not ended within {} s", limit.as_secs());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
