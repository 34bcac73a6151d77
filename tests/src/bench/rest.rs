//! Memory and CPU of a cluster's processes while nothing happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

/// The six components; other pid files are shown but not summed.
const COMPONENTS: &[&str] = &[
    "kube-store",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// Options of the rest benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory of NAME.pid files
    #[arg(long, default_value = "/var/lib/keelson/local/run")]
    run_dir: PathBuf,
    /// Seconds over which CPU is counted
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

struct Process {
    name: String,
    pid: u32,
    cpu_before_ms: u64,
}

/// Prints a table of resident memory and CPU per process and the sum of the six.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut processes = Vec::new();
    for entry in
        std::fs::read_dir(&options.run_dir).with_context(|| format!("list {}", options.run_dir.display()))?
    {
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
            cpu_before_ms: cpu_ms(pid)?,
        });
    }
    processes.sort_by(|one, other| one.name.cmp(&other.name));
    std::thread::sleep(Duration::from_secs(options.seconds));
    println!(
        "{:26}{:>10}{:>10}{:>10}{:>12}",
        "process", "RSS MiB", "anon MiB", "file MiB", "CPU ms/s"
    );
    let (mut rss_sum, mut cpu_sum) = (0.0, 0.0);
    for process in &processes {
        let (anon, file) = memory_mib(process.pid)?;
        let spent = cpu_ms(process.pid)?.saturating_sub(process.cpu_before_ms);
        // Counts of a minute fit a double exactly.
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of one minute are far below 2^52"
        )]
        let cpu = spent as f64 / options.seconds.max(1) as f64;
        println!(
            "{:26}{:>10.1}{anon:>10.1}{file:>10.1}{cpu:>12.2}",
            process.name,
            anon + file
        );
        if COMPONENTS.contains(&process.name.as_str()) {
            rss_sum += anon + file;
            cpu_sum += cpu;
        }
    }
    println!(
        "{:26}{rss_sum:>10.1}{:>10}{:>10}{cpu_sum:>12.2}",
        "the six together", "", ""
    );
    Ok(())
}

/// User and system time so far, from the scheduler's own count (nanoseconds), summed over threads.
fn cpu_ms(pid: u32) -> anyhow::Result<u64> {
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
    Ok(nanos / 1_000_000)
}

/// Anonymous and file-backed resident memory.
fn memory_mib(pid: u32) -> anyhow::Result<(f64, f64)> {
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
