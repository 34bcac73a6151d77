//! Resource names, quantities, requests against limits.

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::check;

const HUGE_PAGES: &str = "hugepages-";

/// Names quotas and limits know without a domain.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Counted things: no fractions.
const INTEGER: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Without a domain, or of kubernetes.io.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A device or other resource a node advertises under a domain of its own.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource name anywhere: qualified, and with a domain unless it is a standard one.
pub fn name(e: &mut FieldErrors, c: &Cursor, name: &str) -> bool {
    let messages = names::is_qualified_name(name);
    if !messages.is_empty() {
        for message in messages {
            e.invalid(c.path(), name, message);
        }
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        e.invalid(
            c.path(),
            name,
            "must be a standard resource type or fully qualified",
        );
    }
    true
}

/// A resource name a container may ask for.
pub fn container_name(e: &mut FieldErrors, c: &Cursor, name: &str) {
    self::name(e, c, name);
    if !name.contains('/') {
        if !["cpu", "memory", "ephemeral-storage"].contains(&name) && !is_huge_page(name) {
            e.invalid(c.path(), name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        e.invalid(c.path(), name, "doesn't follow extended resource name standard");
    }
}

/// The amount of a resource: not negative, and whole where the resource is counted.
pub fn amount(e: &mut FieldErrors, c: &Cursor, name: &str) {
    let Some(amount) = check::quantity(e, c) else {
        return;
    };
    if (INTEGER.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        e.invalid(c.path(), check::amount_text(c.value()), "must be an integer");
    }
}

/// `resources` of a container.
pub fn container(e: &mut FieldErrors, c: &Cursor, claims: &[&str]) {
    requirements(e, c, container_name);
    claim_names(e, &c.child("claims"), claims);
}

/// `resources` of a pod.
pub fn pod(e: &mut FieldErrors, c: &Cursor) {
    if !c.child("claims").is_absent() {
        e.forbidden(
            c.child("claims").path(),
            "claims cannot be set for Resources at pod-level",
        );
    }
    requirements(e, c, |e, c, name| {
        self::name(e, c, name);
        if !["cpu", "memory"].contains(&name) && !is_huge_page(name) {
            e.not_supported(c.path(), name, &["cpu", "hugepages-", "memory"]);
        }
    });
}

fn requirements(e: &mut FieldErrors, c: &Cursor, rule: fn(&mut FieldErrors, &Cursor, &str)) {
    let (limits, requests) = (c.child("limits"), c.child("requests"));
    let (mut compute, mut huge) = (false, false);
    for (name, limit) in limits.entries() {
        rule(e, &limit, name);
        amount(e, &limit, name);
        compute |= ["cpu", "memory"].contains(&name);
        huge |= is_huge_page(name);
    }
    for (name, request) in requests.entries() {
        rule(e, &request, name);
        amount(e, &request, name);
        compute |= ["cpu", "memory"].contains(&name);
        huge |= is_huge_page(name);
        request_against_limit(e, (&requests, &request), &limits, name);
    }
    if huge && !compute {
        e.forbidden(c.path(), "HugePages require cpu or memory");
    }
}

fn request_against_limit(
    e: &mut FieldErrors,
    (requests, request): (&Cursor, &Cursor),
    limits: &Cursor,
    name: &str,
) {
    let limit = limits.value().get(name).unwrap_or(&Value::Null);
    let (Some(asked), Some(most)) = (
        check::parse_quantity(request.value()),
        check::parse_quantity(limit),
    ) else {
        if limit.is_null() && !overcommits(name) {
            e.required(
                limits.path(),
                "Limit must be set for non overcommitable resources",
            );
        }
        return;
    };
    let text = check::amount_text(request.value());
    if asked != most && !overcommits(name) {
        let detail = format!("must be equal to {name} limit of {most}");
        e.invalid(requests.path(), text, detail);
    } else if asked > most {
        let detail = format!("must be less than or equal to {name} limit of {most}");
        e.invalid(requests.path(), text, detail);
    }
}

fn claim_names(e: &mut FieldErrors, claims: &Cursor, known: &[&str]) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in claims.items() {
        let name = claim.child("name").str();
        if name.is_empty() {
            e.required(claim.path(), "");
        } else if seen.contains(&name) {
            e.duplicate(claim.path(), name);
        } else {
            seen.push(name);
        }
        if !name.is_empty() && !known.contains(&name) {
            let detail = match known {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                known => format!(
                    "must be one of the names in pod.spec.resourceClaims: {}",
                    known.join(", ")
                ),
            };
            e.push(
                keelson_machinery::field::ErrorType::NotFound,
                claim.path(),
                Some(name.into()),
                detail,
            );
        }
    }
}
