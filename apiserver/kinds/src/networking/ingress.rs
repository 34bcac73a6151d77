//! Ingress: HTTP rules from hosts and paths to Services.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};
use serde_json::json;

use crate::core::service::load_balancer_ingress;
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, set};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const HOSTS_SHOWN_MAX: usize = 3;
const BAD_IN_PATH: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const BAD_AT_END: &[&str] = &["/..", "/."];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    cells::text(
        "Hosts",
        "Hosts that incoming requests are matched against before the ingress rule",
    ),
    cells::text(
        "Address",
        "Address is a list containing ingress points for the load-balancer",
    ),
    cells::text("Ports", "Ports of TLS configurations that open"),
    cells::AGE,
];

pub struct Ingress;

impl Kind for Ingress {
    resource!("networking.k8s.io", "v1", "ingresses");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
        set::put(obj, "status", json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        self::spec(&mut e, &spec);
        let class = spec.child("ingressClassName");
        if !class.is_absent() {
            check::named(&mut e, &class, names::is_dns1123_subdomain);
        }
        if let (None, Some(annotation)) = (old, meta::annotation(new, CLASS_ANNOTATION))
            && !class.is_absent()
        {
            let at = crate::metadata::path()
                .child("annotations")
                .child(CLASS_ANNOTATION);
            e.invalid(&at, annotation, "can not be set when the class field is also set");
        }
        e
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && meta::annotation(new, CLASS_ANNOTATION).is_some() {
            warnings.push(format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        warnings
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let hosts: Vec<String> = cells::list(&spec["rules"])
            .iter()
            .filter_map(|rule| rule["host"].as_str())
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        let hosts = match hosts.as_slice() {
            [] => "*".to_owned(),
            hosts => cells::joined(hosts, HOSTS_SHOWN_MAX),
        };
        let addresses: Vec<&str> = cells::list(&obj["status"]["loadBalancer"]["ingress"])
            .iter()
            .filter_map(|i| {
                i["ip"]
                    .as_str()
                    .filter(|ip| !ip.is_empty())
                    .or(i["hostname"].as_str())
            })
            .collect();
        let ports = if cells::list(&spec["tls"]).is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            cells::name(obj),
            cells::or_none(spec["ingressClassName"].as_str().unwrap_or("")).into(),
            hosts.into(),
            addresses.join(",").into(),
            ports.into(),
            cells::age(obj, now),
        ]
    }
}

fn spec(e: &mut FieldErrors, spec: &Cursor) {
    let (rules, backend) = (spec.child("rules"), spec.child("defaultBackend"));
    if rules.is_empty() && backend.is_absent() {
        check::invalid(
            e,
            &Cursor::at(&json!([]), spec.path().clone()),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if !backend.is_absent() {
        self::backend(e, &backend);
    }
    for rule in rules.items() {
        let host = rule.child("host");
        if !host.str().is_empty() {
            if names::is_valid_ip(host.str()).is_empty() {
                check::invalid_str(e, &host, "must be a DNS name, not an IP address");
            }
            host_name(e, &host);
        }
        let http = rule.child("http");
        if http.is_absent() {
            continue;
        }
        let paths = http.child("paths");
        if paths.is_empty() {
            e.required(paths.path(), "");
        }
        for path in paths.items() {
            self::path(e, &path);
        }
    }
    for tls in spec.child("tls").items() {
        for host in tls.child("hosts").items() {
            host_name(e, &host);
        }
        let secret = tls.child("secretName");
        if !secret.str().is_empty() {
            check::named(e, &secret, names::is_dns1123_subdomain);
        }
    }
}

fn host_name(e: &mut FieldErrors, c: &Cursor) {
    match c.str().contains('*') {
        true => check::named(e, c, names::is_wildcard_dns1123_subdomain),
        false => check::named(e, c, names::is_dns1123_subdomain),
    }
}

fn path(e: &mut FieldErrors, c: &Cursor) {
    let (kind, path) = (c.child("pathType"), c.child("path"));
    match kind.str() {
        "" => e.required(kind.path(), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path.str().starts_with('/') {
                check::invalid_str(e, &path, "must be an absolute path");
            }
            for bad in BAD_IN_PATH.iter().filter(|bad| path.str().contains(**bad)) {
                check::invalid_str(e, &path, format!("must not contain '{bad}'"));
            }
            for bad in BAD_AT_END.iter().filter(|bad| path.str().ends_with(**bad)) {
                check::invalid_str(e, &path, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.str().is_empty() && !path.str().starts_with('/') {
                check::invalid_str(e, &path, "must be an absolute path");
            }
        }
        other => e.not_supported(kind.path(), other, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(e, &c.child("backend"));
}

fn backend(e: &mut FieldErrors, c: &Cursor) {
    let (service, object) = (c.child("service"), c.child("resource"));
    match (service.is_absent(), object.is_absent()) {
        (false, false) => e.invalid(c.path(), "", "cannot set both resource and service backends"),
        (true, true) => e.required(c.path(), "resource or service backend is required"),
        (true, false) => {
            check::required(e, &object.child("kind"));
            check::required(e, &object.child("name"));
        }
        (false, true) => {
            let name = service.child("name");
            check::required_name(e, &name, names::is_dns1035_label);
            let port = service.child("port");
            match (port.child("name").is_zero(), port.child("number").is_zero()) {
                (false, false) => {
                    e.invalid(port.path(), "", "cannot set both port name & port number");
                }
                (true, true) => e.required(port.path(), "port name or number is required"),
                (false, true) => check::named(e, &port.child("name"), names::is_valid_port_name),
                (true, false) => check::port(e, &port.child("number")),
            }
        }
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let ingress = Cursor::root(new)
            .child("status")
            .child("loadBalancer")
            .child("ingress");
        load_balancer_ingress(e, &ingress, false);
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;

    fn ingress(spec: Value) -> Value {
        json!({"metadata": {"name": "i", "namespace": "d"}, "spec": spec})
    }

    #[test]
    fn invalid() {
        let path = |path: Value| ingress(json!({"rules": [{"host": "a.b", "http": {"paths": [path]}}]}));
        let service = json!({"service": {"name": "s", "port": {"number": 80}}});
        let table = [
            (
                path(json!({"path": "/", "pathType": "Prefix", "backend": service})),
                vec![],
            ),
            (
                ingress(json!({})),
                vec!["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
            ),
            (
                path(json!({"path": "x", "pathType": "Exact", "backend": service})),
                vec!["spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"],
            ),
            (
                path(json!({"path": "/", "backend": {"service": {"name": "s"}}})),
                vec![
                    "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                    "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
                ],
            ),
        ];
        for (obj, expected) in table {
            assert_eq!(create(&Ingress, obj.clone()), expected, "{obj}");
        }
    }
}
