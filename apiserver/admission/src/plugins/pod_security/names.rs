//! How violations name containers and values, and who set what.

use keelson_auth::pod_references::containers;
use serde_json::Value;

use crate::value::str_of;

/// `"a", "b"`.
pub fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

pub fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub fn containers_named(names: &[String]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        quoted(names)
    )
}

/// The names of the containers for which `bad` holds.
pub fn containers_where(spec: &Value, bad: impl Fn(&Value) -> bool) -> Vec<String> {
    let found = containers(spec).filter(|container| bad(container));
    found
        .map(|container| str_of(&container["name"]).to_owned())
        .collect()
}

/// `pod and containers "a", "b"`: who set something; "" where nobody did.
pub fn setters(pod: bool, names: &[String]) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", containers_named(names)),
        (false, true) => String::new(),
        (false, false) => containers_named(names),
    }
}

/// Sorted, each once.
pub fn unique(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values.dedup();
    values
}

pub fn is_windows(spec: &Value) -> bool {
    spec["os"]["name"] == "windows"
}
