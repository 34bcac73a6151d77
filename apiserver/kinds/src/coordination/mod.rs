//! Kinds of `coordination.k8s.io`.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Holder",
        "holderIdentity contains the identity of the holder of a current lease.",
    ),
    cells::AGE,
];

/// Lease: who leads, and the heartbeat of nodes.
pub struct Lease;

impl Kind for Lease {
    resource!("coordination.k8s.io", "v1", "leases");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        check::positive(&mut e, &spec.child("leaseDurationSeconds"));
        check::non_negative(&mut e, &spec.child("leaseTransitions"));
        let (preferred, strategy) = (spec.child("preferredHolder"), spec.child("strategy"));
        if !preferred.str().is_empty() && strategy.str().is_empty() {
            e.forbidden(preferred.path(), "may only be specified if `strategy` is defined");
        }
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let holder = obj["spec"]["holderIdentity"].as_str().unwrap_or("");
        vec![cells::name(obj), holder.into(), cells::age(obj, now)]
    }
}
