//! ServiceAccount.

use jiff::Timestamp;
use keelson_machinery::{FieldErrors, Value, names};
use serde_json::json;

use crate::kind::{Column, Kind, resource};
use crate::{cells, set, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Secrets",
        "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are \
         allowed to use.",
    ),
    cells::AGE,
];

pub struct ServiceAccount;

impl Kind for ServiceAccount {
    resource!("", "v1", "serviceaccounts");

    /// References to secrets are by name alone.
    fn prepare_create(&self, obj: &mut Value) {
        for secret in set::items(obj, "secrets") {
            *secret = json!({"name": secret["name"]});
        }
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        self.prepare_create(new);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let enforced = "kubernetes.io/enforce-mountable-secrets";
        match new["metadata"]["annotations"].get(enforced) {
            Some(_) => vec![format!(
                "metadata.annotations[{enforced}]: deprecated in v1.32+; prefer separate namespaces to isolate \
                 access to mounted secrets"
            )],
            None => Vec::new(),
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(obj),
            cells::list(&obj["secrets"]).len().into(),
            cells::age(obj, now),
        ]
    }
}
