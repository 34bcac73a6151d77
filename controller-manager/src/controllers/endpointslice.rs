//! EndpointSlice controller: the pods behind each Service, in slices of at most 100 endpoints.
//!
//! Endpoints are grouped by the ports they resolve to. Existing slices keep their endpoints where they are; what is
//! new fills slices that change anyway, then those with room, then new slices. An address family without endpoints
//! keeps one empty slice. Left out: topology hints by CPU share (`trafficDistribution` is honoured), trigger times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::limits::ENDPOINTS_PER_SLICE_MAX;
use crate::{owner, pods, selector, triggers};

const NAME: &str = "endpointslice-controller";
/// Label that names the controller that keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of slices and Endpoints of services without a cluster IP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Index of slices by their service.
const INDEX: &str = "service";

/// Starts the controller.
pub fn start(context: &Context) {
    let services = context.informer::<Service>();
    let pods = context.informer::<Pod>();
    let slices = context.informer::<EndpointSlice>();
    let nodes = context.informer::<Node>();
    slices.add_index(INDEX, by_service);
    let queue = Queue::default();
    triggers::on_self(&services, &queue);
    on_pods(&services, &pods, &queue);
    let changed = queue.clone();
    slices.on(move |event| {
        if is_ours(event.object()) {
            by_service(event.object())
                .iter()
                .filter_map(|v| v.split_once('/'))
                .for_each(|(namespace, name)| changed.add(Key::new(namespace, name)));
        }
    });
    let workers = context.config.concurrent.service_endpoint_syncs;
    let controller = Slices {
        services,
        pods,
        slices,
        nodes,
    };
    context.run(Arc::new(controller), queue, NAME, workers);
}

/// Pods that come, go, or change in what an endpoint shows queue the services that select them, before or after.
pub fn on_pods(services: &Informer<Service>, pods: &Informer<Pod>, queue: &Queue<Key>) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.on(move |event| {
        let (before, after) = match event {
            Event::Modified { old, new } if shows_same(old, new) => return,
            Event::Modified { old, new } => (Some(old), new),
            Event::Added(new) | Event::Deleted(new) => (None, new),
        };
        let namespace = after.metadata.namespace.as_deref().unwrap_or_default();
        for service in services.list_namespace(namespace) {
            let selected = |pod: &Pod| selects(&service, pod);
            if selected(after) || before.is_some_and(|pod| selected(pod)) {
                queue.add(Key::of(service.as_ref()));
            }
        }
    });
}

fn shows_same(old: &Pod, new: &Pod) -> bool {
    let addresses = |pod: &Pod| pod.status.as_ref().and_then(|s| s.pod_ips.clone());
    old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
        && pods::is_ready(old) == pods::is_ready(new)
        && pods::phase(old) == pods::phase(new)
        && pods::node_name(old) == pods::node_name(new)
        && addresses(old) == addresses(new)
        && old.spec.as_ref().map(|s| (&s.hostname, &s.subdomain))
            == new.spec.as_ref().map(|s| (&s.hostname, &s.subdomain))
}

/// Whether a service with a selector selects a pod.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && selector::matches_map(s, pod.metadata.labels.as_ref()))
}

fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    labels
        .and_then(|labels| labels.get(SERVICE_NAME))
        .map(|service| format!("{namespace}/{service}"))
        .into_iter()
        .collect()
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

struct Slices {
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
}

impl Controller for Slices {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(service) = self.services.get_key(key) else {
            // The slices are the service's dependents: the garbage collector's work.
            return Plan::nothing();
        };
        let pods = self.pods.list_namespace(&key.namespace);
        let slices = self.slices.by_index(INDEX, &key.to_string());
        let seen = Observed {
            service: &service,
            pods: pods.into_iter().filter(|pod| selects(&service, pod)).collect(),
            slices: slices.into_iter().filter(|slice| is_ours(slice)).collect(),
            zone: &|node| {
                let node = self.nodes.get("", node)?;
                node.metadata.labels.as_ref()?.get(ZONE).cloned()
            },
        };
        reconcile(&seen)
    }
}

