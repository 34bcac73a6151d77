//! NetworkPolicy.

use ipnet::IpNet;
use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, set, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Pod-Selector",
        "podSelector selects the pods to which this NetworkPolicy object applies.",
    ),
    cells::AGE,
];

pub struct NetworkPolicy;

impl Kind for NetworkPolicy {
    resource!("networking.k8s.io", "v1", "networkpolicies");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::object(spec, "podSelector");
        if set::is_zero(&spec["policyTypes"]) {
            let types = match set::is_zero(&spec["egress"]) {
                true => json!(["Ingress"]),
                false => json!(["Ingress", "Egress"]),
            };
            set::put(spec, "policyTypes", types);
        }
        for direction in ["ingress", "egress"] {
            for rule in set::items(spec, direction) {
                for port in set::items(rule, "ports") {
                    set::absent(port, "protocol", "TCP");
                }
            }
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        check::label_selector(&mut e, &spec.child("podSelector"));
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.child(direction).items() {
                for port in rule.child("ports").items() {
                    self::port(&mut e, &port);
                }
                for peer in rule.child(peers).items() {
                    self::peer(&mut e, &peer);
                }
            }
        }
        let types = spec.child("policyTypes");
        if types.len() > 2 {
            check::invalid(&mut e, &types, "may not specify more than two policyTypes");
        } else {
            for kind in types.items() {
                check::supported(&mut e, &kind, &["Egress", "Ingress"]);
            }
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let selector = &obj["spec"]["podSelector"];
        let text = match check::selects_everything(&Cursor::root(selector)) {
            true => "<none>".to_owned(),
            false => cells::selector(selector),
        };
        vec![cells::name(obj), text.into(), cells::age(obj, now)]
    }
}

fn port(e: &mut FieldErrors, c: &Cursor) {
    check::one_of_or_absent(e, &c.child("protocol"), &["SCTP", "TCP", "UDP"]);
    let (port, end) = (c.child("port"), c.child("endPort"));
    if port.is_absent() {
        if !end.is_absent() {
            e.required(port.path(), "must be specified when `endPort` is specified");
        }
        return;
    }
    check::port_or_name(e, &port);
    if end.is_absent() {
        return;
    }
    match port.i64() {
        None => e.invalid(
            end.path(),
            end.value().clone(),
            "may not be specified when `port` is non-numeric",
        ),
        Some(first) => {
            if end.i64().is_some_and(|last| last < first) {
                check::invalid_int(e, &end, "must be greater than or equal to `port`");
            }
            check::port(e, &end);
        }
    }
}

fn peer(e: &mut FieldErrors, c: &Cursor) {
    let (pods, namespaces, block) = (
        c.child("podSelector"),
        c.child("namespaceSelector"),
        c.child("ipBlock"),
    );
    for selector in [&pods, &namespaces] {
        check::label_selector(e, selector);
    }
    if !block.is_absent() {
        ip_block(e, &block);
        if !pods.is_absent() || !namespaces.is_absent() {
            e.forbidden(c.path(), "may not specify both ipBlock and another peer");
        }
    } else if pods.is_absent() && namespaces.is_absent() {
        e.required(c.path(), "must specify a peer");
    }
}

fn ip_block(e: &mut FieldErrors, c: &Cursor) {
    let cidr = c.child("cidr");
    if !check::required(e, &cidr) {
        return;
    }
    check::cidr(e, &cidr);
    let Ok(all) = cidr.str().parse::<IpNet>() else {
        return;
    };
    for except in c.child("except").items() {
        check::cidr(e, &except);
        let strict_subset = except
            .str()
            .parse::<IpNet>()
            .map(|net| all.contains(&net) && all.prefix_len() < net.prefix_len());
        if strict_subset == Ok(false) {
            let detail = format!("must be a strict subset of `cidr`: {:?}", cidr.str());
            check::invalid_str(e, &except, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;

    #[test]
    fn defaults_and_errors() {
        let policy = |spec: Value| json!({"metadata": {"name": "n", "namespace": "d"}, "spec": spec});
        let mut obj = policy(json!({"egress": [{"ports": [{"port": 53}]}]}));
        NetworkPolicy.set_defaults(&mut obj);
        assert_eq!(obj["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(
            create(
                &NetworkPolicy,
                policy(json!({"ingress": [{"from": [{}, {"ipBlock":
                {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}))
            ),
            [
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset \
                 of `cidr`: \"10.0.0.0/8\"",
            ]
        );
    }
}
