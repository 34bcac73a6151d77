//! What one object uses of each resource a quota may name.

use keelson_machinery::GroupResource;
use keelson_machinery::quantity::Quantity;
use serde_json::Value;

use crate::pod_resources::{self, ResourceList};
use crate::value::{items, str_of};

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// Core resources whose objects are counted under their plain name too.
const PLAIN_COUNTS: [&str; 7] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];

pub fn of(resource: &GroupResource, object: &Value) -> ResourceList {
    let mut usage = ResourceList::new();
    let mut count = |name: String, number: usize| {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        usage.insert(name, Quantity::from_i64(number));
    };
    count(format!("count/{resource}"), 1);
    if !resource.group.is_empty() {
        return usage;
    }
    match resource.resource.as_ref() {
        "pods" if !matches!(str_of(&object["status"]["phase"]), "Failed" | "Succeeded") => {
            count("pods".to_owned(), 1);
            pod(&mut usage, &object["spec"]);
        }
        // A pod that has ended uses nothing but its own entry.
        "pods" => {}
        "services" => {
            count("services".to_owned(), 1);
            let (node_ports, balancers) = service(&object["spec"]);
            count("services.nodeports".to_owned(), node_ports);
            count("services.loadbalancers".to_owned(), balancers);
        }
        "persistentvolumeclaims" => {
            count("persistentvolumeclaims".to_owned(), 1);
            claim(&mut usage, object);
        }
        other if PLAIN_COUNTS.contains(&other) => count(other.to_owned(), 1),
        _ => {}
    }
    usage
}

fn pod(usage: &mut ResourceList, spec: &Value) {
    for (name, quantity) in pod_resources::of_pod(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            usage.insert(name.clone(), quantity);
        }
        usage.insert(format!("requests.{name}"), quantity);
    }
    for (name, quantity) in pod_resources::of_pod(spec, "limits") {
        usage.insert(format!("limits.{name}"), quantity);
    }
}

/// Node ports and load balancers.
fn service(spec: &Value) -> (usize, usize) {
    let ports = items(&spec["ports"]);
    match str_of(&spec["type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            let given = ports.filter(|port| port["nodePort"].as_i64().is_some_and(|port| port != 0));
            (given.count(), 1)
        }
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    }
}

fn claim(usage: &mut ResourceList, claim: &Value) {
    let beta = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = beta.unwrap_or_else(|| str_of(&claim["spec"]["storageClassName"]));
    let storage = pod_resources::list(&claim["spec"]["resources"]["requests"]).remove("storage");
    if !class.is_empty() {
        usage.insert(
            format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"),
            Quantity::from_i64(1),
        );
    }
    if let Some(storage) = storage {
        usage.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), storage);
        }
    }
}

/// Whether objects of this resource can use what the quota names.
pub fn tracks(resource: &GroupResource, name: &str) -> bool {
    if name
        .strip_prefix("count/")
        .is_some_and(|counted| counted == resource.to_string())
    {
        return true;
    }
    if !resource.group.is_empty() {
        return false;
    }
    match resource.resource.as_ref() {
        "pods" => {
            let compute = name
                .strip_prefix("requests.")
                .or_else(|| name.strip_prefix("limits."));
            matches!(name, "pods" | "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-")
                || compute.is_some_and(|rest| rest != "storage")
        }
        "services" => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        "persistentvolumeclaims" => {
            matches!(name, "persistentvolumeclaims" | "requests.storage") || name.contains(CLASS_SUFFIX)
        }
        other => PLAIN_COUNTS.contains(&other) && other == name,
    }
}
