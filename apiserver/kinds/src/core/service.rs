//! Service: defaults, strategy and validation. Addresses and node ports are allocated elsewhere.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};
use serde_json::json;

use super::endpoints::non_special_ip;
use super::service_ips as ips;
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, set};

const AFFINITY_S_DEFAULT: i64 = 10800;
const AFFINITY_S_MAX: i64 = 86400;
const LB_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Type", "type determines how the Service is exposed."),
    cells::text(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly.",
    ),
    cells::text(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
    ),
    cells::text("Port(s)", "The list of ports that are exposed by this service."),
    cells::AGE,
    cells::wide(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector.",
    ),
];

const FIELDS: &[Name] = &[Name::Borrowed("spec.clusterIP"), Name::Borrowed("spec.type")];

pub struct Service;

impl Kind for Service {
    resource!("", "v1", "services");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::zero(spec, "sessionAffinity", "None");
        if spec["sessionAffinity"] == "None" {
            set::remove(spec, "sessionAffinityConfig");
        } else if spec["sessionAffinity"] == "ClientIP" {
            let client = set::object(set::object(spec, "sessionAffinityConfig"), "clientIP");
            set::absent(client, "timeoutSeconds", AFFINITY_S_DEFAULT);
        }
        set::zero(spec, "type", "ClusterIP");
        for port in set::items(spec, "ports") {
            set::zero(port, "protocol", "TCP");
            let number = port["port"].clone();
            set::zero(port, "targetPort", number);
        }
        if externally_accessible(spec) {
            set::zero(spec, "externalTrafficPolicy", "Cluster");
        }
        if spec["type"] != "ExternalName" {
            set::absent(spec, "internalTrafficPolicy", "Cluster");
        }
        if spec["type"] == "LoadBalancer" {
            set::absent(spec, "allocateLoadBalancerNodePorts", true);
            let status = set::object(obj, "status");
            for ingress in set::items(set::object(status, "loadBalancer"), "ingress") {
                if !set::is_zero(&ingress["ip"]) {
                    set::absent(ingress, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", json!({"loadBalancer": {}}));
        let spec = set::object(obj, "spec");
        ips::normalize(spec, None);
        ips::set_families(spec);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
        let spec = set::object(new, "spec");
        ips::normalize(spec, Some(&old["spec"]));
        ips::keep_allocated(spec, &old["spec"]);
        ips::drop_by_type(spec, &old["spec"]);
        ips::set_families(spec);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1035_label);
        let service = Cursor::root(new);
        if let Some(old) = old {
            ips::update(&mut e, &service.child("spec"), &old["spec"]);
        }
        spec(&mut e, &service.child("spec"));
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if new["metadata"]["annotations"]["service.kubernetes.io/topology-aware-hints"].is_string() {
            warnings.push(
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
                 service.kubernetes.io/topology-mode instead"
                    .to_owned(),
            );
        }
        if new["spec"]["clusterIPs"][0] == "None" {
            for key in ["loadBalancerIP", "externalIPs"] {
                if !set::is_zero(&new["spec"][key]) {
                    warnings.push(format!("spec.{key} is ignored when spec.clusterIP is \"None\""));
                }
            }
        }
        if new["spec"]["type"] == "ExternalName" && !set::is_zero(&new["spec"]["externalIPs"]) {
            warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        warnings
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, true);
        for (name, key) in FIELDS.iter().zip(["clusterIP", "type"]) {
            fields.push((name.clone(), obj["spec"][key].as_str().unwrap_or("").to_owned()));
        }
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let internal = match spec["clusterIPs"][0].as_str().or(spec["clusterIP"].as_str()) {
            Some(ip) if !ip.is_empty() => ip,
            _ => "<none>",
        };
        vec![
            cells::name(obj),
            spec["type"].clone(),
            internal.into(),
            external_ip(obj).into(),
            ports_text(spec).into(),
            cells::age(obj, now),
            cells::labels(&spec["selector"]).into(),
        ]
    }
}

fn external_ip(obj: &Value) -> String {
    let spec = &obj["spec"];
    let texts = |list: &Value| -> Vec<String> {
        cells::list(list)
            .iter()
            .filter_map(|ip| ip.as_str().map(str::to_owned))
            .collect()
    };
    let external = texts(&spec["externalIPs"]);
    match spec["type"].as_str().unwrap_or("") {
        "ClusterIP" | "NodePort" => cells::or_none(&external.join(",")),
        "ExternalName" => spec["externalName"].as_str().unwrap_or("").to_owned(),
        "LoadBalancer" => {
            let mut all: Vec<String> = cells::list(&obj["status"]["loadBalancer"]["ingress"])
                .iter()
                .filter_map(|i| {
                    i["ip"]
                        .as_str()
                        .filter(|ip| !ip.is_empty())
                        .or(i["hostname"].as_str())
                })
                .map(str::to_owned)
                .collect();
            all.extend(external);
            match all.as_slice() {
                [] => "<pending>".to_owned(),
                all => all.join(","),
            }
        }
        _ => "<unknown>".to_owned(),
    }
}

fn ports_text(spec: &Value) -> String {
    let parts: Vec<String> = cells::list(&spec["ports"])
        .iter()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("");
            match port["nodePort"].as_i64().unwrap_or(0) {
                0 => format!("{}/{protocol}", cells::int(&port["port"])),
                node => format!("{}:{node}/{protocol}", cells::int(&port["port"])),
            }
        })
        .collect();
    cells::or_none(&parts.join(","))
}

