//! Admission policies in CEL and their bindings. Expressions are compiled where they run; here they must be there.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::matching;
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, metadata, set};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const PARAM_KIND: Column = cells::text(
    "ParamKind",
    "ParamKind specifies the kind of resources used to parameterize this policy",
);

const POLICY_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Validations",
        "Validations contain CEL expressions which are used to validate admission requests.",
    ),
    PARAM_KIND,
    cells::AGE,
];
const MUTATING_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Mutations",
        "Mutations contain CEL expressions which are used to apply changes.",
    ),
    PARAM_KIND,
    cells::AGE,
];
const BINDING_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "PolicyName",
        "PolicyName indicates the policy definition which this policy binding binded to",
    ),
    cells::text(
        "ParamRef",
        "ParamRef indicates the param resource which this binding binded to",
    ),
    cells::AGE,
];

pub struct ValidatingAdmissionPolicy;
pub struct MutatingAdmissionPolicy;
pub struct ValidatingAdmissionPolicyBinding;
pub struct MutatingAdmissionPolicyBinding;

impl Kind for ValidatingAdmissionPolicy {
    resource!(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies"
    );

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(set::object(obj, "spec"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        policy(&mut e, &spec);
        let (validations, audits) = (spec.child("validations"), spec.child("auditAnnotations"));
        if validations.is_empty() && audits.is_empty() {
            for list in [&validations, &audits] {
                e.required(
                    list.path(),
                    "validations or auditAnnotations must contain at least one item",
                );
            }
        }
        for validation in validations.items() {
            expression(
                &mut e,
                &validation.child("expression"),
                "expression is not specified",
            );
            check::one_of_or_absent(&mut e, &validation.child("reason"), REASONS);
        }
        check::unique(&mut e, &audits, "key");
        for audit in audits.items() {
            check::required_name(&mut e, &audit.child("key"), names::is_qualified_name);
            expression(
                &mut e,
                &audit.child("valueExpression"),
                "valueExpression is not specified",
            );
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        POLICY_COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        policy_row(obj, "validations", now)
    }
}

impl Kind for MutatingAdmissionPolicy {
    resource!("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set_defaults(spec);
        set::zero(spec, "reinvocationPolicy", "Never");
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        policy(&mut e, &spec);
        let mutations = spec.child("mutations");
        if mutations.is_empty() {
            e.required(mutations.path(), "mutations must contain at least one item");
        }
        for mutation in mutations.items() {
            let kind = mutation.child("patchType");
            check::one_of(&mut e, &kind, &["ApplyConfiguration", "JSONPatch"]);
            let field = match kind.str() {
                "ApplyConfiguration" => "applyConfiguration",
                "JSONPatch" => "jsonPatch",
                _ => continue,
            };
            let text = mutation.child(field).child("expression");
            expression(&mut e, &text, "expression is not specified");
        }
        check::one_of(&mut e, &spec.child("reinvocationPolicy"), &["IfNeeded", "Never"]);
        e
    }

    fn columns(&self) -> &[Column] {
        MUTATING_COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        policy_row(obj, "mutations", now)
    }
}

/// The bindings differ in name and in what a failed validation leads to.
macro_rules! policy_binding {
    ($kind:ident, $resource:literal, $validating:literal) => {
        impl Kind for $kind {
            resource!("admissionregistration.k8s.io", "v1", $resource);

            fn set_defaults(&self, obj: &mut Value) {
                if let Some(resources) = set::some(set::object(obj, "spec"), "matchResources") {
                    matching::set_defaults(resources);
                }
            }

            fn prepare_create(&self, obj: &mut Value) {
                strategy::first_generation(obj);
            }

            fn prepare_update(&self, new: &mut Value, old: &Value) {
                strategy::count_generation(new, old, &["spec"]);
            }

            fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
                let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
                let spec = Cursor::root(new).child("spec");
                binding(&mut e, &spec);
                if $validating {
                    actions(&mut e, &spec.child("validationActions"));
                }
                e
            }

            fn columns(&self) -> &[Column] {
                BINDING_COLUMNS
            }

            fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
                binding_row(obj, now)
            }
        }
    };
}

