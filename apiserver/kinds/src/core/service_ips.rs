//! Cluster IPs and IP families of Services: keeping the two forms in step, and what may change.

use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use super::service;
use crate::{cells, check, equal, set};

const FIXED: &str = "may not change once set";

/// Without a cluster IP, by request.
pub fn is_headless(spec: &Value) -> bool {
    matches!(cells::list(&spec["clusterIPs"]), [one] if one == "None")
}

fn needs_cluster_ip(spec: &Value) -> bool {
    spec["type"] != "ExternalName"
}

fn needs_node_port(spec: &Value) -> bool {
    spec["type"] == "NodePort"
        || spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false
}

/// Clients may write `clusterIP` alone; `clusterIPs` follows it, and the other way round.
pub fn normalize(spec: &mut Value, old: Option<&Value>) {
    let none = Value::Null;
    let old = old.unwrap_or(&none);
    let one = spec["clusterIP"].clone();
    if set::is_zero(old) {
        if !set::is_zero(&one) {
            set::zero(spec, "clusterIPs", vec![one]);
        }
        return;
    }
    let single_changed = !equal::same(&one, &old["clusterIP"]);
    let list_changed = !equal::same(&spec["clusterIPs"], &old["clusterIPs"]);
    if single_changed && set::is_zero(&one) && !list_changed {
        set::remove(spec, "clusterIPs");
    } else if single_changed && !list_changed {
        match spec["clusterIPs"].get_mut(0) {
            Some(first) => *first = one,
            None => set::put(spec, "clusterIPs", vec![one]),
        }
    } else if single_changed && set::is_zero(&spec["clusterIPs"]) && !set::is_zero(&one) {
        set::put(spec, "clusterIPs", vec![one]);
    } else if !single_changed && set::is_zero(&spec["clusterIPs"]) && list_changed && !set::is_zero(&one) {
        set::put(spec, "clusterIPs", old["clusterIPs"].clone());
    }
}

/// What was allocated stays where the client left it out.
pub fn keep_allocated(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(spec) {
        let (one, list) = (old["clusterIP"].clone(), old["clusterIPs"].clone());
        if !set::is_zero(&one) {
            set::zero(spec, "clusterIP", one.clone());
        }
        if spec["clusterIP"] == one && !set::is_zero(&list) {
            set::zero(spec, "clusterIPs", list);
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            let before = old[key].clone();
            if !set::is_zero(&before) {
                set::zero(spec, key, before);
            }
        }
    }
    if needs_node_port(old) && needs_node_port(spec) {
        keep_node_ports(spec, old);
    }
    if service::needs_health_check(old) && service::needs_health_check(spec) {
        let before = old["healthCheckNodePort"].clone();
        if !set::is_zero(&before) {
            set::zero(spec, "healthCheckNodePort", before);
        }
    }
}

fn keep_node_ports(spec: &mut Value, old: &Value) {
    let mut used: Vec<Value> = cells::list(&spec["ports"])
        .iter()
        .map(|p| p["nodePort"].clone())
        .collect();
    for port in set::items(spec, "ports") {
        if !set::is_zero(&port["nodePort"]) {
            continue;
        }
        let before = cells::list(&old["ports"])
            .iter()
            .find(|p| p["protocol"] == port["protocol"] && p["port"] == port["port"]);
        if let Some(before) = before
            && !set::is_zero(&before["nodePort"])
            && !used.contains(&before["nodePort"])
        {
            used.push(before["nodePort"].clone());
            set::put(port, "nodePort", before["nodePort"].clone());
        }
    }
}

/// A change of type clears what the new type cannot have, where the client left it as it was.
pub fn drop_by_type(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            drop_same(spec, old, key);
        }
    }
    if needs_node_port(old) && !needs_node_port(spec) {
        let before = cells::list(&old["ports"]).to_vec();
        for (port, before) in set::items(spec, "ports").zip(before) {
            drop_same(port, &before, "nodePort");
        }
    }
    if service::needs_health_check(old) && !service::needs_health_check(spec) {
        drop_same(spec, old, "healthCheckNodePort");
    }
    if old["type"] == "LoadBalancer" && spec["type"] != "LoadBalancer" {
        drop_same(spec, old, "allocateLoadBalancerNodePorts");
        drop_same(spec, old, "loadBalancerClass");
    }
    if service::externally_accessible(old) && !service::externally_accessible(spec) {
        drop_same(spec, old, "externalTrafficPolicy");
    }
}

fn drop_same(to: &mut Value, old: &Value, key: &str) {
    if equal::same(&to[key], &old[key]) {
        set::remove(to, key);
    }
}