/// Reachable from outside: by node ports, a load balancer or external addresses.
pub fn externally_accessible(spec: &Value) -> bool {
    match spec["type"].as_str().unwrap_or("") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !cells::list(&spec["externalIPs"]).is_empty(),
        _ => false,
    }
}

/// A load balancer that keeps client addresses asks nodes which of them have endpoints.
pub fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn spec(e: &mut FieldErrors, c: &Cursor) {
    by_type(e, c);
    let ports = c.child("ports");
    let headless = ips::is_headless(c.value());
    if ports.is_empty() && !headless && c.child("type").str() != "ExternalName" {
        e.required(ports.path(), "");
    }
    for port in ports.items() {
        self::port(e, &port, ports.len() > 1);
    }
    check::unique(e, &ports, "name");
    check::labels(e, &c.child("selector"));
    session_affinity(e, c);
    ips::fields(e, c);
    for ip in c.child("externalIPs").items() {
        let before = e.0.len();
        check::named(e, &ip, names::is_valid_ip);
        if e.0.len() == before {
            non_special_ip(e, &ip);
        }
    }
    check::one_of(
        e,
        &c.child("type"),
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    duplicates(e, &ports);
    load_balancer(e, c);
    traffic(e, c);
}

fn by_type(e: &mut FieldErrors, c: &Cursor) {
    let kind = c.child("type").str();
    let first = c.child("clusterIPs").path().index(0);
    match kind {
        "LoadBalancer" | "NodePort" if ips::is_headless(c.value()) => {
            e.invalid(
                &first,
                "None",
                format!("may not be set to 'None' for {kind} services"),
            );
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !c.child(key).is_zero() {
                    e.forbidden(c.child(key).path(), "may not be set for ExternalName services");
                }
            }
            let name = c.child("externalName");
            let cname = name.str().strip_suffix('.').unwrap_or(name.str());
            if cname.is_empty() {
                e.required(name.path(), "");
            }
            for message in Some(cname)
                .filter(|n| !n.is_empty())
                .map_or_else(Vec::new, names::is_dns1123_subdomain)
            {
                e.invalid(name.path(), cname, message);
            }
        }
        _ => {}
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
    check::port_or_name(e, &c.child("targetPort"));
    let app = c.child("appProtocol");
    if !app.is_absent() {
        check::label_name(e, &app);
    }
}

fn session_affinity(e: &mut FieldErrors, c: &Cursor) {
    let (affinity, config) = (c.child("sessionAffinity"), c.child("sessionAffinityConfig"));
    check::one_of(e, &affinity, &["ClientIP", "None"]);
    if affinity.str() == "None" && !config.is_absent() {
        e.forbidden(config.path(), "must not be set when session affinity is None");
    }
    if affinity.str() == "ClientIP" {
        let timeout = config.child("clientIP").child("timeoutSeconds");
        match timeout.i64() {
            None => e.required(timeout.path(), "when session affinity type is ClientIP"),
            Some(value) if !(1..=AFFINITY_S_MAX).contains(&value) => {
                let detail = format!("must be greater than 0 and less than {AFFINITY_S_MAX}");
                check::invalid_int(e, &timeout, detail);
            }
            Some(_) => {}
        }
    }
}

fn duplicates(e: &mut FieldErrors, ports: &Cursor) {
    let cluster = |key: &str| {
        let mut seen: Vec<(String, i64)> = Vec::new();
        ports
            .items()
            .filter_map(|port| {
                let number = port.child(key).i64().filter(|n| *n != 0)?;
                let pair = (port.child("protocol").str().to_owned(), number);
                let again = seen.contains(&pair);
                seen.push(pair);
                again.then_some(port)
            })
            .collect::<Vec<_>>()
    };
    for port in cluster("nodePort") {
        let node = port.child("nodePort");
        e.duplicate(node.path(), node.value().clone());
    }
    for port in cluster("port") {
        let shown = json!({"protocol": port.child("protocol").str(), "port": port.child("port").value(),
            "targetPort": 0});
        e.duplicate(port.path(), shown);
    }
}

fn load_balancer(e: &mut FieldErrors, c: &Cursor) {
    let is_lb = c.child("type").str() == "LoadBalancer";
    if c.child("type").str() == "ClusterIP" {
        for port in c.child("ports").items() {
            if !port.child("nodePort").is_zero() {
                e.forbidden(
                    port.child("nodePort").path(),
                    "may not be used when `type` is 'ClusterIP'",
                );
            }
        }
    }
    let ranges = c.child("loadBalancerSourceRanges");
    // Upstream's path has the Go name.
    let ranges = Cursor::at(ranges.value(), c.path().child("LoadBalancerSourceRanges"));
    if !ranges.is_empty() && !is_lb {
        e.forbidden(ranges.path(), LB_ONLY);
    }
    for range in ranges.items() {
        let trimmed: Value = range.str().trim().into();
        check::cidr(e, &Cursor::at(&trimmed, range.path().clone()));
    }
    let allocate = c.child("allocateLoadBalancerNodePorts");
    match (is_lb, allocate.is_absent()) {
        (false, false) => e.forbidden(allocate.path(), LB_ONLY),
        (true, true) => e.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    let class = c.child("loadBalancerClass");
    match (is_lb, class.is_absent()) {
        (true, false) => check::label_name(e, &class),
        (false, false) => e.forbidden(class.path(), LB_ONLY),
        _ => {}
    }
}

fn traffic(e: &mut FieldErrors, c: &Cursor) {
    let (external, health) = (c.child("externalTrafficPolicy"), c.child("healthCheckNodePort"));
    if externally_accessible(c.value()) {
        check::one_of(e, &external, &["Cluster", "Local"]);
    } else if !external.str().is_empty() {
        check::invalid_str(e, &external, "may only be set for externally-accessible services");
    }
    if !needs_health_check(c.value()) && !health.is_zero() {
        check::invalid_int(
            e,
            &health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    } else if !health.is_zero() {
        check::port(e, &health);
    }
    let internal = c.child("internalTrafficPolicy");
    if internal.is_absent() && ["ClusterIP", "LoadBalancer", "NodePort"].contains(&c.child("type").str()) {
        e.required(internal.path(), "");
    }
    check::one_of_or_absent(e, &internal, &["Cluster", "Local"]);
    check::one_of_or_absent(
        e,
        &c.child("trafficDistribution"),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let ingress = Cursor::root(new)
            .child("status")
            .child("loadBalancer")
            .child("ingress");
        if new["spec"]["type"] != "LoadBalancer" && !ingress.is_empty() {
            e.forbidden(
                ingress.path(),
                "may only be used when `spec.type` is 'LoadBalancer'",
            );
            return;
        }
        load_balancer_ingress(e, &ingress, true);
    },
};

/// `ingress` of a load balancer's status, also of Ingress objects (which have no `ipMode`).
pub fn load_balancer_ingress(e: &mut FieldErrors, list: &Cursor, has_mode: bool) {
    for ingress in list.items() {
        let (ip, mode, host) = (
            ingress.child("ip"),
            ingress.child("ipMode"),
            ingress.child("hostname"),
        );
        if !ip.str().is_empty() {
            check::named(e, &ip, names::is_valid_ip);
            if has_mode && mode.is_absent() {
                e.required(mode.path(), "must be specified when `ip` is set");
            }
        } else if !mode.is_absent() {
            e.forbidden(mode.path(), "may not be specified when `ip` is not set");
        }
        check::one_of_or_absent(e, &mode, &["Proxy", "VIP"]);
        if !host.str().is_empty() {
            check::named(e, &host, names::is_dns1123_subdomain);
            if names::is_valid_ip(host.str()).is_empty() {
                check::invalid_str(e, &host, "must be a DNS name, not an IP address");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};

    fn web(spec: Value) -> Value {
        json!({"metadata": {"name": "web", "namespace": "d"}, "spec": spec})
    }

    #[test]
    fn defaults() {
        let mut obj = web(json!({"ports": [{"port": 80}]}));
        Service.set_defaults(&mut obj);
        Service.prepare_create(&mut obj);
        assert_eq!(
            obj["spec"],
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack"})
        );
        assert_eq!(obj["status"], json!({"loadBalancer": {}}));
    }

    #[test]
    fn invalid() {
        let table = [
            (json!({}), vec!["spec.ports: Required value"]),
            (
                json!({"ports": [{"port": 0}]}),
                vec![
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                json!({"ports": [{"port": 80}, {"port": 81}]}),
                vec![
                    "spec.ports[0].name: Required value",
                    "spec.ports[1].name: Required value",
                ],
            ),
            (
                json!({"type": "ExternalName"}),
                vec!["spec.externalName: Required value"],
            ),
            (
                json!({"type": "X", "ports": [{"port": 80}]}),
                vec![
                    "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \
                     \"LoadBalancer\", \"NodePort\"",
                ],
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(create(&Service, web(spec.clone())), expected, "{spec}");
        }
    }

    #[test]
    fn cluster_ip_is_kept_and_fixed() {
        let old =
            web(json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}));
        let same = web(json!({"ports": [{"port": 81}]}));
        assert_eq!(update(&Service, same, old.clone()), Vec::<String>::new());
        let other = web(json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.8"}));
        assert_eq!(
            update(&Service, other, old),
            ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]
        );
    }

    #[test]
    fn rows() {
        let obj = web(
            json!({"type": "NodePort", "clusterIP": "10.96.0.7", "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}),
        );
        let row = Service.cells(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(row[3], "<none>");
        assert_eq!(row[4], "80:30080/TCP");
        assert_eq!(row[6], "app=web");
    }
}
