//! What becomes of packets to services of every kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::model::{Entry, Family, NodeInfo, ServiceInfo, ServiceName, Slice};
use crate::render::{Dialect, MASQUERADE_BIT};
use crate::service_rules::Context;
use crate::table::Table;

const HOST: &str = "192.168.0.1";
const POD: &str = "10.244.0.9";
const OUTSIDE: &str = "203.0.113.7";

fn service(spec: Value, status: Value) -> ServiceInfo {
    let mut service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {
        "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]}, "status": status});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    ServiceInfo::new(&serde_json::from_value(service).unwrap()).unwrap()
}

/// Endpoints as (address, node, ready).
fn slice(endpoints: &[(&str, &str, bool)]) -> Slice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(ip, node, ready)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}}))
        .collect();
    let slice = json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
    Slice::new(&serde_json::from_value(slice).unwrap(), "here")
}

fn table(info: ServiceInfo, endpoints: &[(&str, &str, bool)]) -> Table {
    let entry = Entry {
        info: Some(info),
        slices: [("s".to_owned(), slice(endpoints))].into(),
    };
    let name = ServiceName {
        namespace: "ns".into(),
        name: "web".into(),
    };
    let mut table = Table::new(Dialect {
        family: Family::V4,
        masquerade_bit: MASQUERADE_BIT,
    });
    let context = Context {
        node: NodeInfo {
            name: "here".into(),
            ..NodeInfo::default()
        },
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        masquerade_all: false,
    };
    let model: BTreeMap<_, _> = [(name, entry)].into();
    table.update(&model, &BTreeSet::new(), &context, &[HOST.parse().unwrap()]);
    table
}

fn packet(from: &str, to: &str) -> Packet {
    let (ip, port) = to.rsplit_once(':').unwrap();
    Packet {
        saddr: from.parse().unwrap(),
        daddr: ip.parse().unwrap(),
        protocol: Protocol::Tcp,
        port: port.parse().unwrap(),
        from_host: from == HOST,
    }
}

/// `reject`, `drop`, or `address:port`, with ` masq` where the source is hidden.
fn fate(tracer: &mut Tracer, from: &str, to: &str) -> String {
    match tracer.trace(packet(from, to)) {
        Fate::Rejected => "reject".into(),
        Fate::Dropped => "drop".into(),
        Fate::Delivered {
            to: (ip, port),
            masqueraded,
        } => {
            format!("{ip}:{port}{}", if masqueraded { " masq" } else { "" })
        }
    }
}

fn check(info: ServiceInfo, endpoints: &[(&str, &str, bool)], cases: &[(&str, &str, &str)]) {
    let table = table(info, endpoints);
    let mut tracer = Tracer::new(table.pieces(), &[HOST.parse().unwrap()]);
    for (from, to, expected) in cases {
        assert_eq!(fate(&mut tracer, from, to), *expected, "{from} -> {to}");
    }
}

const BOTH: &[(&str, &str, bool)] = &[("10.244.0.2", "here", true), ("10.244.1.2", "there", true)];
const THERE: &[(&str, &str, bool)] = &[("10.244.1.2", "there", true)];

#[test]
fn cluster_ips_lead_to_ready_endpoints() {
    let endpoints = [("10.244.0.2", "here", true), ("10.244.1.3", "there", false)];
    check(
        service(json!({}), json!({})),
        &endpoints,
        &[
            (POD, "10.96.0.5:80", "10.244.0.2:8080"),
            (HOST, "10.96.0.5:80", "10.244.0.2:8080 masq"),
            (OUTSIDE, "10.96.0.5:80", "10.244.0.2:8080 masq"),
            ("10.244.0.2", "10.96.0.5:80", "10.244.0.2:8080 masq"),
            (POD, "10.96.0.5:81", "reject"),
            (POD, "8.8.8.8:53", "8.8.8.8:53"),
        ],
    );
}

#[test]
fn connections_spread_over_all_endpoints() {
    let table = table(service(json!({}), json!({})), BOTH);
    let mut tracer = Tracer::new(table.pieces(), &[HOST.parse().unwrap()]);
    let mut seen = BTreeSet::new();
    for choice in 0..2 {
        tracer.choice = choice;
        seen.insert(fate(&mut tracer, POD, "10.96.0.5:80"));
    }
    assert_eq!(
        seen,
        ["10.244.0.2:8080".to_owned(), "10.244.1.2:8080".to_owned()].into()
    );
}

#[test]
fn without_endpoints_connections_are_rejected() {
    check(
        service(json!({"externalIPs": ["198.51.100.1"]}), json!({})),
        &[],
        &[
            (POD, "10.96.0.5:80", "reject"),
            (HOST, "10.96.0.5:80", "reject"),
            (OUTSIDE, "192.168.0.1:30080", "reject"),
            (OUTSIDE, "198.51.100.1:80", "reject"),
        ],
    );
}

