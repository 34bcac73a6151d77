//! Root CA publisher: ConfigMap `kube-root-ca.crt` in every live namespace, for pods to check the API server by.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};
use kube::Api;
use kube::runtime::watcher;

use crate::context::Context;
use crate::controllers::serviceaccount::is_live;
use crate::triggers;

const NAME: &str = "root-ca-certificate-publisher-controller";
const MAP: &str = "kube-root-ca.crt";
const DATA: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Starts the controller; without --root-ca-file there is nothing to publish.
pub fn start(context: &Context) {
    let Some(root_ca) = context.config.root_ca.clone() else {
        tracing::info!(controller = NAME, "not started: no --root-ca-file");
        return;
    };
    let namespaces = context.informer::<Namespace>();
    let named = watcher::Config::default().fields(&format!("metadata.name={MAP}"));
    let maps = context.filtered::<ConfigMap>(Api::all(context.watch_client()), named);
    let queue = Queue::default();
    triggers::on_self(&namespaces, &queue);
    let changed = queue.clone();
    maps.on(move |event| {
        let namespace = event.object().metadata.namespace.as_deref();
        changed.add(Key::new("", namespace.unwrap_or_default()));
    });
    let controller = Publisher {
        namespaces,
        maps,
        root_ca,
    };
    context.run(Arc::new(controller), queue, NAME, 1);
}

struct Publisher {
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    root_ca: String,
}

impl Controller for Publisher {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let namespace = self.namespaces.get_key(key).filter(|n| is_live(n));
        if namespace.is_none() {
            return Plan::nothing();
        }
        let current = self.maps.get(&key.name, MAP);
        reconcile(&key.name, current.as_deref(), &self.root_ca)
    }
}

fn reconcile(namespace: &str, current: Option<&ConfigMap>, root_ca: &str) -> Plan {
    let mut wanted = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    wanted.data = Some([(DATA.to_owned(), root_ca.to_owned())].into());
    wanted
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    match current {
        // 404: the namespace went away meanwhile.
        None => Plan::of(vec![Action::create(&wanted).tolerating(&[404, 409])]),
        Some(current) if *current == wanted => Plan::nothing(),
        Some(_) => Plan::of(vec![Action::update(&wanted)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_controller::Verb;

    #[test]
    fn the_bundle_is_created_and_kept() {
        let plan = reconcile("ns", None, "PEM");
        assert_eq!(plan.actions[0].verb, Verb::Create);
        let map: ConfigMap = serde_json::from_value(plan.actions[0].body.clone()).unwrap();
        assert!(reconcile("ns", Some(&map), "PEM").actions.is_empty());
        assert_eq!(reconcile("ns", Some(&map), "OTHER").actions[0].verb, Verb::Update);
    }
}
