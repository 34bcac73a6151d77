//! What webhooks and policies are called for: rules, selectors, match conditions.

use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::Map;

use crate::{check, set};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;

/// `matchPolicy` and the selectors: everything unless said otherwise.
pub fn set_defaults(obj: &mut Value) {
    set::absent(obj, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        set::absent(obj, selector, Map::new());
    }
    for list in ["rules", "resourceRules", "excludeResourceRules"] {
        for rule in set::items(obj, list) {
            set::absent(rule, "scope", "*");
        }
    }
}

/// A `RuleWithOperations`.
pub fn rule(e: &mut FieldErrors, c: &Cursor) {
    for key in ["apiGroups", "apiVersions", "resources"] {
        let list = c.child(key);
        if list.is_empty() {
            e.required(list.path(), "");
        } else if list.len() > 1 && list.items().any(|one| one.str() == "*") && key != "resources" {
            check::invalid(e, &list, "if '*' is present, must not specify other values");
        }
        for one in list
            .items()
            .filter(|one| one.str().is_empty() && key != "apiGroups")
        {
            e.required(one.path(), "");
        }
    }
    resources(e, &c.child("resources"));
    check::one_of_or_absent(e, &c.child("scope"), &["*", "Cluster", "Namespaced"]);
    let operations = c.child("operations");
    if operations.is_empty() {
        e.required(operations.path(), "");
    } else if operations.len() > 1 && operations.items().any(|one| one.str() == "*") {
        check::invalid(
            e,
            &operations,
            "if '*' is present, must not specify other operations",
        );
    }
    for operation in operations.items() {
        check::supported(e, &operation, OPERATIONS);
    }
}

/// A wildcard already covers what stands beside it.
fn resources(e: &mut FieldErrors, list: &Cursor) {
    let names: Vec<&str> = list.items().map(|one| one.str()).collect();
    if names.len() > 1 && names.contains(&"*/*") {
        check::invalid(e, list, "if '*/*' is present, must not specify other resources");
    }
    let plain = |name: &&str| *name != "*" && !name.contains('/');
    if names.len() > 1 && names.contains(&"*") && names.iter().any(plain) {
        check::invalid(
            e,
            list,
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

/// `matchPolicy`, `namespaceSelector`, `objectSelector` of a webhook or of `matchResources`.
pub fn selectors(e: &mut FieldErrors, c: &Cursor) {
    check::one_of_or_absent(e, &c.child("matchPolicy"), &["Equivalent", "Exact"]);
    check::label_selector(e, &c.child("namespaceSelector"));
    check::label_selector(e, &c.child("objectSelector"));
}

/// `matchConditions`: named CEL expressions.
pub fn conditions(e: &mut FieldErrors, list: &Cursor) {
    if list.len() > CONDITIONS_MAX {
        e.too_many(list.path(), list.len(), CONDITIONS_MAX);
    }
    check::unique(e, list, "name");
    for condition in list.items() {
        let expression = condition.child("expression");
        if expression.str().trim().is_empty() {
            e.required(expression.path(), "");
        }
        check::required_name(e, &condition.child("name"), names::is_qualified_name);
    }
}
