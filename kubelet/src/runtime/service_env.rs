//! Service variables (`NAME_SERVICE_HOST`, docker-style links) of the services a pod can see.

use crate::pod;
use k8s_openapi::api::core::v1::{Pod, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The namespace and name whose variables every pod gets.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The variables of all services the pod sees, sorted by name.
pub fn variables(pod: &Pod, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let links = pod::spec(pod).enable_service_links.unwrap_or(true);
    let mut out = BTreeMap::new();
    // The pod's own namespace wins over the master service of the same name.
    let (master, own): (Vec<_>, Vec<_>) = services
        .iter()
        .partition(|s| key(s) == MASTER && pod::namespace(pod) != MASTER.0);
    for service in master.into_iter().chain(own) {
        let visible = key(service) == MASTER || (links && key(service).0 == pod::namespace(pod));
        if visible {
            of_service(service, &mut out);
        }
    }
    out
}

fn key(service: &Service) -> (&str, &str) {
    (
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default(),
    )
}

fn of_service(service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (false, Some(first)) = (ip.is_empty() || ip == "None", ports.first()) else {
        return;
    };
    let prefix = variable_name(key(service).1);
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.into());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let joined = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", variable_name(name)),
                port.port.to_string(),
            );
        }
        let url = format!("{}://{joined}:{}", protocol.to_lowercase(), port.port);
        if i == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(link.clone(), url);
        out.insert(format!("{link}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{link}_PORT"), port.port.to_string());
        out.insert(format!("{link}_ADDR"), ip.into());
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn own_namespace_and_master_only() {
        let service = |ns: &str, name: &str, ip: &str| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"namespace": ns, "name": name},
                "spec": {"clusterIP": ip, "ports": [{"port": 443, "name": "https", "protocol": "TCP"}]}}))
                .unwrap(),
            )
        };
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "my-web", "10.96.0.7"),
            service("ns", "headless", "None"),
            service("other", "db", "10.96.0.8"),
        ];
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": {"containers": []}}))
                .unwrap();
        let vars = variables(&pod, &services);
        assert_eq!(vars["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
        assert_eq!(vars["MY_WEB_PORT_443_TCP"], "tcp://10.96.0.7:443");
        assert_eq!(vars["MY_WEB_SERVICE_PORT_HTTPS"], "443");
        assert_eq!(
            vars.keys()
                .filter(|k| k.starts_with("DB") || k.starts_with("HEADLESS"))
                .count(),
            0
        );
    }
}
