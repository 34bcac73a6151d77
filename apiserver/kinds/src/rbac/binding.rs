//! RoleBinding and ClusterRoleBinding: who has a role.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, equal, metadata, set, strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Role",
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace.",
    ),
    cells::AGE,
    cells::wide("Users", "Users in the roleBinding"),
    cells::wide("Groups", "Groups in the roleBinding"),
    cells::wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
];

/// Grants a Role or ClusterRole within a namespace.
pub struct RoleBinding;
/// Grants a ClusterRole everywhere.
pub struct ClusterRoleBinding;

impl Kind for RoleBinding {
    resource!("rbac.authorization.k8s.io", "v1", "rolebindings");

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(obj);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        binding(&mut e, new, old, &["ClusterRole", "Role"]);
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        row(obj, now)
    }
}

impl Kind for ClusterRoleBinding {
    resource!("rbac.authorization.k8s.io", "v1", "clusterrolebindings");

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(obj);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        binding(&mut e, new, old, &["ClusterRole"]);
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        row(obj, now)
    }
}

fn set_defaults(obj: &mut Value) {
    set::zero(set::object(obj, "roleRef"), "apiGroup", GROUP);
    for subject in set::items(obj, "subjects") {
        if ["User", "Group"].contains(&subject["kind"].as_str().unwrap_or("")) {
            set::zero(subject, "apiGroup", GROUP);
        }
    }
}

fn binding(e: &mut FieldErrors, new: &Value, old: Option<&Value>, kinds: &[&str]) {
    let binding = Cursor::root(new);
    let role = binding.child("roleRef");
    check::supported(e, &role.child("apiGroup"), &[GROUP]);
    check::supported(e, &role.child("kind"), kinds);
    if check::required(e, &role.child("name")) {
        check::named(e, &role.child("name"), metadata::path_segment_name);
    }
    for subject in binding.child("subjects").items() {
        self::subject(e, &subject, !kinds.contains(&"Role"));
    }
    if let Some(old) = old
        && !equal::unchanged(role.value(), &old["roleRef"])
    {
        check::invalid(e, &role, "cannot change roleRef");
    }
}

fn subject(e: &mut FieldErrors, c: &Cursor, everywhere: bool) {
    let (kind, name, group) = (c.child("kind"), c.child("name"), c.child("apiGroup"));
    check::required(e, &name);
    match kind.str() {
        "ServiceAccount" => {
            if !name.str().is_empty() {
                check::named(e, &name, names::is_dns1123_subdomain);
            }
            if !group.str().is_empty() {
                e.not_supported(group.path(), group.str(), &[""]);
            }
            // Within a namespace an account without one is refused by nobody: it is nobody's.
            if everywhere {
                check::required(e, &c.child("namespace"));
            }
        }
        "User" | "Group" => {
            if group.str() != GROUP {
                e.not_supported(group.path(), group.str(), &[GROUP]);
            }
        }
        other => e.not_supported(kind.path(), other, &["Group", "ServiceAccount", "User"]),
    }
}

fn row(obj: &Value, now: Timestamp) -> Vec<Value> {
    let role = &obj["roleRef"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let of = |kind: &str| -> Value {
        let names: Vec<String> = cells::list(&obj["subjects"])
            .iter()
            .filter(|subject| subject["kind"] == kind)
            .map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", text(&subject["namespace"]), text(&subject["name"])),
                _ => text(&subject["name"]),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        cells::name(obj),
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        cells::age(obj, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}
