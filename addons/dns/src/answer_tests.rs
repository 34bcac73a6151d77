//! Every form of name of the schema, asked as clients ask.

use serde_json::json;

use super::*;
use crate::zone::SliceFacts;

fn zone() -> Zone {
    let mut zone = Zone::default();
    for namespace in ["default", "ns"] {
        zone.set_namespace(namespace, true);
    }
    let mut service = |name: &str, spec: serde_json::Value| {
        let service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        zone.set_service(("ns".into(), name.into()), ServiceFacts::new(&service));
    };
    service(
        "web",
        json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    );
    service(
        "db",
        json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
    );
    service("empty", json!({"clusterIP": "None"}));
    service(
        "out",
        json!({"type": "ExternalName", "externalName": "example.com"}),
    );
    service(
        "alias",
        json!({"type": "ExternalName", "externalName": "web.ns.svc.cluster.local"}),
    );
    service(
        "loop",
        json!({"type": "ExternalName", "externalName": "loop.ns.svc.cluster.local"}),
    );
    let slice = serde_json::from_value(json!({"addressType": "IPv4", "metadata": {},
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false}}]}))
    .unwrap();
    zone.set_slice(("ns".into(), "db".into()), "db-x", Some(SliceFacts::new(&slice)));
    zone
}

/// The answer in a few words.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    let domain = Name::from_ascii("cluster.local.").unwrap();
    let resolver = Resolver {
        zone,
        domain: &domain,
        serial: 1,
    };
    let show = |records: &[Record]| {
        let mut texts: Vec<String> = records.iter().map(|r| r.data.to_string()).collect();
        texts.sort();
        texts.join(", ")
    };
    match resolver.answer(&Name::from_ascii(name).unwrap(), kind) {
        Answer::Forward => "forward".into(),
        Answer::ForwardAlias { answers, target } => format!("{} -> {target}", show(&answers)),
        Answer::Records {
            code,
            answers,
            authorities,
            ..
        } if answers.is_empty() => {
            assert_eq!(authorities[0].record_type(), RecordType::SOA, "{name}");
            format!("{code:?}")
        }
        Answer::Records { answers, .. } => show(&answers),
    }
}

#[test]
fn every_name_of_the_schema_is_answered() {
    use RecordType as T;
    let zone = zone();
    let cases = [
        ("web.ns.svc.cluster.local.", T::A, "10.96.0.5"),
        ("WEB.Ns.svc.Cluster.Local.", T::A, "10.96.0.5"),
        ("web.ns.svc.cluster.local.", T::AAAA, "fd00::5"),
        ("web.ns.svc.cluster.local.", T::MX, "NoError"),
        (
            "_http._tcp.web.ns.svc.cluster.local.",
            T::SRV,
            "0 100 80 web.ns.svc.cluster.local.",
        ),
        ("_http._udp.web.ns.svc.cluster.local.", T::SRV, "NXDomain"),
        ("_tcp.web.ns.svc.cluster.local.", T::SRV, "NoError"),
        ("db.ns.svc.cluster.local.", T::A, "10.244.0.2, 10.244.0.3"),
        ("db.ns.svc.cluster.local.", T::AAAA, "NoError"),
        ("db-0.db.ns.svc.cluster.local.", T::A, "10.244.0.2"),
        ("10-244-0-3.db.ns.svc.cluster.local.", T::A, "10.244.0.3"),
        ("10-244-0-4.db.ns.svc.cluster.local.", T::A, "NXDomain"),
        (
            "_sql._tcp.db.ns.svc.cluster.local.",
            T::SRV,
            "0 50 5432 10-244-0-3.db.ns.svc.cluster.local., 0 50 5432 db-0.db.ns.svc.cluster.local.",
        ),
        ("empty.ns.svc.cluster.local.", T::A, "NXDomain"),
        ("out.ns.svc.cluster.local.", T::A, "example.com. -> example.com."),
        ("out.ns.svc.cluster.local.", T::CNAME, "example.com."),
        (
            "alias.ns.svc.cluster.local.",
            T::A,
            "10.96.0.5, web.ns.svc.cluster.local.",
        ),
        ("loop.ns.svc.cluster.local.", T::A, "ServFail"),
        ("none.ns.svc.cluster.local.", T::A, "NXDomain"),
        ("ns.svc.cluster.local.", T::A, "NoError"),
        ("absent.svc.cluster.local.", T::A, "NXDomain"),
        ("web.ns.svc.cluster.local.ns.svc.cluster.local.", T::A, "NXDomain"),
        ("10-244-0-9.ns.pod.cluster.local.", T::A, "10.244.0.9"),
        ("10-244-0-9.absent.pod.cluster.local.", T::A, "NXDomain"),
        ("nonsense.ns.pod.cluster.local.", T::A, "NXDomain"),
        ("dns-version.cluster.local.", T::TXT, "1.1.0"),
        ("5.0.96.10.in-addr.arpa.", T::PTR, "web.ns.svc.cluster.local."),
        (
            "2.0.244.10.in-addr.arpa.",
            T::PTR,
            "db-0.db.ns.svc.cluster.local.",
        ),
        ("9.9.9.9.in-addr.arpa.", T::PTR, "forward"),
        ("example.com.", T::A, "forward"),
        ("cluster.local.", T::NS, "ns.dns.cluster.local."),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn what_goes_is_forgotten() {
    let mut zone = zone();
    zone.set_slice(("ns".into(), "db".into()), "db-x", None);
    zone.set_service(("ns".into(), "web".into()), None);
    for (name, kind) in [
        ("db.ns.svc.cluster.local.", RecordType::A),
        ("web.ns.svc.cluster.local.", RecordType::A),
    ] {
        assert_eq!(ask(&zone, name, kind), "NXDomain", "{name}");
    }
    for name in ["5.0.96.10.in-addr.arpa.", "2.0.244.10.in-addr.arpa."] {
        assert_eq!(ask(&zone, name, RecordType::PTR), "forward", "{name}");
    }
}
