//! `/metrics/cadvisor`: the basic series of cAdvisor, with its names and labels, from the runtime's figures.

use super::figures::{containers, label, node_cpu_seconds, node_working_set};
use super::resources::TEXT;
use super::{Answer, Server, with_type};
use crate::runtime::labels;
use http::StatusCode;
use keelson_proto::cri::v1::ContainerStats;
use std::fmt::Write;

type Value = fn(&ContainerStats) -> Option<f64>;

/// Series, type, where the value is.
const SERIES: [(&str, &str, Value); 5] = [
    ("container_cpu_usage_seconds_total", "counter", |s| {
        Some(s.cpu.as_ref()?.usage_core_nano_seconds.as_ref()?.value as f64 / 1e9)
    }),
    ("container_memory_working_set_bytes", "gauge", |s| {
        Some(s.memory.as_ref()?.working_set_bytes.as_ref()?.value as f64)
    }),
    ("container_memory_usage_bytes", "gauge", |s| {
        Some(s.memory.as_ref()?.usage_bytes.as_ref()?.value as f64)
    }),
    ("container_memory_rss", "gauge", |s| {
        Some(s.memory.as_ref()?.rss_bytes.as_ref()?.value as f64)
    }),
    ("container_fs_usage_bytes", "gauge", |s| {
        Some(s.writable_layer.as_ref()?.used_bytes.as_ref()?.value as f64)
    }),
];

pub(super) async fn cadvisor(server: &Server) -> Answer {
    let stats = match containers(server).await {
        Ok(stats) => stats,
        Err(answer) => return answer,
    };
    let mut text = String::new();
    for (name, type_, value) in SERIES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE {name} {type_}");
        let root = match name {
            "container_cpu_usage_seconds_total" => Some(node_cpu_seconds()),
            "container_memory_working_set_bytes" => Some(node_working_set() as f64),
            _ => None,
        };
        if let Some(root) = root {
            let _ = writeln!(
                text,
                "{name}{{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}} {root}"
            );
        }
        for one in &stats {
            let Some(value) = value(one) else { continue };
            let id = one.attributes.as_ref().map_or("", |a| a.id.as_str());
            let _ = writeln!(
                text,
                "{name}{{container=\"{}\",id=\"{id}\",image=\"\",name=\"{id}\",namespace=\"{}\",pod=\"{}\"}} {value}",
                label(one, labels::CONTAINER_NAME),
                label(one, labels::POD_NAMESPACE),
                label(one, labels::POD_NAME),
            );
        }
    }
    with_type(StatusCode::OK, TEXT, text)
}
