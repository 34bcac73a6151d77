//! ServiceAccount controller: every live namespace has a service account `default`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};

use crate::context::Context;
use crate::triggers;

const NAME: &str = "serviceaccount-controller";
const DEFAULT: &str = "default";

/// Starts the controller.
pub fn start(context: &Context) {
    let namespaces = context.informer::<Namespace>();
    let accounts = context.informer::<ServiceAccount>();
    let queue = Queue::default();
    triggers::on_self(&namespaces, &queue);
    let lost = queue.clone();
    accounts.on(move |event| {
        if let Event::Deleted(account) = event
            && account.metadata.name.as_deref() == Some(DEFAULT)
        {
            lost.add(Key::new(
                "",
                account.metadata.namespace.as_deref().unwrap_or_default(),
            ));
        }
    });
    context.run(Arc::new(Accounts { namespaces, accounts }), queue, NAME, 1);
}

struct Accounts {
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

impl Controller for Accounts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let namespace = self.namespaces.get_key(key);
        let exists = self.accounts.get(&key.name, DEFAULT).is_some();
        reconcile(namespace.as_deref(), exists)
    }
}

fn reconcile(namespace: Option<&Namespace>, exists: bool) -> Plan {
    let Some(namespace) = namespace.filter(|n| is_live(n) && !exists) else {
        return Plan::nothing();
    };
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_owned()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    // 404: the namespace went away meanwhile; 409: somebody else was faster.
    Plan::of(vec![Action::create(&account).tolerating(&[404, 409])])
}

/// Neither terminating nor marked for deletion.
pub fn is_live(namespace: &Namespace) -> bool {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NamespaceStatus;

    #[test]
    fn only_live_namespaces_without_one_get_one() {
        let namespace = |phase: &str| Namespace {
            status: Some(NamespaceStatus {
                phase: Some(phase.into()),
                conditions: None,
            }),
            ..Namespace::default()
        };
        let table = [
            (Some("Active"), false, 1),
            (Some("Active"), true, 0),
            (Some("Terminating"), false, 0),
            (None, false, 0),
        ];
        for (phase, exists, expected) in table {
            let namespace = phase.map(namespace);
            assert_eq!(reconcile(namespace.as_ref(), exists).actions.len(), expected);
        }
    }
}
