//! FlowSchema: which requests go to which priority level.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, set};

const PRECEDENCE_DEFAULT: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] = &[
    "*",
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "PriorityLevel",
        "priorityLevelConfiguration should reference a PriorityLevelConfiguration in the cluster.",
    ),
    cells::integer(
        "MatchingPrecedence",
        "matchingPrecedence is used to choose among the FlowSchemas that match a given request.",
    ),
    cells::text(
        "DistinguisherMethod",
        "distinguisherMethod defines how to compute the flow distinguisher for requests that match this schema.",
    ),
    cells::AGE,
    cells::text("MissingPL", "status of the FlowSchema's reference"),
];

pub struct FlowSchema;

impl Kind for FlowSchema {
    resource!("flowcontrol.apiserver.k8s.io", "v1", "flowschemas");

    fn set_defaults(&self, obj: &mut Value) {
        set::zero(set::object(obj, "spec"), "matchingPrecedence", PRECEDENCE_DEFAULT);
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let schema = Cursor::root(new);
        let spec = schema.child("spec");
        let precedence = spec.child("matchingPrecedence");
        let value = precedence.i64().unwrap_or(0);
        if value <= 0 {
            check::invalid_int(&mut e, &precedence, "must be a positive value");
        }
        if value > PRECEDENCE_MAX {
            check::invalid_int(
                &mut e,
                &precedence,
                format!("must not be greater than {PRECEDENCE_MAX}"),
            );
        }
        if value == 1 && schema.child("metadata").child("name").str() != "exempt" {
            check::invalid_int(
                &mut e,
                &precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
        let method = spec.child("distinguisherMethod");
        if !method.is_absent() {
            check::supported(&mut e, &method.child("type"), &["ByNamespace", "ByUser"]);
        }
        check::required_name(
            &mut e,
            &spec.child("priorityLevelConfiguration").child("name"),
            names::is_dns1123_subdomain,
        );
        for rule in spec.child("rules").items() {
            self::rule(&mut e, &rule);
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
        let spec = &obj["spec"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let dangling = cells::list(&obj["status"]["conditions"])
            .iter()
            .find(|condition| condition["type"] == "Dangling");
        vec![
            cells::name(obj),
            text(&spec["priorityLevelConfiguration"]["name"]).into(),
            cells::int(&spec["matchingPrecedence"]),
            cells::or_none(&text(&spec["distinguisherMethod"]["type"])).into(),
            cells::age(obj, now),
            dangling
                .map_or("?".to_owned(), |condition| text(&condition["status"]))
                .into(),
        ]
    }
}

fn rule(e: &mut FieldErrors, rule: &Cursor) {
    let subjects = rule.child("subjects");
    if subjects.is_empty() {
        e.required(subjects.path(), "subjects must contain at least one value");
    }
    for subject in subjects.items() {
        self::subject(e, &subject);
    }
    let (resources, paths) = (rule.child("resourceRules"), rule.child("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        e.required(
            rule.path(),
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for one in resources.items() {
        needed(e, &one, &["verbs", "apiGroups", "resources"]);
        if one.child("namespaces").is_empty() && one.child("clusterScope").bool() != Some(true) {
            e.required(
                one.child("namespaces").path(),
                "resource rules that are not cluster scoped must supply at least one namespace",
            );
        }
    }
    for one in paths.items() {
        needed(e, &one, &["verbs", "nonResourceURLs"]);
    }
}

fn needed(e: &mut FieldErrors, c: &Cursor, keys: &[&str]) {
    for key in keys {
        let list = c.child(key);
        if list.is_empty() {
            e.required(list.path(), format!("{key} must contain at least one value"));
        } else if list.len() > 1 && list.items().any(|one| one.str() == "*") {
            check::invalid(e, &list, "if '*' is present, must not specify other values");
        }
    }
    let verbs = c.child("verbs");
    if c.child("nonResourceURLs").is_empty() {
        for verb in verbs.items().filter(|verb| !VERBS.contains(&verb.str())) {
            e.not_supported(verbs.path(), verb.str(), VERBS);
        }
    }
}

fn subject(e: &mut FieldErrors, c: &Cursor) {
    let kind = c.child("kind");
    let members: &[(&str, &str)] = &[
        ("User", "user"),
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
    ];
    for (name, field) in members {
        let member = c.child(field);
        match (kind.str() == *name, member.is_absent()) {
            (true, true) => e.required(
                member.path(),
                format!("{field} is required when subject kind is '{name}'"),
            ),
            (true, false) => {
                check::required(e, &member.child("name"));
                if *name == "ServiceAccount" {
                    check::required(e, &member.child("namespace"));
                }
            }
            (false, false) => e.forbidden(
                member.path(),
                format!("{field} is forbidden when subject kind is not '{name}'"),
            ),
            (false, true) => {}
        }
    }
    check::supported(e, &kind, &["Group", "ServiceAccount", "User"]);
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let list = Cursor::root(new).child("status").child("conditions");
        check::unique(e, &list, "type");
        for condition in list.items() {
            check::required(e, &condition.child("type"));
        }
    },
};