/// What a reconcile looks at.
struct Observed<'a> {
    service: &'a Service,
    /// The pods it selects.
    pods: Vec<Arc<Pod>>,
    /// The slices this controller made for it.
    slices: Vec<Arc<EndpointSlice>>,
    /// The zone of a node.
    zone: &'a dyn Fn(&str) -> Option<String>,
}

fn reconcile(seen: &Observed) -> Plan {
    let Some(spec) = &seen.service.spec else {
        return Plan::nothing();
    };
    let selects_none = spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    if selects_none || spec.type_.as_deref() == Some("ExternalName") {
        return Plan::nothing();
    }
    let families = address_types(seen.service);
    let mut actions = Vec::new();
    for family in &families {
        let existing: Vec<_> = seen
            .slices
            .iter()
            .filter(|s| s.address_type == *family)
            .cloned()
            .collect();
        actions.extend(family_actions(seen, family, existing));
    }
    let stale = seen
        .slices
        .iter()
        .filter(|slice| !families.contains(&slice.address_type.as_str()));
    actions.extend(stale.map(|slice| Action::delete(slice.as_ref())));
    let key = Key::of(seen.service);
    let message = format!("Error updating Endpoint Slices for Service {key}: {{error}}");
    let note = Note::warning(seen.service, "FailedToUpdateEndpointSlices", message);
    Plan::of(
        actions
            .into_iter()
            .map(|action| action.on_failure(note.clone()))
            .collect(),
    )
}

fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let types: BTreeSet<&'static str> = families
        .into_iter()
        .flatten()
        .map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if types.is_empty() {
        vec!["IPv4"]
    } else {
        types.into_iter().collect()
    }
}

/// Endpoints by the ports they resolve to. Ports as JSON order and compare as a whole.
type ByPorts = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

fn family_actions(seen: &Observed, family: &str, existing: Vec<Arc<EndpointSlice>>) -> Vec<Action> {
    let mut wanted = wanted_endpoints(seen, family);
    if wanted.is_empty() {
        wanted.insert(ports_key(&[]), (Vec::new(), Vec::new()));
    }
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let key = ports_key(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(key).or_default().push(slice);
    }
    let mut actions = Vec::new();
    for (key, (ports, endpoints)) in wanted {
        let slices = by_ports.remove(&key).unwrap_or_default();
        actions.extend(ports_actions(seen.service, family, &ports, endpoints, slices));
    }
    for slice in by_ports.into_values().flatten() {
        actions.push(Action::delete(slice.as_ref()));
    }
    actions
}

