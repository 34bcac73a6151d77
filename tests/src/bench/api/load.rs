//! Many operations, some at a time: how long each took, and what they cost.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::Bench;
use super::connection::Connection;
use super::cost::{Cpu, per};

/// What a run of operations took.
#[derive(Debug)]
pub struct Load {
    pub operations: usize,
    pub elapsed: Duration,
    /// In ascending order.
    pub latencies: Vec<Duration>,
    pub cpu: Cpu,
}

/// Runs `operation` for every number of `range`, `clients` at a time.
pub async fn run<F, Fut>(
    bench: &Bench,
    range: std::ops::Range<usize>,
    clients: usize,
    operation: F,
) -> anyhow::Result<Load>
where
    F: Fn(Connection, usize) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let operations = range.len();
    let before = bench.processes.cpu()?;
    let began = Instant::now();
    let mut latencies: Vec<Duration> = futures::stream::iter(range)
        .map(|number| {
            let connection = bench.connections[number % bench.connections.len()].clone();
            let running = operation(connection, number);
            async move {
                let began = Instant::now();
                running.await?;
                anyhow::Ok(began.elapsed())
            }
        })
        .buffer_unordered(clients.max(1))
        .try_collect()
        .await?;
    let elapsed = began.elapsed();
    latencies.sort_unstable();
    Ok(Load {
        operations,
        elapsed,
        latencies,
        cpu: bench.processes.cpu()?.since(&before),
    })
}

/// The value below which `percent` of an ascending sample lies.
pub fn percentile(sample: &[Duration], percent: usize) -> Duration {
    let at = (sample.len() * percent).div_ceil(100).saturating_sub(1);
    sample.get(at).copied().unwrap_or_default()
}

/// Milliseconds with two decimals.
pub fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1_000.0)
}

impl Load {
    pub fn head() -> String {
        format!(
            "{:28}{:>8}{:>10}{:>10}{:>10}{:>14}{:>14}{:>14}",
            "operation", "count", "per s", "p50 ms", "p99 ms", "server ms/op", "store ms/op", "client ms/op"
        )
    }

    pub fn row(&self, name: &str) -> String {
        #[expect(
            clippy::cast_precision_loss,
            reason = "operations of one run are far below 2^52"
        )]
        let rate = self.operations as f64 / self.elapsed.as_secs_f64();
        format!(
            "{name:28}{:>8}{rate:>10.0}{:>10}{:>10}{:>14}{:>14}{:>14}",
            self.operations,
            millis(percentile(&self.latencies, 50)),
            millis(percentile(&self.latencies, 99)),
            per(self.cpu.server, self.operations),
            per(self.cpu.store, self.operations),
            per(Some(self.cpu.own), self.operations),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let sample: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sample, 50).as_millis(), 100);
        assert_eq!(percentile(&sample, 99).as_millis(), 198);
        assert_eq!(percentile(&sample, 100).as_millis(), 200);
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
