//! Nobody may give away more than they have: checks on writes of roles and bindings.
//!
//! Whoever holds `escalate` on the role or `bind` on the role a binding names passes without further look, as do system:masters.

use keelson_machinery::{GroupResource, Status};
use serde_json::{Value, json};

use super::rule::{Rule, covers, go_strings};
use super::{CLUSTER_ROLES, GROUP, ROLES, Rbac};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::user::{MASTERS, UserInfo};

/// Whether the write of a role or binding gives rights its author does not hold. `request` is the write itself; `old` the stored
/// object of an update. Resources that are no roles or bindings pass.
///
/// # Errors
/// 403 with the missing rights, in upstream's words; 404 where a binding names a role that does not exist.
pub fn check(
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    request: &Attributes,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if request.group != GROUP || !request.subresource.is_empty() || request.user.in_group(MASTERS) {
        return Ok(());
    }
    match request.resource.as_ref() {
        "roles" => check_role(rbac, authorizer, request, object, old, &ROLES),
        "clusterroles" => check_role(rbac, authorizer, request, object, old, &CLUSTER_ROLES),
        "rolebindings" | "clusterrolebindings" => check_binding(rbac, authorizer, request, object, old),
        _ => Ok(()),
    }
}

/// Finalizers and owner references may always be changed: deletion must not depend on rights.
fn only_garbage_collection_changed(object: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            for field in ["finalizers", "ownerReferences", "managedFields"] {
                metadata.remove(field);
            }
        }
        value
    };
    strip(object) == strip(old)
}

fn special(request: &Attributes, verb: &'static str, resource: &'static str, name: &str) -> Attributes {
    Attributes {
        user: request.user.clone(),
        verb: verb.into(),
        namespace: request.namespace.clone(),
        group: GROUP.into(),
        version: request.version.clone(),
        resource: resource.into(),
        name: name.to_owned(),
        is_resource: true,
        ..Attributes::default()
    }
}

fn check_role(
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    request: &Attributes,
    object: &Value,
    old: Option<&Value>,
    resource: &GroupResource,
) -> Result<(), Status> {
    if old.is_some_and(|old| only_garbage_collection_changed(object, old)) {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    let verb_resource = if *resource == ROLES {
        "roles"
    } else {
        "clusterroles"
    };
    let escalate = special(request, "escalate", verb_resource, name);
    if authorizer.authorize(&escalate).0 == Decision::Allow {
        return Ok(());
    }
    let forbidden = |why: String| Status::forbidden(resource, name, &why);
    confirm(
        rbac,
        &request.user,
        &request.namespace,
        &Rule::list(&object["rules"]),
    )
    .map_err(forbidden)?;
    let aggregates = |value: &Value| {
        let selectors = &value["aggregationRule"]["clusterRoleSelectors"];
        selectors
            .as_array()
            .is_some_and(|selectors| !selectors.is_empty())
    };
    if aggregates(object) || old.is_some_and(aggregates) {
        let everything = json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]);
        confirm(rbac, &request.user, &request.namespace, &Rule::list(&everything)).map_err(|why| {
            forbidden(format!(
                "must have cluster-admin privileges to use an aggregationRule: {why}"
            ))
        })?;
    }
    Ok(())
}

fn check_binding(
    rbac: &Rbac,
    authorizer: &dyn Authorizer,
    request: &Attributes,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if old.is_some_and(|old| only_garbage_collection_changed(object, old)) {
        return Ok(());
    }
    let reference = &object["roleRef"];
    let role = reference["name"].as_str().unwrap_or("");
    let (role_resource, namespace) = match reference["kind"].as_str() {
        Some("Role") => (ROLES, Some(request.namespace.as_str())),
        Some("ClusterRole") => (CLUSTER_ROLES, None),
        // Validation refuses the kind with the field's path.
        _ => return Ok(()),
    };
    let resource = if namespace.is_some() {
        "roles"
    } else {
        "clusterroles"
    };
    if authorizer.authorize(&special(request, "bind", resource, role)).0 == Decision::Allow {
        return Ok(());
    }
    let found = rbac.reader.get(&role_resource, namespace, role);
    let found = found.ok_or_else(|| Status::not_found(&role_resource, role))?;
    let rules = Rule::list(&found["rules"]);
    confirm(rbac, &request.user, &request.namespace, &rules).map_err(|why| {
        let own = GroupResource {
            group: request.group.clone(),
            resource: request.resource.clone(),
        };
        Status::forbidden(&own, object["metadata"]["name"].as_str().unwrap_or(""), &why)
    })
}

fn confirm(rbac: &Rbac, user: &UserInfo, namespace: &str, wanted: &[Rule]) -> Result<(), String> {
    let (held, errors) = rbac.rules_for(user, namespace);
    let missing = covers(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut texts: Vec<String> = missing.iter().map(Rule::compact_string).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut text = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        go_strings(&user.groups),
        texts.join("\n"),
    );
    if !errors.is_empty() {
        let errors = match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        text.push_str(&format!("; resolution errors: {errors}"));
    }
    Err(text)
}
