//! The `proxy` subresource of pods, services and nodes: `[scheme:]name[:port]` and a path.

use std::sync::Arc;

use keelson_machinery::{GroupResource, ObjectReader, Status, Value, meta};
use keelson_streams::{Backend, Tls};
use rand::seq::IndexedRandom;

use super::kubelet::any_server;
use crate::context::Context;
use crate::server::Server;
use crate::verbs::{Target, method_not_allowed};
use crate::wire::{Body, Response};

const PODS: GroupResource = GroupResource::new("", "pods");
const SERVICES: GroupResource = GroupResource::new("", "services");
const SLICES: GroupResource = GroupResource::new("discovery.k8s.io", "endpointslices");

/// A proxy request's name: which scheme, object and port.
#[derive(Debug, PartialEq)]
struct Place<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

/// Splits `[scheme:]name[:port]`.
fn split(id: &str) -> Option<Place<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    match parts[..] {
        [name] => Some(Place {
            scheme: "",
            name,
            port: "",
        }),
        [name, port] => Some(Place {
            scheme: "",
            name,
            port,
        }),
        [scheme @ ("http" | "https" | ""), name, port] => Some(Place { scheme, name, port }),
        _ => None,
    }
}

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let place = split(&target.name).ok_or_else(|| {
        Status::bad_request(format!(
            "invalid {} request {:?}",
            target.served.info.singular, target.name
        ))
    })?;
    server.progress.wait_current().await?;
    let backend = match target.served.info.resource.as_ref() {
        "pods" => pod(server, target, &place)?,
        "services" => service(server, target, &place)?,
        "nodes" => server.kubelets.backend(&*server.reader, place.name)?,
        _ => return Err(method_not_allowed()),
    };
    let (mount, rest) = mount(context.parts.uri.path());
    let query = context
        .parts
        .uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let (mount, path_and_query) = (mount.to_owned(), format!("{rest}{query}"));
    let onward = keelson_streams::Target {
        backend,
        path_and_query,
    };
    let answer = keelson_streams::proxy(super::request(context), onward, &mount).await?;
    Ok(answer.map(Body::wrap))
}

/// The path up to and including `/proxy`, and what follows, as sent.
fn mount(path: &str) -> (&str, &str) {
    match path.find("/proxy/") {
        Some(at) => path.split_at(at + "/proxy".len()),
        None => (path, ""),
    }
}

fn with_scheme(scheme: &str, host: String, port: u16) -> Result<Backend, Status> {
    let tls = match scheme {
        "https" => Some(Tls {
            config: any_server().map_err(|error| Status::internal(error.to_string()))?,
            server_name: None,
        }),
        _ => None,
    };
    Ok(Backend { host, port, tls })
}

fn pod(server: &Server, target: &Target, place: &Place<'_>) -> Result<Backend, Status> {
    let pod = server
        .reader
        .get(&PODS, Some(&target.namespace), place.name)
        .ok_or_else(|| Status::not_found(&PODS, place.name))?;
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    if ip.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    let port = match place.port {
        "" => first_port(&pod).unwrap_or(80),
        text => text
            .parse()
            .ok()
            .or_else(|| named_port(&pod, text))
            .ok_or_else(|| {
                Status::service_unavailable(format!("no port {text:?} in pod {:?}", place.name))
            })?,
    };
    with_scheme(place.scheme, ip.to_owned(), port)
}

fn container_ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.flat_map(|container| container["ports"].as_array().into_iter().flatten())
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

fn first_port(pod: &Value) -> Option<u16> {
    container_ports(pod).find_map(|port| number(&port["containerPort"]))
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    container_ports(pod)
        .find(|port| port["name"] == name)
        .and_then(|port| number(&port["containerPort"]))
}

fn service(server: &Server, target: &Target, place: &Place<'_>) -> Result<Backend, Status> {
    let service = server
        .reader
        .get(&SERVICES, Some(&target.namespace), place.name)
        .ok_or_else(|| Status::not_found(&SERVICES, place.name))?;
    let slices = server.reader.list(&SLICES, Some(&target.namespace));
    let mut ready = endpoints(&slices, place.name, port_name(&service, place.port));
    ready.retain(|(_, port)| *port != 0);
    match ready.choose(&mut rand::rng()) {
        Some((host, port)) => with_scheme(place.scheme, host.clone(), *port),
        None => Err(Status::service_unavailable(format!(
            "no endpoints available for service {:?}",
            place.name
        ))),
    }
}

/// The name of the port asked for, by name or number; the first where none is.
fn port_name<'a>(service: &'a Value, asked: &'a str) -> &'a str {
    let ports = service["spec"]["ports"].as_array();
    let found = ports.into_iter().flatten().find(|port| {
        asked.is_empty() || port["name"] == asked || port["port"].as_u64() == asked.parse().ok()
    });
    found.map_or(asked, |port| port["name"].as_str().unwrap_or_default())
}

fn endpoints(slices: &[Arc<Value>], service: &str, port: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        if meta::label(slice, "kubernetes.io/service-name") != Some(service) {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let Some(number) = ports
            .filter(|one| one["name"].as_str().unwrap_or_default() == port)
            .find_map(|one| number(&one["port"]))
        else {
            continue;
        };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        for endpoint in endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false) {
            if let Some(address) = endpoint["addresses"][0].as_str() {
                found.push((address.to_owned(), number));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_carry_scheme_and_port() {
        for (id, want) in [
            ("a", Some(("", "a", ""))),
            ("a:80", Some(("", "a", "80"))),
            ("https:a:web", Some(("https", "a", "web"))),
            ("http:a:", Some(("http", "a", ""))),
            ("ftp:a:1", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(
                split(id).map(|place| (place.scheme, place.name, place.port)),
                want,
                "{id}"
            );
        }
    }

    #[test]
    fn only_ready_endpoints_of_the_service_are_used() {
        let slice = Arc::new(json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            ],
        }));
        let found = endpoints(&[slice], "web", "http");
        assert_eq!(found, [("10.0.0.1".to_owned(), 8080)]);
    }
}
