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

/// User and system time so far of all threads, also of those that ended, by the kernel's clock of the process.
#[expect(
    unsafe_code,
    reason = "clock_gettime of another process's clock; std has no call for it"
)]
pub fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    // The kernel's number of a process's clock: the pid's complement above three bits of kind, 2 for the scheduler's
    // nanoseconds.
    let clock = (!libc::clockid_t::try_from(pid).context("a pid")? << 3) | 2;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which outlives the call.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if failed != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("read the clock of process {pid}: is it gone?"));
    }
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Ok(seconds * 1_000_000 + nanos / 1_000)
}

/// How often a thread of the process went to sleep by itself, and so was woken, until now; of threads there are.
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
        let before = cpu_us(own).unwrap();
        let began = std::time::Instant::now();
        // A thread that ends takes nothing of the count with it.
        let spin = std::thread::spawn(move || {
            while cpu_us(own).unwrap() < before + 2_000 {
                assert!(began.elapsed().as_secs() < 10, "no time is counted");
            }
        });
        spin.join().unwrap();
        assert!(cpu_us(own).unwrap() >= before + 2_000);
        assert!(memory_mib(own).unwrap().0 > 0.0);
        assert!(machine_cpu_us().unwrap() > 0);
        assert!(cpu_us(u32::MAX).is_err());
    }
}
