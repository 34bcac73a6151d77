//! What the `portmap` plugin leaves in iptables' `nat` tables after the last pod with a host port is gone. Pure.
//!
//! The plugin takes away a pod's own chain (`CNI-DN-...`) and keeps those all pods share. They go only while no pod's
//! chain is left, since that would be somebody else's; the table goes with them if nothing else is in it. A table of
//! empty base chains, as the plugin makes it for IPv6, does nothing and goes too.

use serde_json::Value;

/// Chains that all pods with host ports share.
const SHARED: &str = "CNI-HOSTPORT-";
/// Chains of single pods.
const OF_A_POD: &str = "CNI-DN-";

/// Lines for `nft -f`, from what `nft -j list table FAMILY nat` shows.
pub fn plan_removal(family: &str, listed: &Value) -> Vec<String> {
    let items = || listed["nftables"].as_array().into_iter().flatten();
    let chains = || items().filter_map(|item| item.get("chain"));
    let name = |chain: &Value| chain["name"].as_str().unwrap_or_default().to_owned();
    if chains().any(|chain| name(chain).starts_with(OF_A_POD)) {
        return Vec::new();
    }
    let shared: Vec<String> = chains()
        .map(name)
        .filter(|name| name.starts_with(SHARED))
        .collect();
    let others_chains = chains().any(|chain| chain.get("hook").is_none() && !name(chain).starts_with(SHARED));
    let mut lines = Vec::new();
    let mut others_rules = false;
    for rule in items().filter_map(|item| item.get("rule")) {
        let chain = rule["chain"].as_str().unwrap_or_default();
        if chain.starts_with(SHARED) {
            continue;
        }
        if jumps_to_shared(rule) {
            lines.push(format!(
                "delete rule {family} nat {chain} handle {}",
                rule["handle"]
            ));
        } else {
            others_rules = true;
        }
    }
    if !others_chains && !others_rules {
        return vec![format!("delete table {family} nat")];
    }
    lines.extend(
        shared
            .iter()
            .map(|chain| format!("flush chain {family} nat {chain}")),
    );
    lines.extend(
        shared
            .iter()
            .map(|chain| format!("delete chain {family} nat {chain}")),
    );
    lines
}

fn jumps_to_shared(rule: &Value) -> bool {
    let steps = rule["expr"].as_array().into_iter().flatten();
    let mut targets = steps.filter_map(|step| step["jump"]["target"].as_str());
    targets.any(|target| target.starts_with(SHARED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listed(more: &[Value]) -> Value {
        let mut items = vec![
            json!({"table": {"family": "ip", "name": "nat"}}),
            json!({"chain": {"name": "PREROUTING", "hook": "prerouting"}}),
            json!({"chain": {"name": "CNI-HOSTPORT-DNAT"}}),
            json!({"chain": {"name": "CNI-HOSTPORT-MASQ"}}),
            json!({"rule": {"chain": "PREROUTING", "handle": 7, "expr": [
                {"xt": {"type": "match", "name": "addrtype"}}, {"jump": {"target": "CNI-HOSTPORT-DNAT"}}]}}),
            json!({"rule": {"chain": "CNI-HOSTPORT-MASQ", "handle": 8, "expr": [{"xt": null}]}}),
        ];
        items.extend_from_slice(more);
        json!({ "nftables": items })
    }

    #[test]
    fn a_table_of_the_plugin_alone_goes() {
        assert_eq!(plan_removal("ip", &listed(&[])), ["delete table ip nat"]);
    }

    #[test]
    fn others_rules_and_chains_stay() {
        let rule =
            json!({"rule": {"chain": "PREROUTING", "handle": 9, "expr": [{"jump": {"target": "DOCKER"}}]}});
        let chain = json!({"chain": {"name": "DOCKER"}});
        let ours = [
            "delete rule ip nat PREROUTING handle 7",
            "flush chain ip nat CNI-HOSTPORT-DNAT",
            "flush chain ip nat CNI-HOSTPORT-MASQ",
            "delete chain ip nat CNI-HOSTPORT-DNAT",
            "delete chain ip nat CNI-HOSTPORT-MASQ",
        ];
        assert_eq!(plan_removal("ip", &listed(&[rule])), ours);
        assert_eq!(plan_removal("ip", &listed(&[chain])), ours);
    }

    #[test]
    fn nothing_goes_while_a_pod_has_ports_or_where_the_plugin_never_was() {
        assert!(plan_removal("ip", &listed(&[json!({"chain": {"name": "CNI-DN-1234"}})])).is_empty());
        let chain = json!({"chain": {"name": "PREROUTING", "hook": "prerouting"}});
        let rule = json!({"rule": {"chain": "PREROUTING", "handle": 4, "expr": [{"accept": null}]}});
        assert!(plan_removal("ip", &json!({"nftables": [chain, rule]})).is_empty());
        assert_eq!(
            plan_removal("ip6", &json!({"nftables": [chain]})),
            ["delete table ip6 nat"]
        );
    }
}