#[test]
fn node_ports_and_external_addresses_hide_the_source() {
    check(
        service(json!({"externalIPs": ["198.51.100.1"]}), json!({})),
        THERE,
        &[
            (OUTSIDE, "192.168.0.1:30080", "10.244.1.2:8080 masq"),
            (POD, "192.168.0.1:30080", "10.244.1.2:8080 masq"),
            (OUTSIDE, "198.51.100.1:80", "10.244.1.2:8080 masq"),
            (OUTSIDE, "192.168.0.1:30081", "192.168.0.1:30081"),
        ],
    );
}

#[test]
fn external_policy_local_keeps_the_source_and_the_node() {
    let local = json!({"externalTrafficPolicy": "Local", "type": "LoadBalancer"});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}});
    check(
        service(local.clone(), status.clone()),
        BOTH,
        &[
            (OUTSIDE, "192.168.0.1:30080", "10.244.0.2:8080"),
            (OUTSIDE, "198.51.100.9:80", "10.244.0.2:8080"),
            (POD, "198.51.100.9:80", "10.244.0.2:8080"),
            (HOST, "198.51.100.9:80", "10.244.0.2:8080 masq"),
        ],
    );
    check(
        service(local, status),
        THERE,
        &[
            (OUTSIDE, "192.168.0.1:30080", "drop"),
            (OUTSIDE, "198.51.100.9:80", "drop"),
            (POD, "198.51.100.9:80", "10.244.1.2:8080"),
            (POD, "10.96.0.5:80", "10.244.1.2:8080"),
        ],
    );
}

#[test]
fn internal_policy_local_stays_on_the_node() {
    let local = service(json!({"internalTrafficPolicy": "Local"}), json!({}));
    check(local.clone(), BOTH, &[(POD, "10.96.0.5:80", "10.244.0.2:8080")]);
    check(local.clone(), THERE, &[(POD, "10.96.0.5:80", "drop")]);
    check(local, &[], &[(POD, "10.96.0.5:80", "reject")]);
}

#[test]
fn source_ranges_guard_load_balancers() {
    let guarded = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}});
    check(
        service(guarded, status),
        THERE,
        &[
            (OUTSIDE, "198.51.100.9:80", "10.244.1.2:8080 masq"),
            ("192.0.2.1", "198.51.100.9:80", "drop"),
            ("192.0.2.1", "192.168.0.1:30080", "10.244.1.2:8080 masq"),
        ],
    );
}

#[test]
fn clients_stay_with_their_endpoint() {
    let table = table(service(json!({"sessionAffinity": "ClientIP"}), json!({})), BOTH);
    let mut tracer = Tracer::new(table.pieces(), &[HOST.parse().unwrap()]);
    tracer.choice = 1;
    let first = fate(&mut tracer, POD, "10.96.0.5:80");
    tracer.choice = 0;
    assert_eq!(fate(&mut tracer, POD, "10.96.0.5:80"), first);
    assert_ne!(fate(&mut tracer, "10.244.0.10", "10.96.0.5:80"), first);
}

#[test]
fn the_first_of_two_services_keeps_a_shared_address() {
    let names = ["a", "b"].map(|n| ServiceName {
        namespace: "ns".into(),
        name: n.into(),
    });
    let entry = |name: &ServiceName, cluster_ip: &str, endpoint: &str| {
        let mut info = service(
            json!({"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "externalIPs": ["198.51.100.1"],
                "ports": [{"name": "http", "port": 80}]}),
            json!({}),
        );
        info.name = name.clone();
        Entry {
            info: Some(info),
            slices: [("s".to_owned(), slice(&[(endpoint, "here", true)]))].into(),
        }
    };
    let mut model: BTreeMap<_, _> = [
        (names[0].clone(), entry(&names[0], "10.96.0.5", "10.244.0.2")),
        (names[1].clone(), entry(&names[1], "10.96.0.6", "10.244.0.3")),
    ]
    .into();
    let mut table = Table::new(Dialect {
        family: Family::V4,
        masquerade_bit: MASQUERADE_BIT,
    });
    table.update(&model, &BTreeSet::new(), &Context::default(), &[]);
    let to = "198.51.100.1:80";
    let mut tracer = Tracer::new(table.pieces(), &[HOST.parse().unwrap()]);
    assert_eq!(fate(&mut tracer, OUTSIDE, to), "10.244.0.2:8080 masq");
    model.remove(&names[0]);
    let text = table.update(&model, &[names[0].clone()].into(), &Context::default(), &[]);
    assert!(
        text.contains("add element ip kube-proxy service-ips { 198.51.100.1 . tcp . 80 :"),
        "{text}"
    );
    let mut tracer = Tracer::new(table.pieces(), &[HOST.parse().unwrap()]);
    assert_eq!(fate(&mut tracer, OUTSIDE, to), "10.244.0.3:8080 masq");
}
