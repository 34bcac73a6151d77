//! Endpoints controller: the older, single-object form of a Service's endpoints.
//!
//! More than 1000 addresses are cut off, not-ready ones first, and the object is annotated as over capacity.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::controllers::endpointslice::{self, HEADLESS};
use crate::limits::ENDPOINTS_ADDRESSES_MAX;
use crate::{pods, triggers};

const NAME: &str = "endpoints-controller";
/// Source of its events.
const SOURCE: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// Starts the controller.
pub fn start(context: &Context) {
    let services = context.informer::<Service>();
    let pods = context.informer::<Pod>();
    let endpoints = context.informer::<Endpoints>();
    let queue = Queue::default();
    triggers::on_self(&services, &queue);
    endpointslice::on_pods(&services, &pods, &queue);
    triggers::on_self(&endpoints, &queue);
    let workers = context.config.concurrent.endpoint_syncs;
    let controller = Controlled {
        services,
        pods,
        endpoints,
    };
    context.run(Arc::new(controller), queue, SOURCE, workers);
}

struct Controlled {
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

impl Controller for Controlled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let current = self.endpoints.get_key(key);
        let Some(service) = self.services.get_key(key) else {
            // Endpoints of no service may be somebody's own (leader election of old); only ours go.
            let ours = current.filter(|endpoints| is_ours(endpoints));
            return Plan::of(ours.iter().map(|e| Action::delete(e.as_ref())).collect());
        };
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| endpointslice::selects(&service, pod));
        reconcile(&service, &pods, current.as_deref())
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(MANAGED_BY))
}

fn reconcile(service: &Service, selected: &[Arc<Pod>], current: Option<&Endpoints>) -> Plan {
    let spec = service.spec.as_ref();
    let selects_none = spec
        .and_then(|s| s.selector.as_ref())
        .is_none_or(BTreeMap::is_empty);
    if selects_none || spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName") {
        return Plan::nothing();
    }
    let mut subsets = subsets(service, selected);
    let truncated = truncate(&mut subsets);
    let mut wanted = current.cloned().unwrap_or_default();
    wanted.metadata = wanted_meta(service, current, truncated);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    if current == Some(&wanted) {
        return Plan::nothing();
    }
    let (action, reason, verb) = match current {
        None => (Action::create(&wanted), "FailedToCreateEndpoint", "create"),
        Some(_) => (Action::update(&wanted), "FailedToUpdateEndpoint", "update"),
    };
    let name = format!(
        "{}/{}",
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default()
    );
    let message = format!("Failed to {verb} endpoint {name}: {{error}}");
    Plan::of(vec![action.on_failure(Note::warning(&wanted, reason, message))])
}

fn wanted_meta(service: &Service, current: Option<&Endpoints>, truncated: bool) -> ObjectMeta {
    let mut meta = current.map(|e| e.metadata.clone()).unwrap_or_default();
    meta.name.clone_from(&service.metadata.name);
    meta.namespace.clone_from(&service.metadata.namespace);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if endpointslice::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), SOURCE.to_owned());
    meta.labels = Some(labels);
    let mut annotations = meta.annotations.unwrap_or_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    meta.annotations = (!annotations.is_empty()).then_some(annotations);
    meta
}

/// Addresses by the ports they resolve to, in canonical order.
fn subsets(service: &Service, selected: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let publish_unready = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let family = spec
        .and_then(|s| s.ip_families.as_ref()?.first().cloned())
        .unwrap_or_default();
    let mut by_ports: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for pod in selected {
        let leaving = pod.metadata.deletion_timestamp.is_some() && !publish_unready;
        if pods::is_finished(pod) || leaving {
            continue;
        }
        let Some(ip) = endpointslice::address(pod, &family) else {
            continue;
        };
        let ports = ports_of(service, pod);
        if ports.is_empty() && !endpointslice::is_headless(service) {
            continue;
        }
        let key = format!(
            "{:?}",
            ports
                .iter()
                .map(|p| (&p.name, p.port, &p.protocol))
                .collect::<Vec<_>>()
        );
        let subset = by_ports.entry(key).or_default();
        subset.ports = (!ports.is_empty()).then_some(ports);
        let side = if publish_unready || pods::is_ready(pod) {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        side.get_or_insert_default().push(address(service, pod, ip));
    }
    let mut subsets: Vec<EndpointSubset> = by_ports.into_values().collect();
    for side in subsets
        .iter_mut()
        .flat_map(|s| [&mut s.addresses, &mut s.not_ready_addresses])
        .flatten()
    {
        side.sort_by(|a, b| a.ip.cmp(&b.ip));
    }
    subsets
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut resolved: Vec<EndpointPort> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: endpointslice::target_port(port, pod)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    resolved.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
    resolved
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    EndpointAddress {
        ip,
        hostname: endpointslice::hostname(service, pod),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

/// Cuts to the most an object may hold, ready addresses kept first; whether anything was cut.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let mut left = ENDPOINTS_ADDRESSES_MAX;
    let mut cut = false;
    let mut limit = |side: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = side {
            cut |= addresses.len() > left;
            addresses.truncate(left);
            left -= addresses.len();
        }
        if side.as_ref().is_some_and(Vec::is_empty) {
            *side = None;
        }
    };
    subsets.iter_mut().for_each(|subset| limit(&mut subset.addresses));
    subsets
        .iter_mut()
        .for_each(|subset| limit(&mut subset.not_ready_addresses));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP, PodStatus, ServicePort, ServiceSpec};

    fn pod(number: usize, ready: bool) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(format!("p{number}")),
                ..ObjectMeta::default()
            },
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
            spec: None,
        })
    }

    fn service() -> Service {
        Service {
            spec: Some(ServiceSpec {
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                cluster_ip: Some("10.96.0.5".into()),
                ports: Some(vec![ServicePort {
                    port: 80,
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    fn result(pods: &[Arc<Pod>]) -> Endpoints {
        serde_json::from_value(reconcile(&service(), pods, None).actions[0].body.clone()).unwrap()
    }

    #[test]
    fn ready_and_unready_are_told_apart() {
        let endpoints = result(&[pod(2, true), pod(1, true), pod(3, false)]);
        let subset = &endpoints.subsets.as_ref().unwrap()[0];
        let ips: Vec<_> = subset.addresses.iter().flatten().map(|a| a.ip.as_str()).collect();
        assert_eq!(ips, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 1);
        let again = reconcile(
            &service(),
            &[pod(1, true), pod(2, true), pod(3, false)],
            Some(&endpoints),
        );
        assert!(again.actions.is_empty());
    }

    #[test]
    fn too_many_addresses_are_cut_unready_first() {
        let mut pods: Vec<_> = (0..999).map(|n| pod(n, true)).collect();
        pods.extend((1000..1010).map(|n| pod(n, false)));
        let endpoints = result(&pods);
        let subset = &endpoints.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap().len(), 999);
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 1);
        assert_eq!(
            endpoints.metadata.annotations.unwrap()[OVER_CAPACITY],
            "truncated"
        );
    }
}
