//! `/metrics/resource`: what metrics-server reads.

use super::figures::{containers, label, node_cpu_seconds, node_working_set};
use super::{Answer, Server, with_type};
use crate::runtime::labels;
use http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn render(server: &Server) -> Answer {
    let stats = match containers(server).await {
        Ok(stats) => stats,
        Err(answer) => return answer,
    };
    let mut cpu = String::new();
    let mut memory = String::new();
    let mut pods: BTreeMap<(&str, &str), (f64, u64, i64)> = BTreeMap::new();
    for one in &stats {
        let (namespace, pod) = (label(one, labels::POD_NAMESPACE), label(one, labels::POD_NAME));
        let name = label(one, labels::CONTAINER_NAME);
        let (Some(c), Some(m)) = (&one.cpu, &one.memory) else {
            continue;
        };
        let seconds = c.usage_core_nano_seconds.as_ref().map_or(0, |v| v.value) as f64 / 1e9;
        let bytes = m.working_set_bytes.as_ref().map_or(0, |v| v.value);
        let at = c.timestamp / 1_000_000;
        let series = format!("{{container=\"{name}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
        // Writing to a String cannot fail.
        let _ = writeln!(cpu, "container_cpu_usage_seconds_total{series} {seconds} {at}");
        let _ = writeln!(memory, "container_memory_working_set_bytes{series} {bytes} {at}");
        let sum = pods.entry((namespace, pod)).or_default();
        *sum = (sum.0 + seconds, sum.1 + bytes, at);
    }
    let mut text = format!(
        "# TYPE container_cpu_usage_seconds_total counter\n{cpu}# TYPE container_memory_working_set_bytes gauge\n{memory}\
         # TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {}\n",
        node_cpu_seconds(),
        node_working_set(),
    );
    for (family, of) in [
        ("pod_cpu_usage_seconds_total counter", 0),
        ("pod_memory_working_set_bytes gauge", 1),
    ] {
        let _ = writeln!(text, "# TYPE {family}");
        let name = family.split(' ').next().unwrap_or_default();
        for ((namespace, pod), (seconds, bytes, at)) in &pods {
            let value = if of == 0 {
                seconds.to_string()
            } else {
                bytes.to_string()
            };
            let _ = writeln!(
                text,
                "{name}{{namespace=\"{namespace}\",pod=\"{pod}\"}} {value} {at}"
            );
        }
    }
    text.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    with_type(StatusCode::OK, TEXT, text)
}
