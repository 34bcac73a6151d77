//! Kinds of `discovery.k8s.io`.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, set, strategy};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;
const SHOWN_MAX: usize = 3;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "AddressType",
        "addressType specifies the type of address carried by this EndpointSlice.",
    ),
    cells::text(
        "Ports",
        "ports specifies the list of network ports exposed by each endpoint in this slice.",
    ),
    cells::text(
        "Endpoints",
        "endpoints is a list of unique endpoints in this slice.",
    ),
    cells::AGE,
];

/// EndpointSlice: a part of the endpoints behind a Service.
pub struct EndpointSlice;

impl Kind for EndpointSlice {
    resource!("discovery.k8s.io", "v1", "endpointslices");

    fn set_defaults(&self, obj: &mut Value) {
        for port in set::items(obj, "ports") {
            set::absent(port, "name", "");
            set::absent(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["addressType", "endpoints", "ports"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let slice = Cursor::root(new);
        let kind = slice.child("addressType");
        check::one_of(&mut e, &kind, &["FQDN", "IPv4", "IPv6"]);
        if let Some(old) = old {
            check::immutable(&mut e, &kind, &Cursor::root(old).child("addressType"));
        }
        endpoints(&mut e, &slice.child("endpoints"), kind.str());
        ports(&mut e, &slice.child("ports"));
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = cells::list(&obj["ports"])
            .iter()
            .map(|port| {
                port["port"]
                    .as_i64()
                    .map_or("*".to_owned(), |number| number.to_string())
            })
            .collect();
        let addresses: Vec<String> = cells::list(&obj["endpoints"])
            .iter()
            .flat_map(|endpoint| cells::list(&endpoint["addresses"]))
            .map(|address| address.as_str().unwrap_or("").to_owned())
            .collect();
        let shown = |items: &[String]| match items {
            [] => "<unset>".to_owned(),
            items => cells::joined(items, SHOWN_MAX),
        };
        vec![
            cells::name(obj),
            obj["addressType"].as_str().unwrap_or("").into(),
            shown(&ports).into(),
            shown(&addresses).into(),
            cells::age(obj, now),
        ]
    }
}

fn endpoints(e: &mut FieldErrors, list: &Cursor, kind: &str) {
    if list.len() > ENDPOINTS_MAX {
        e.too_many(list.path(), list.len(), ENDPOINTS_MAX);
        return;
    }
    for endpoint in list.items() {
        let addresses = endpoint.child("addresses");
        if addresses.is_empty() {
            e.required(addresses.path(), "must contain at least 1 address");
        } else if addresses.len() > ADDRESSES_MAX {
            e.too_many(addresses.path(), addresses.len(), ADDRESSES_MAX);
        }
        for address in addresses.items() {
            self::address(e, &address, kind);
        }
        let node = endpoint.child("nodeName");
        if !node.is_absent() {
            check::named(e, &node, names::is_dns1123_subdomain);
        }
        let topology = endpoint.child("deprecatedTopology");
        if topology.len() > TOPOLOGY_MAX {
            e.too_many(topology.path(), topology.len(), TOPOLOGY_MAX);
        }
        check::labels(e, &topology);
        if topology.value().get("topology.kubernetes.io/zone").is_some() {
            e.invalid(
                &topology.path().key("topology.kubernetes.io/zone"),
                topology.value()["topology.kubernetes.io/zone"].clone(),
                "reserved key cannot be set in `deprecatedTopology`",
            );
        }
        if !endpoint.child("hostname").is_absent() {
            check::named(e, &endpoint.child("hostname"), names::is_dns1123_label);
        }
        hints(e, &endpoint.child("hints").child("forZones"));
        hints(e, &endpoint.child("hints").child("forNodes"));
    }
}

fn address(e: &mut FieldErrors, c: &Cursor, kind: &str) {
    match kind {
        "IPv4" | "IPv6" => {
            let before = e.0.len();
            check::named(e, c, names::is_valid_ip);
            if e.0.len() == before && (kind == "IPv6") != c.str().contains(':') {
                let detail = match kind {
                    "IPv4" => "must be an IPv4 address",
                    _ => "must be an IPv6 address",
                };
                check::invalid_str(e, c, detail);
            }
            crate::core::non_special_ip(e, c);
        }
        "FQDN" => check::named(e, c, names::is_fully_qualified_domain_name),
        _ => {}
    }
}

fn hints(e: &mut FieldErrors, list: &Cursor) {
    if list.len() > HINTS_MAX {
        e.too_many(list.path(), list.len(), HINTS_MAX);
    }
    check::unique(e, list, "name");
    for hint in list.items() {
        check::label_name(e, &hint.child("name"));
    }
}

fn ports(e: &mut FieldErrors, list: &Cursor) {
    if list.len() > PORTS_MAX {
        e.too_many(list.path(), list.len(), PORTS_MAX);
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.child("name");
        if !name.str().is_empty() {
            check::named(e, &name, names::is_dns1123_label);
        }
        match seen.contains(&name.str()) {
            true => e.duplicate(name.path(), name.str()),
            false => seen.push(name.str()),
        }
        if !port.child("port").is_absent() {
            check::port(e, &port.child("port"));
        }
        check::one_of(e, &port.child("protocol"), &["SCTP", "TCP", "UDP"]);
        if !port.child("appProtocol").is_absent() {
            check::label_name(e, &port.child("appProtocol"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn rows_and_errors() {
        let slice = json!({"metadata": {"name": "s", "namespace": "d"}, "addressType": "IPv4",
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["fe80::1"]}]});
        let row = EndpointSlice.cells(&slice, Timestamp::UNIX_EPOCH);
        assert_eq!((&row[2], &row[3]), (&json!("80"), &json!("10.0.0.1,fe80::1")));
        assert_eq!(
            create(&EndpointSlice, slice),
            [
                "endpoints[1].addresses[0]: Invalid value: \"fe80::1\": must be an IPv4 address",
                "endpoints[1].addresses[0]: Invalid value: \"fe80::1\": may not be in the link-local range \
                 (169.254.0.0/16, fe80::/10)",
            ]
        );
    }
}
