//! CPU and memory of the processes under test, from /proc.

use anyhow::Context;

use crate::bench::processes::memory_mib;

/// The processes watched; those that are not given are left out of what is shown.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    pub server: Option<u32>,
    pub store: Option<u32>,
}

/// CPU milliseconds so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub server: Option<u64>,
    pub store: Option<u64>,
    pub own: u64,
}

impl Processes {
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        Ok(Cpu {
            server: self.server.map(cpu_ms).transpose()?,
            store: self.store.map(cpu_ms).transpose()?,
            own: cpu_ms(std::process::id())?,
        })
    }

    /// Resident memory of the server, anonymous and file-backed, in MiB.
    pub fn memory(&self) -> anyhow::Result<Option<(f64, f64)>> {
        self.server.map(memory_mib).transpose()
    }

    pub fn memory_line(&self) -> anyhow::Result<String> {
        let show = |name: &str, pid: Option<u32>| -> anyhow::Result<String> {
            let Some(pid) = pid else {
                return Ok(String::new());
            };
            let (anon, file) = memory_mib(pid)?;
            Ok(format!(
                "{name}: resident {:.0} MiB (anonymous {anon:.0}, file {file:.0})  ",
                anon + file
            ))
        };
        let server = show("API server", self.server)?;
        let store = show("store", self.store)?;
        Ok(format!("{server}{store}").trim_end().to_owned())
    }
}

impl Cpu {
    /// What was spent since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let spent = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            server: spent(self.server, before.server),
            store: spent(self.store, before.store),
            own: self.own.saturating_sub(before.own),
        }
    }
}

/// Milliseconds per operation, or a dash.
pub fn per(spent: Option<u64>, operations: usize) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds and operations of one run are far below 2^52"
    )]
    spent.map_or_else(
        || "-".to_owned(),
        |ms| format!("{:.3}", ms as f64 / operations.max(1) as f64),
    )
}

/// User and system time of a process and of its threads that ended; the kernel counts it in ticks of 10 ms.
fn cpu_ms(pid: u32) -> anyhow::Result<u64> {
    const MS_PER_TICK: u64 = 10;
    let path = format!("/proc/{pid}/stat");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {path}: is the process gone?"))?;
    // The name stands in parentheses and may hold spaces; utime and stime are the 12th and 13th after it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next().and_then(|time| time.parse::<u64>().ok());
    let (user, system) = next()
        .zip(next())
        .with_context(|| format!("{path} has no times"))?;
    Ok((user + system) * MS_PER_TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_can_be_read() {
        let before = cpu_ms(std::process::id()).unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(10) {
            if cpu_ms(std::process::id()).unwrap() > before {
                return;
            }
        }
        panic!("ten seconds of work cost no time");
    }

    #[test]
    fn a_figure_that_was_not_taken_is_a_dash() {
        assert_eq!(per(None, 3), "-");
        assert_eq!(per(Some(30), 20), "1.500");
    }
}
