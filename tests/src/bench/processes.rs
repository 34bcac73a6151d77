//! What the processes of a cluster on this machine spend, read from their pid files and /proc.

use std::path::Path;

use anyhow::Context;

/// The six components; other pid files are shown but not summed.
pub const COMPONENTS: &[&str] = &[
    "kube-store",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// A process known by its pid file.
#[derive(Clone, Debug)]
pub struct Process {
    /// Name of the pid file.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

/// The processes of a directory of NAME.pid files, by name.
pub fn list(run_dir: &Path) -> anyhow::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir(run_dir).with_context(|| format!("list {}", run_dir.display()))? {
        let path = entry.context("list pid files")?.path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".pid"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let pid = text
            .trim()
            .parse()
            .with_context(|| format!("parse {}", path.display()))?;
        processes.push(Process {
            name: name.to_owned(),
            pid,
        });
    }
    processes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(processes)
}

/// User and system time so far, from the scheduler's own count (nanoseconds), summed over threads.
///
/// Threads that ended are missing from it; components keep theirs.
pub fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    let mut nanos: u64 = 0;
    let tasks = format!("/proc/{pid}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| format!("list {tasks}: is the process gone?"))? {
        let stat = task.context("list threads")?.path().join("schedstat");
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        nanos += text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(nanos / 1_000)
}

/// How often a thread of the process went to sleep by itself, and so was woken, until now.
pub fn wakeups(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let sleeps = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("status")).ok()?;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse::<u64>().ok()
    };
    tasks.flatten().filter_map(sleeps).sum()
}

/// Anonymous and file-backed resident memory in MiB.
pub fn memory_mib(pid: u32) -> anyhow::Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(Path::new(&path)).with_context(|| format!("read {path}"))?;
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok((
        kib("RssAnon:") / 1024.0,
        (kib("RssFile:") + kib("RssShmem:")) / 1024.0,
    ))
}

/// Time all CPUs of the machine spent on anything but idling, in microseconds.
pub fn machine_cpu_us() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    // user nice system idle iowait irq softirq steal, in ticks of 10 ms.
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&at| ticks.get(at))
        .sum::<u64>();
    Ok(busy * 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_spent_something_and_fills_memory() {
        let own = std::process::id();
        let spin = std::time::Instant::now();
        while cpu_us(own).unwrap() == 0 {
            assert!(spin.elapsed().as_secs() < 10, "no time is counted");
        }
        assert!(memory_mib(own).unwrap().0 > 0.0);
        assert!(machine_cpu_us().unwrap() > 0);
        assert!(cpu_us(u32::MAX).is_err());
    }
}
