//! EndpointSlice mirroring: slices for Endpoints that people keep themselves, for Services without a selector.
//!
//! Each set of ports and address family gets one slice with at most 1000 addresses, ready ones first. Endpoints that
//! are somebody's lock (the old leader election), that say so by a label, or whose Service has a selector or is gone
//! are not mirrored, and what was mirrored of them goes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};

use crate::context::Context;
use crate::controllers::endpointslice::{MANAGED_BY, SERVICE_NAME};
use crate::limits::MIRRORED_ADDRESSES_MAX;
use crate::{owner, triggers};

const NAME: &str = "endpointslice-mirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Label by which Endpoints ask not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say something of the Endpoints object alone.
const NOT_COPIED: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// Index of mirrored slices by the key of their Endpoints.
const INDEX: &str = "mirrored";

/// Starts the controller.
pub fn start(context: &Context) {
    let services = context.informer::<Service>();
    let endpoints = context.informer::<Endpoints>();
    let slices = context.informer::<EndpointSlice>();
    slices.add_index(INDEX, mirrored);
    let queue = Queue::default();
    // A Service has the name of its Endpoints.
    triggers::on_self(&services, &queue);
    triggers::on_self(&endpoints, &queue);
    triggers::on_owned(&slices, &queue, "Endpoints");
    let workers = context.config.concurrent.mirroring_syncs;
    let controller = Mirror {
        services,
        endpoints,
        slices,
    };
    context.run(Arc::new(controller), queue, NAME, workers);
}

fn mirrored(slice: &EndpointSlice) -> Vec<String> {
    let meta = &slice.metadata;
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
    let ours = label(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    label(SERVICE_NAME)
        .filter(|_| ours)
        .map(|service| format!("{namespace}/{service}"))
        .into_iter()
        .collect()
}

struct Mirror {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

impl Controller for Mirror {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let endpoints = self.endpoints.get_key(key);
        let existing = self.slices.by_index(INDEX, &key.to_string());
        let service = self.services.get_key(key);
        let wanted = endpoints.filter(|endpoints| is_mirrored(endpoints, service.as_deref()));
        Plan::of(actions(wanted.as_deref(), existing))
    }
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let lock = meta.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER));
    let unselected = service
        .and_then(|service| service.spec.as_ref())
        .is_some_and(|spec| spec.selector.as_ref().is_none_or(BTreeMap::is_empty));
    unselected && !lock && skipped.is_none_or(|value| value != "true")
}

/// What leads from the slices there are to those of `endpoints`.
fn actions(endpoints: Option<&Endpoints>, mut existing: Vec<Arc<EndpointSlice>>) -> Vec<Action> {
    let mut actions = Vec::new();
    for wanted in endpoints.map(slices_of).unwrap_or_default() {
        let found = existing
            .iter()
            .position(|slice| slice.address_type == wanted.address_type && slice.ports == wanted.ports);
        let Some(slice) = found.map(|at| existing.swap_remove(at)) else {
            actions.push(Action::create(&wanted));
            continue;
        };
        let same = slice.endpoints == wanted.endpoints
            && slice.metadata.labels == wanted.metadata.labels
            && slice.metadata.annotations == wanted.metadata.annotations;
        if !same {
            let mut updated = EndpointSlice::clone(&slice);
            updated.endpoints = wanted.endpoints;
            updated.metadata.labels = wanted.metadata.labels;
            updated.metadata.annotations = wanted.metadata.annotations;
            actions.push(Action::update(&updated));
        }
    }
    actions.extend(existing.iter().map(|slice| Action::delete(slice.as_ref())));
    actions
}

