//! Endpoints: the addresses behind a Service, all in one object; deprecated in favour of EndpointSlices.

use std::net::IpAddr;

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, set, strategy};

const SHOWN_MAX: usize = 3;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Endpoints",
        "The set of all endpoints is the union of all subsets.",
    ),
    cells::AGE,
];

pub struct Endpoints;

impl Kind for Endpoints {
    resource!("", "v1", "endpoints");

    fn set_defaults(&self, obj: &mut Value) {
        for subset in set::items(obj, "subsets") {
            for port in set::items(subset, "ports") {
                set::zero(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        for subset in Cursor::root(new).child("subsets").items() {
            let (ready, not_ready) = (subset.child("addresses"), subset.child("notReadyAddresses"));
            if ready.is_empty() && not_ready.is_empty() {
                e.required(subset.path(), "must specify `addresses` or `notReadyAddresses`");
            }
            for list in [ready, not_ready] {
                for address in list.items() {
                    self::address(&mut e, &address);
                }
            }
            let ports = subset.child("ports");
            for port in ports.items() {
                self::port(&mut e, &port, ports.len() > 1);
            }
        }
        e
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let subsets = cells::list(&obj["subsets"]);
        let text = match subsets {
            [] => "<none>".to_owned(),
            subsets => cells::joined(
                &subsets.iter().flat_map(host_ports).collect::<Vec<_>>(),
                SHOWN_MAX,
            ),
        };
        vec![cells::name(obj), text.into(), cells::age(obj, now)]
    }
}

fn host_ports(subset: &Value) -> Vec<String> {
    let addresses = cells::list(&subset["addresses"]);
    let host = |address: &Value| -> String { address["ip"].as_str().unwrap_or("").to_owned() };
    let ports = cells::list(&subset["ports"]);
    if ports.is_empty() {
        return addresses.iter().map(host).collect();
    }
    ports
        .iter()
        .flat_map(|port| {
            addresses.iter().map(move |address| {
                let ip = address["ip"].as_str().unwrap_or("");
                match ip.contains(':') {
                    true => format!("[{ip}]:{}", cells::int(&port["port"])),
                    false => format!("{ip}:{}", cells::int(&port["port"])),
                }
            })
        })
        .collect()
}

fn address(e: &mut FieldErrors, c: &Cursor) {
    let ip = c.child("ip");
    check::named(e, &ip, names::is_valid_ip);
    if !c.child("hostname").str().is_empty() {
        check::named(e, &c.child("hostname"), names::is_dns1123_label);
    }
    let node = c.child("nodeName");
    if !node.is_absent() {
        for message in names::is_dns1123_subdomain(node.str()) {
            check::invalid_str(e, &node, message);
        }
    }
    non_special_ip(e, &ip);
}

/// Addresses that mean the machine itself, everybody or nobody cannot be reached through a Service.
pub fn non_special_ip(e: &mut FieldErrors, c: &Cursor) {
    let Ok(ip) = c.str().parse::<IpAddr>() else {
        return;
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    for (bad, detail) in [
        (ip.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)"),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if bad {
            check::invalid_str(e, c, detail);
        }
    }
}

fn port(e: &mut FieldErrors, c: &Cursor, name_needed: bool) {
    let name = c.child("name");
    if name_needed && name.str().is_empty() {
        e.required(name.path(), "");
    } else if !name.str().is_empty() {
        check::named(e, &name, names::is_dns1123_label);
    }
    check::port(e, &c.child("port"));
    check::one_of(e, &c.child("protocol"), &["SCTP", "TCP", "UDP"]);
    let app = c.child("appProtocol");
    if !app.is_absent() {
        check::label_name(e, &app);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn rows_and_errors() {
        let obj = json!({"metadata": {"name": "a", "namespace": "b"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]});
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            Endpoints.cells(&obj, now)[1],
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."
        );
        assert_eq!(
            create(
                &Endpoints,
                json!({"metadata": {"name": "a", "namespace": "b"},
                "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}, {}]})
            ),
            [
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                 (127.0.0.0/8, ::1/128)",
                "subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`",
            ]
        );
    }
}
