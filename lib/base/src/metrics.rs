//! The process's metrics, exposed as Prometheus text.
//!
//! A thin face on `prometheus-client`: what it adds is the content type, the process's own figures, and one place
//! to change the exposition.

use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Metric, Registry as Inner};

/// Content type of what `render` gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics of one process; clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    /// Guards registration against rendering; held for the length of either, never across an await.
    inner: Arc<Mutex<Inner>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// Adds a metric; counters get `_total` appended when rendered.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.lock().register(name, help, metric);
    }

    /// Everything, as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.lock()).is_err() {
            tracing::error!("a metric cannot be written as text");
        }
        let own = process_figures();
        match text.strip_suffix("# EOF\n") {
            Some(body) => format!("{body}{own}# EOF\n"),
            None => text + &own,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// `process_*` as the Go client exposes them, read when asked for.
fn process_figures() -> String {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return String::new();
    };
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return String::new();
    };
    let fields: Vec<f64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // Fields count from the state, the third of proc(5): utime 11, stime 12, rss 21 (pages of 4 KiB, ticks of 10 ms).
    let (Some(user), Some(system), Some(pages)) = (fields.get(11), fields.get(12), fields.get(21)) else {
        return String::new();
    };
    format!(
        "# HELP process_cpu_seconds Total user and system CPU time spent in seconds.\n\
         # TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total {}\n\
         # HELP process_resident_memory_bytes Resident memory size in bytes.\n\
         # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n",
        (user + system) / 100.0,
        pages * 4096.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_counter_shows_its_value_before_the_end_mark() {
        let registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("requests", "Requests served.", counter.clone());
        counter.inc();
        let text = registry.render();
        assert!(text.contains("requests_total 1\n"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