fn slices_of(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut groups: Vec<EndpointSlice> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports_of(subset);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        for (address, ready) in ready.chain(unready).take(MIRRORED_ADDRESSES_MAX) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                continue;
            };
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let known = groups
                .iter()
                .position(|slice| slice.address_type == family && slice.ports == ports);
            let at = known.unwrap_or_else(|| {
                groups.push(empty(endpoints, family, ports.clone()));
                groups.len() - 1
            });
            let list = groups[at].endpoints.get_or_insert_default();
            list.push(endpoint(address, ready));
        }
    }
    groups
}

fn ports_of(subset: &EndpointSubset) -> Option<Vec<EndpointPort>> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    });
    Some(ports.collect())
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn empty(endpoints: &Endpoints, family: &str, ports: Option<Vec<EndpointPort>>) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![owner::reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports,
        ..EndpointSlice::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_controller::Verb;
    use serde_json::{Value, json};

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "n", "uid": "e", "annotations": {NOT_COPIED[0]: "x"}},
            "subsets": subsets,
        }))
        .unwrap()
    }

    fn two_families() -> Endpoints {
        endpoints(json!([{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"port": 5432}],
        }]))
    }

    #[test]
    fn each_family_has_a_slice() {
        let slices = slices_of(&two_families());
        let shown: Vec<(String, Vec<(String, bool)>)> = slices
            .iter()
            .map(|slice| {
                let one = |e: &Endpoint| {
                    (
                        e.addresses[0].clone(),
                        e.conditions.as_ref().unwrap().ready.unwrap(),
                    )
                };
                (
                    slice.address_type.clone(),
                    slice.endpoints.iter().flatten().map(one).collect(),
                )
            })
            .collect();
        let v4 = vec![("10.0.0.1".to_owned(), true), ("10.0.0.2".to_owned(), false)];
        let v6 = vec![("fd00::1".to_owned(), true)];
        assert_eq!(shown, [("IPv4".to_owned(), v4), ("IPv6".to_owned(), v6)]);
        assert_eq!(slices[0].metadata.annotations, None);
        assert_eq!(mirrored(&slices[0]), ["n/db"]);
    }

    #[test]
    fn only_differences_are_written() {
        let existing: Vec<Arc<EndpointSlice>> =
            slices_of(&two_families()).into_iter().map(Arc::new).collect();
        assert!(actions(Some(&two_families()), existing.clone()).is_empty());
        let fewer = endpoints(json!([{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 5432}]}]));
        let verbs = |actions: Vec<Action>| actions.iter().map(|action| action.verb).collect::<Vec<_>>();
        assert_eq!(
            verbs(actions(Some(&fewer), existing.clone())),
            [Verb::Update, Verb::Delete]
        );
        assert_eq!(verbs(actions(None, existing)), [Verb::Delete, Verb::Delete]);
    }

    #[test]
    fn a_slice_is_bounded() {
        let many: Vec<Value> = (0..=MIRRORED_ADDRESSES_MAX)
            .map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect();
        let slices = slices_of(&endpoints(json!([{"addresses": many, "ports": [{"port": 1}]}])));
        assert_eq!(
            slices[0].endpoints.iter().flatten().count(),
            MIRRORED_ADDRESSES_MAX
        );
    }

    #[test]
    fn only_what_nobody_else_keeps_is_mirrored() {
        let service = |selector: Value| -> Service {
            serde_json::from_value(json!({"spec": {"selector": selector}})).unwrap()
        };
        let plain = two_families();
        assert!(is_mirrored(&plain, Some(&service(Value::Null))));
        assert!(!is_mirrored(&plain, Some(&service(json!({"a": "b"})))));
        assert!(!is_mirrored(&plain, None));
        let mut lock = plain.clone();
        lock.metadata.annotations = Some([(LEADER.to_owned(), "{}".to_owned())].into());
        assert!(!is_mirrored(&lock, Some(&service(Value::Null))));
        let mut skipped = plain;
        skipped.metadata.labels = Some([(SKIP.to_owned(), "true".to_owned())].into());
        assert!(!is_mirrored(&skipped, Some(&service(Value::Null))));
    }
}