/// Fits endpoints of one set of ports into slices: kept in place, then filled up, then new.
fn ports_actions(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut missing: BTreeMap<String, Endpoint> = endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    // A service without endpoints keeps its first slice, empty.
    let keep_one = missing.is_empty();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    for slice in slices {
        let before = slice.endpoints.clone().unwrap_or_default();
        let after: Vec<Endpoint> = before
            .iter()
            .filter_map(|e| missing.remove(&identity(e)))
            .collect();
        let changed = after != before || labels_of(service) != slice.metadata.labels;
        kept.push((slice, after, changed));
    }
    let mut missing: Vec<Endpoint> = missing.into_values().collect();
    // Slices that change anyway take new endpoints first.
    kept.sort_by_key(|(_, endpoints, changed)| (!*changed, std::cmp::Reverse(endpoints.len())));
    for (_, endpoints, changed) in &mut kept {
        let room = ENDPOINTS_PER_SLICE_MAX
            .saturating_sub(endpoints.len())
            .min(missing.len());
        if room > 0 && (*changed || missing.len() <= room) {
            endpoints.extend(missing.drain(..room));
            *changed = true;
        }
    }
    let mut actions = Vec::new();
    let mut empty_left = keep_one;
    for (slice, endpoints, changed) in kept {
        if endpoints.is_empty() && !std::mem::take(&mut empty_left) {
            actions.push(Action::delete(slice.as_ref()));
        } else if changed {
            let mut updated = slice.as_ref().clone();
            updated.metadata.labels = labels_of(service);
            updated.endpoints = Some(endpoints);
            actions.push(Action::update(&updated));
        }
    }
    let placeholder = empty_left.then(|| new_slice(service, family, ports, Vec::new()));
    let chunks = missing.chunks(ENDPOINTS_PER_SLICE_MAX);
    let created = chunks.map(|chunk| new_slice(service, family, ports, chunk.to_vec()));
    actions.extend(created.chain(placeholder).map(|slice| Action::create(&slice)));
    actions
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            labels: labels_of(service),
            generate_name: Some(format!(
                "{}-",
                service.metadata.name.as_deref().unwrap_or_default()
            )),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![owner::reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}

/// The service's labels and our own.
fn labels_of(service: &Service) -> Option<selector::Labels> {
    let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
    let mut labels: selector::Labels = service
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| !reserved.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Some(labels)
}

/// Whether a service has no cluster IP.
pub fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    matches!(ip, None | Some("None" | ""))
}

fn ports_key(ports: &[EndpointPort]) -> String {
    let mut parts: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}/{}/{:?}/{}",
                port.name.as_deref().unwrap_or_default(),
                port.protocol.as_deref().unwrap_or("TCP"),
                port.port,
                port.app_protocol.as_deref().unwrap_or_default()
            )
        })
        .collect();
    parts.sort();
    parts.join(",")
}

/// What makes an endpoint the same one: its pod and address.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|r| r.uid.as_deref());
    format!("{}/{}", uid.unwrap_or_default(), endpoint.addresses.join(","))
}

fn wanted_endpoints(seen: &Observed, family: &str) -> ByPorts {
    let mut wanted = ByPorts::new();
    for pod in &seen.pods {
        let Some(address) = address(pod, family).filter(|_| !pods::is_finished(pod)) else {
            continue;
        };
        let ports = ports_of(seen.service, pod);
        let endpoint = endpoint(seen, pod, address);
        let entry = wanted
            .entry(ports_key(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        entry.1.push(endpoint);
    }
    wanted
}

/// The pod's address of a family.
pub fn address(pod: &Pod, family: &str) -> Option<String> {
    let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
    let v6 = family == "IPv6";
    ips.iter()
        .map(|ip| ip.ip.clone())
        .find(|ip| ip.contains(':') == v6)
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, pod)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// The number a service port's target means in a pod; `None` when the pod has no port of that name.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut declared = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    declared
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

fn endpoint(seen: &Observed, pod: &Pod, address: String) -> Endpoint {
    let spec = seen.service.spec.as_ref();
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let publish_unready = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let ready = publish_unready || (serving && !terminating);
    let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty());
    let zone = node.and_then(seen.zone);
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(
            spec.and_then(|s| s.traffic_distribution.as_deref()),
            ready,
            zone.as_deref(),
            node,
        ),
        hostname: hostname(seen.service, pod),
        node_name: node.map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        deprecated_topology: None,
    }
}

/// Where traffic to an endpoint should come from (KEP-3015).
fn hints(
    distribution: Option<&str>,
    ready: bool,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let by_zone = matches!(
        distribution,
        Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
    );
    if !ready || !by_zone {
        return None;
    }
    let name = str::to_owned;
    Some(EndpointHints {
        for_zones: zone.map(|zone| vec![ForZone { name: name(zone) }]),
        for_nodes: node
            .filter(|_| distribution == Some("PreferSameNode"))
            .map(|node| vec![ForNode { name: name(node) }]),
    })
}