policy_binding!(
    ValidatingAdmissionPolicyBinding,
    "validatingadmissionpolicybindings",
    true
);
policy_binding!(
    MutatingAdmissionPolicyBinding,
    "mutatingadmissionpolicybindings",
    false
);

fn set_defaults(spec: &mut Value) {
    set::absent(spec, "failurePolicy", "Fail");
    if let Some(constraints) = set::some(spec, "matchConstraints") {
        matching::set_defaults(constraints);
    }
}

fn binding_row(obj: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &obj["spec"];
    let reference = &spec["paramRef"];
    let text = |key: &str| reference[key].as_str().unwrap_or("");
    let shown = match (reference.is_object(), text("namespace")) {
        (false, _) => "<unset>".to_owned(),
        (true, "") => format!("*/{}", text("name")),
        (true, namespace) => format!("{namespace}/{}", text("name")),
    };
    vec![
        cells::name(obj),
        spec["policyName"].as_str().unwrap_or("").into(),
        shown.into(),
        cells::age(obj, now),
    ]
}

fn policy_row(obj: &Value, list: &str, now: Timestamp) -> Vec<Value> {
    let spec = &obj["spec"];
    let param = &spec["paramKind"];
    let text = |key: &str| param[key].as_str().unwrap_or("");
    let shown = match param.is_object() {
        false => "<unset>".to_owned(),
        true => format!("{}/{}", text("apiVersion"), text("kind")),
    };
    vec![
        cells::name(obj),
        cells::list(&spec[list]).len().into(),
        shown.into(),
        cells::age(obj, now),
    ]
}

fn policy(e: &mut FieldErrors, spec: &Cursor) {
    check::one_of_or_absent(e, &spec.child("failurePolicy"), &["Fail", "Ignore"]);
    let param = spec.child("paramKind");
    if !param.is_absent() {
        for key in ["apiVersion", "kind"] {
            check::required(e, &param.child(key));
        }
    }
    let constraints = spec.child("matchConstraints");
    if constraints.is_absent() {
        e.required(constraints.path(), "");
    } else {
        check::required(e, &constraints.child("resourceRules"));
        match_resources(e, &constraints);
    }
    matching::conditions(e, &spec.child("matchConditions"));
    let variables = spec.child("variables");
    check::unique(e, &variables, "name");
    for variable in variables.items() {
        check::required_name(e, &variable.child("name"), names::is_c_identifier);
        expression(e, &variable.child("expression"), "expression is not specified");
    }
}

fn match_resources(e: &mut FieldErrors, c: &Cursor) {
    matching::selectors(e, c);
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in c.child(list).items() {
            matching::rule(e, &rule);
            for name in rule.child("resourceNames").items() {
                check::named(e, &name, metadata::path_segment_name);
            }
        }
    }
}

fn expression(e: &mut FieldErrors, c: &Cursor, missing: &str) {
    if c.str().trim().is_empty() {
        e.required(c.path(), missing);
    }
}

fn binding(e: &mut FieldErrors, spec: &Cursor) {
    check::required_name(e, &spec.child("policyName"), names::is_dns1123_subdomain);
    let reference = spec.child("paramRef");
    if !reference.is_absent() {
        let (name, selector) = (reference.child("name"), reference.child("selector"));
        match (name.str().is_empty(), selector.is_absent()) {
            (true, true) => e.required(reference.path(), "one of name or selector must be specified"),
            (false, false) => e.forbidden(name.path(), "name and selector are mutually exclusive"),
            _ => {}
        }
        let missing = reference.child("parameterNotFoundAction");
        check::one_of(e, &missing, &["Allow", "Deny"]);
    }
    let resources = spec.child("matchResources");
    if !resources.is_absent() {
        match_resources(e, &resources);
    }
}

fn actions(e: &mut FieldErrors, list: &Cursor) {
    if list.is_empty() {
        e.required(list.path(), "at least one validation action is required");
    }
    let mut seen: Vec<&str> = Vec::new();
    for action in list.items() {
        check::supported(e, &action, ACTIONS);
        match seen.contains(&action.str()) {
            true => e.duplicate(action.path(), action.str()),
            false => seen.push(action.str()),
        }
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        check::invalid(
            e,
            list,
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        );
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        check::conditions(e, &Cursor::root(new).child("status").child("conditions"));
    },
};
