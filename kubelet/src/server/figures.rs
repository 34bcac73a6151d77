//! `/stats/summary`: usage of the node and of each pod, from the runtime and /proc.

use super::{Answer, Server, json, text};
use crate::node::machine;
use crate::runtime::labels;
use http::StatusCode;
use jiff::Timestamp;
use keelson_proto::cri::v1::{ContainerStats, CpuUsage, FilesystemUsage, MemoryUsage};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;

/// The containers' figures from the runtime.
pub(super) async fn containers(server: &Server) -> Result<Vec<ContainerStats>, Answer> {
    server
        .host
        .cri
        .list_container_stats()
        .await
        .map_err(|s| text(StatusCode::INTERNAL_SERVER_ERROR, crate::cri::describe(&s)))
}

pub(super) fn label<'a>(stats: &'a ContainerStats, key: &str) -> &'a str {
    stats
        .attributes
        .as_ref()
        .and_then(|a| a.labels.get(key))
        .map_or("", String::as_str)
}

/// CPU seconds the machine has used since it started, all CPUs together.
pub(super) fn node_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .lines()
        .next()
        .map(|l| {
            l.split_whitespace()
                .skip(1)
                .filter_map(|f| f.parse().ok())
                .collect()
        })
        .unwrap_or_default();
    // user, nice, system, then idle and iowait are left out, irq, softirq, steal.
    let busy: f64 = fields
        .iter()
        .enumerate()
        .filter(|(i, _)| !matches!(i, 3 | 4) && *i < 8)
        .map(|(_, v)| v)
        .sum();
    busy / 100.0
}

/// Bytes in use that the kernel cannot take back at once.
pub(super) fn node_working_set() -> i64 {
    machine::meminfo("MemTotal") - machine::meminfo("MemAvailable")
}

pub(super) async fn summary(server: &Server) -> Answer {
    let stats = match containers(server).await {
        Ok(stats) => stats,
        Err(answer) => return answer,
    };
    let now = Timestamp::now().to_string();
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    for one in &stats {
        let key = (
            label(one, labels::POD_NAMESPACE).to_owned(),
            label(one, labels::POD_NAME).to_owned(),
            label(one, labels::POD_UID).to_owned(),
        );
        if !key.2.is_empty() {
            pods.entry(key).or_default().push(container(one));
        }
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|((namespace, name, uid), containers)| {
            object!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "startTime": Value::Null, "containers": containers})
        })
        .collect();
    let fs = machine::filesystem(&server.host.settings.root_dir);
    json(&object!({
        "node": {
            "nodeName": server.host.settings.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": (node_cpu_seconds() * 1e9) as u64},
            "memory": {
                "time": now,
                "availableBytes": machine::meminfo("MemAvailable"),
                "usageBytes": machine::meminfo("MemTotal") - machine::meminfo("MemFree"),
                "workingSetBytes": node_working_set(),
            },
            "fs": {
                "time": now, "capacityBytes": fs.bytes, "availableBytes": fs.bytes_available,
                "usedBytes": fs.bytes.saturating_sub(fs.bytes_available), "inodes": fs.inodes, "inodesFree": fs.inodes_free,
            },
        },
        "pods": pods,
    }))
}

fn container(stats: &ContainerStats) -> Value {
    object!({
        "name": label(stats, labels::CONTAINER_NAME),
        "cpu": stats.cpu.as_ref().map(cpu),
        "memory": stats.memory.as_ref().map(memory),
        "rootfs": stats.writable_layer.as_ref().map(rootfs),
    })
}

fn time(ns: i64) -> Value {
    Timestamp::from_nanosecond(i128::from(ns)).map_or(Value::Null, |t| t.to_string().into())
}

fn cpu(usage: &CpuUsage) -> Value {
    object!({
        "time": time(usage.timestamp),
        "usageCoreNanoSeconds": usage.usage_core_nano_seconds.as_ref().map(|v| v.value),
        "usageNanoCores": usage.usage_nano_cores.as_ref().map(|v| v.value),
    })
}

fn memory(usage: &MemoryUsage) -> Value {
    object!({
        "time": time(usage.timestamp),
        "workingSetBytes": usage.working_set_bytes.as_ref().map(|v| v.value),
        "usageBytes": usage.usage_bytes.as_ref().map(|v| v.value),
        "rssBytes": usage.rss_bytes.as_ref().map(|v| v.value),
    })
}

fn rootfs(usage: &FilesystemUsage) -> Value {
    object!({
        "time": time(usage.timestamp),
        "usedBytes": usage.used_bytes.as_ref().map(|v| v.value),
        "inodesUsed": usage.inodes_used.as_ref().map(|v| v.value),
    })
}
