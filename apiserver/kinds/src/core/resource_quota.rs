//! ResourceQuota: how much a namespace may use together.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::pod::resources;
use crate::strategy::{self, Status};
use crate::{cells, check, set};

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const CONFLICTS: &[(&str, &str)] = &[("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Request",
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    cells::text(
        "Limit",
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on \
         the node.",
    ),
    cells::AGE,
];

pub struct ResourceQuota;

impl Kind for ResourceQuota {
    resource!("", "v1", "resourcequotas");

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", serde_json::Map::new());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        amounts(&mut e, &spec.child("hard"));
        scopes(&mut e, &spec.child("scopes"));
        scope_selector(&mut e, &spec);
        if let Some(old) = old {
            let sorted = |value: &Value| {
                let mut list: Vec<String> = cells::list(value).iter().map(ToString::to_string).collect();
                list.sort_unstable();
                list
            };
            let list = spec.child("scopes");
            if sorted(list.value()) != sorted(&old["spec"]["scopes"]) {
                check::invalid(&mut e, &list, check::IMMUTABLE);
            }
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let used = |limits: bool| -> Value {
            let hard = obj["status"]["hard"].as_object().into_iter().flatten();
            let parts: Vec<String> = hard
                .filter(|(name, _)| name.starts_with("limits") == limits)
                .map(|(name, most)| {
                    let used = &obj["status"]["used"][name.as_str()];
                    let used = if used.is_null() {
                        "0".to_owned()
                    } else {
                        check::amount_text(used)
                    };
                    format!("{name}: {used}/{}", check::amount_text(most))
                })
                .collect();
            parts.join(", ").into()
        };
        vec![cells::name(obj), used(false), used(true), cells::age(obj, now)]
    }
}

fn amounts(e: &mut FieldErrors, list: &Cursor) {
    for (name, amount) in list.entries() {
        let known = resources::name(e, &amount, name);
        if known && !name.contains('/') && !resources::is_standard(name) && !name.starts_with("count/") {
            e.invalid(amount.path(), name, "must be a standard resource for quota");
        }
        resources::amount(e, &amount, name);
    }
}

fn scopes(e: &mut FieldErrors, list: &Cursor) {
    for scope in list.items() {
        if !SCOPES.contains(&scope.str()) {
            check::invalid(e, list, "unsupported scope");
        }
    }
    let has = |name: &str| list.items().any(|scope| scope.str() == name);
    for (a, b) in CONFLICTS {
        if has(a) && has(b) {
            check::invalid(e, list, "conflicting scopes");
        }
    }
}

/// Errors stand at the list: upstream's path.
fn scope_selector(e: &mut FieldErrors, spec: &Cursor) {
    let list = spec.child("scopeSelector").child("matchExpressions");
    let path = spec.path().child("scopeSelector").child("matchExpressions");
    for item in list.items() {
        let c = Cursor::at(item.value(), path.clone());
        let (scope, operator, values) = (c.child("scopeName"), c.child("operator"), c.child("values"));
        if !SCOPES.contains(&scope.str()) {
            check::invalid_str(e, &scope, "unsupported scope");
        }
        let exists_only = !["PriorityClass", "VolumeAttributesClass"].contains(&scope.str());
        if SCOPES.contains(&scope.str()) && exists_only && operator.str() != "Exists" {
            check::invalid_str(
                e,
                &operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                 or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => e.required(
                values.path(),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => check::invalid(
                e,
                &values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => check::invalid_str(e, &operator, "not a valid selector operator"),
        }
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        amounts(e, &status.child("hard"));
        amounts(e, &status.child("used"));
    },
};