/// The host name a pod has in a service that is its subdomain.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same =
        spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname
        .clone()
        .filter(|hostname| same && !hostname.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP, PodSpec, PodStatus, ServiceSpec};
    use keelson_controller::Verb;

    fn pod(number: usize, ready: bool) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(format!("p{number}")),
                uid: Some(format!("u{number}")),
                labels: Some([("app".to_owned(), "web".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some("n1".into()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some("Running".into()),
                pod_ips: Some(vec![PodIP {
                    ip: format!("10.0.{}.{}", number / 250, number % 250),
                }]),
                conditions: ready.then(|| {
                    vec![PodCondition {
                        type_: "Ready".into(),
                        status: "True".into(),
                        ..PodCondition::default()
                    }]
                }),
                ..PodStatus::default()
            }),
        })
    }

    fn service() -> Service {
        Service {
            metadata: ObjectMeta {
                name: Some("web".into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                cluster_ip: Some("10.96.0.5".into()),
                ports: Some(vec![ServicePort {
                    port: 80,
                    target_port: Some(IntOrString::Int(8080)),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn decide(service: &Service, pods: Vec<Arc<Pod>>, slices: Vec<Arc<EndpointSlice>>) -> Plan {
        reconcile(&Observed {
            service,
            pods,
            slices,
            zone: &|_| Some("z1".into()),
        })
    }

    fn made(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
        let bodies = plan.actions.iter().filter(|a| a.verb != Verb::Delete);
        bodies
            .map(|a| Arc::new(serde_json::from_value(a.body.clone()).unwrap()))
            .collect()
    }

    #[test]
    fn slices_hold_a_hundred() {
        let plan = decide(&service(), (0..250).map(|n| pod(n, true)).collect(), vec![]);
        let sizes: Vec<usize> = made(&plan)
            .iter()
            .map(|s| s.endpoints.as_ref().unwrap().len())
            .collect();
        assert_eq!(sizes, [100, 100, 50]);
        let first = &made(&plan)[0];
        assert_eq!(first.ports.as_ref().unwrap()[0].port, Some(8080));
        assert_eq!(first.metadata.labels.as_ref().unwrap()[SERVICE_NAME], "web");
    }

    #[test]
    fn settled_slices_are_left_alone_and_changes_stay_local() {
        let pods: Vec<_> = (0..150).map(|n| pod(n, true)).collect();
        let slices = made(&decide(&service(), pods.clone(), vec![]));
        assert!(
            decide(&service(), pods.clone(), slices.clone())
                .actions
                .is_empty()
        );
        let mut fewer = pods.clone();
        fewer[0] = pod(0, false);
        let plan = decide(&service(), fewer, slices.clone());
        assert_eq!(plan.actions.len(), 1, "only the slice of the pod that changed");
        let mut more = pods;
        more.push(pod(900, true));
        let plan = decide(&service(), more, slices);
        assert_eq!(plan.actions.len(), 1);
        assert_eq!(plan.actions[0].body["endpoints"].as_array().unwrap().len(), 51);
    }

    #[test]
    fn readiness_shows() {
        let mut leaving = pod(1, true).as_ref().clone();
        leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH,
        ));
        let plan = decide(&service(), vec![Arc::new(leaving)], vec![]);
        let conditions = &plan.actions[0].body["endpoints"][0]["conditions"];
        assert_eq!(
            *conditions,
            serde_json::json!({"ready": false, "serving": true, "terminating": true})
        );
    }

    #[test]
    fn a_service_without_pods_keeps_one_empty_slice() {
        let plan = decide(&service(), vec![], vec![]);
        let slices = made(&plan);
        assert_eq!(slices.len(), 1);
        assert!(decide(&service(), vec![], slices).actions.is_empty());
        let mut none = service();
        none.spec.as_mut().unwrap().selector = None;
        assert!(decide(&none, vec![], vec![]).actions.is_empty());
    }
}