/// Families of a cluster of one family: IPv4, unless the address asked for is IPv6. A headless Service without
/// selector has endpoints of its own making, so it may have both.
pub fn set_families(spec: &mut Value) {
    if !needs_cluster_ip(spec) {
        return;
    }
    let has_selector = !set::is_zero(&spec["selector"]);
    if is_headless(spec) && !has_selector {
        set::zero(spec, "ipFamilyPolicy", "RequireDualStack");
        set::zero(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
        return;
    }
    set::zero(spec, "ipFamilyPolicy", "SingleStack");
    let family = match spec["clusterIP"].as_str() {
        Some(ip) if ip.contains(':') => "IPv6",
        _ => "IPv4",
    };
    set::zero(spec, "ipFamilies", vec![family]);
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other.
pub fn fields(e: &mut FieldErrors, c: &Cursor) {
    if c.child("type").str() == "ExternalName" {
        return;
    }
    let (one, list, families) = (c.child("clusterIP"), c.child("clusterIPs"), c.child("ipFamilies"));
    let first = list.items().next();
    match (one.str(), first) {
        ("", Some(_)) => check::invalid(e, &list, "must be empty when `clusterIP` is not specified"),
        (ip, None) if !ip.is_empty() => e.required(list.path(), ""),
        (ip, Some(first)) if first.str() != ip => {
            check::invalid(e, &list, "first value must match `clusterIP`");
        }
        _ => {}
    }
    let mut seen: Vec<&str> = Vec::new();
    for family in families.items() {
        check::supported(e, &family, &["IPv4", "IPv6"]);
        match seen.contains(&family.str()) {
            true => e.duplicate(family.path(), family.str()),
            false => seen.push(family.str()),
        }
    }
    check::one_of_or_absent(
        e,
        &c.child("ipFamilyPolicy"),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    if addresses(e, &list) && !is_headless(c.value()) {
        for (index, (ip, family)) in list.items().zip(&seen).enumerate() {
            if (*family == "IPv6") != ip.str().contains(':') {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
                check::invalid_str(e, &ip, detail);
            }
        }
    }
}

fn addresses(e: &mut FieldErrors, list: &Cursor) -> bool {
    let mut valid = true;
    for (index, ip) in list.items().enumerate() {
        if index == 0 && ip.str() == "None" {
            if list.len() > 1 {
                valid = false;
                check::invalid(e, list, "'None' must be the first and only value");
            }
            continue;
        }
        let before = e.0.len();
        check::named(e, &ip, names::is_valid_ip);
        valid &= e.0.len() == before;
    }
    if list.len() > 2 {
        check::invalid(e, list, "may only hold up to 2 values");
    }
    let sixes = list.items().filter(|ip| ip.str().contains(':')).count();
    if valid && list.len() > 1 && (sixes == 0 || sixes == list.len()) {
        check::invalid(e, list, "may specify no more than one IP for each IP family");
    }
    valid
}

/// The primary address and family are fixed; a second one may come and, with `SingleStack`, go.
pub fn update(e: &mut FieldErrors, c: &Cursor, old: &Value) {
    let external = c.child("type").str() == "ExternalName" || old["type"] == "ExternalName";
    let (headless, was_headless) = (is_headless(c.value()), is_headless(old));
    let stays_headless = headless && was_headless;
    if !external && !stays_headless {
        changed(
            e,
            c,
            old,
            ("clusterIPs", "primary clusterIP can not be unset", "clusterIP"),
        );
    }
    if !external && !headless && !was_headless {
        changed(
            e,
            c,
            old,
            ("ipFamilies", "primary ipFamily can not be unset", "ipFamily"),
        );
    }
    let class = c.child("loadBalancerClass");
    if c.child("type").str() == "LoadBalancer"
        && old["type"] == "LoadBalancer"
        && class.value() != &old["loadBalancerClass"]
    {
        check::invalid(e, &class, FIXED);
    }
    if service::needs_health_check(old)
        && service::needs_health_check(c.value())
        && c.child("healthCheckNodePort").value() != &old["healthCheckNodePort"]
    {
        e.forbidden(c.child("healthCheckNodePort").path(), check::IMMUTABLE);
    }
}

fn changed(e: &mut FieldErrors, c: &Cursor, old: &Value, (key, unset, what): (&str, &str, &str)) {
    let list = c.child(key);
    let (now, before) = (cells::list(list.value()), cells::list(&old[key]));
    let at = |index: usize| list.path().index(index);
    if now.len() == before.len() {
        for (index, _) in now.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
            e.invalid(&at(index), list.value().clone(), FIXED);
        }
        return;
    }
    if now.is_empty() {
        e.invalid(&at(0), json!([]), unset);
    } else if !before.is_empty() && now[0] != before[0] {
        e.invalid(&at(0), list.value().clone(), FIXED);
    }
    let policy = c.child("ipFamilyPolicy");
    if now.len() == 1 && before.len() > 1 && policy.str() != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        check::invalid(e, &policy, detail);
    }
}
