//! Memory and CPU of a cluster's processes while nothing happens.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::processes::{self, COMPONENTS};

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

/// What a process has used up to a moment.
#[derive(Clone, Copy)]
struct Spent {
    cpu_us: u64,
    wakeups: u64,
}

/// Prints a table of resident memory, CPU and wakeups per process and the sum of the six.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let all = processes::list(&options.run_dir)?;
    let before: Vec<Spent> = all
        .iter()
        .map(|process| spent(process.pid))
        .collect::<anyhow::Result<_>>()?;
    std::thread::sleep(Duration::from_secs(options.seconds));
    println!(
        "{:26}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "process", "RSS MiB", "anon MiB", "file MiB", "CPU ms/s", "wakeups/s"
    );
    let per_second = |count: u64| count as f64 / options.seconds.max(1) as f64;
    let mut sum = [0.0; 5];
    for (process, before) in all.iter().zip(before) {
        let (anon, file) = processes::memory_mib(process.pid)?;
        let after = spent(process.pid)?;
        let row = [
            anon + file,
            anon,
            file,
            per_second(after.cpu_us.saturating_sub(before.cpu_us)) / 1000.0,
            per_second(after.wakeups.saturating_sub(before.wakeups)),
        ];
        print_row(&process.name, row);
        if COMPONENTS.contains(&process.name.as_str()) {
            sum.iter_mut().zip(row).for_each(|(sum, one)| *sum += one);
        }
    }
    print_row("the six together", sum);
    Ok(())
}

fn print_row(name: &str, row: [f64; 5]) {
    let [rss, anon, file, cpu, wakeups] = row;
    println!("{name:26}{rss:>10.1}{anon:>10.1}{file:>10.1}{cpu:>12.2}{wakeups:>12.1}");
}

fn spent(pid: u32) -> anyhow::Result<Spent> {
    Ok(Spent {
        cpu_us: processes::cpu_us(pid)?,
        wakeups: processes::wakeups(pid),
    })
}
