//! What we understand of a unit file.

use std::time::Duration;

/// A service to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    pub command: Vec<String>,
    pub after: Vec<String>,
    pub notify: bool,
    pub restart: bool,
    pub restart_delay: Duration,
    pub stop_timeout: Duration,
}

/// Parses one file; `Err` says what is missing.
pub fn parse(name: &str, text: &str) -> Result<Service, String> {
    let joined = text.replace("\\\n", " ");
    let value = |key: &str| {
        joined
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('=').map(str::trim))
    };
    let command: Vec<String> = value("ExecStart")
        .unwrap_or("")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    if command.is_empty() {
        return Err(format!("{name}.service has no ExecStart"));
    }
    let after = value("After").unwrap_or("").split_whitespace();
    Ok(Service {
        name: name.to_owned(),
        command,
        after: after
            .filter_map(|unit| unit.strip_suffix(".service"))
            .map(str::to_owned)
            .collect(),
        notify: value("Type") == Some("notify"),
        restart: value("Restart") == Some("always"),
        restart_delay: duration(value("RestartSec"), Duration::from_millis(100)),
        stop_timeout: duration(value("TimeoutStopSec"), Duration::from_secs(90)),
    })
}

/// `200ms`, `30s` or bare seconds.
fn duration(text: Option<&str>, default: Duration) -> Duration {
    let Some(text) = text else { return default };
    let parsed = match text.strip_suffix("ms") {
        Some(millis) => millis.parse().map(Duration::from_millis),
        None => text.trim_end_matches('s').parse().map(Duration::from_secs),
    };
    parsed.unwrap_or(default)
}

/// Every unit after those it names; units in a cycle keep the order they came in.
pub fn ordered(services: Vec<Service>) -> Vec<Service> {
    let mut waiting = services;
    let mut order: Vec<Service> = Vec::new();
    while !waiting.is_empty() {
        let free = waiting.iter().position(|one| {
            !one.after.iter().any(|name| {
                waiting
                    .iter()
                    .any(|other| other.name == *name && other.name != one.name)
            })
        });
        order.push(waiting.remove(free.unwrap_or(0)));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_units_parse() {
        let text = "[Unit]\nAfter=network-online.target b.service\n[Service]\nType=notify\nExecStart=/bin/a \\\n    --x=1\n\
                    Restart=always\nRestartSec=200ms\nTimeoutStopSec=30s\n";
        let service = parse("a", text).unwrap();
        assert_eq!(service.command, ["/bin/a", "--x=1"]);
        assert_eq!(service.after, ["b"]);
        assert_eq!(service.restart_delay, Duration::from_millis(200));
        assert!(parse("c", "[Service]\n").is_err());
    }

    #[test]
    fn order_follows_after() {
        let unit = |name: &str, after: &str| parse(name, &format!("ExecStart=/x\nAfter={after}")).unwrap();
        let order = ordered(vec![
            unit("a", "b.service"),
            unit("b", ""),
            unit("c", "a.service"),
        ]);
        let names: Vec<&str> = order.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
    }
}
