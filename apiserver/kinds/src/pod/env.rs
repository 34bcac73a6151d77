//! Environment variables and where their values come from; also the downward API's field paths.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

const ONE_SOURCE: &str = "may not have more than one field specified at a time";

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Field paths of downward API volumes.
pub const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const OTHER_FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env` and `envFrom` of a container.
pub fn container(e: &mut FieldErrors, c: &Cursor) {
    for variable in c.child("env").items() {
        let name = variable.child("name");
        if check::required(e, &name) {
            variable_name(e, &name);
        }
        let from = variable.child("valueFrom");
        if !from.is_absent() {
            value_from(e, &from, !variable.child("value").str().is_empty());
        }
    }
    let from = c.child("envFrom");
    for source in from.items() {
        if !source.child("prefix").str().is_empty() {
            variable_name(e, &source.child("prefix"));
        }
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            let reference = source.child(key);
            if !reference.is_absent() {
                sources += 1;
                check::required_name(e, &reference.child("name"), names::is_dns1123_subdomain);
            }
        }
        match sources {
            0 => e.invalid(
                from.path(),
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => e.invalid(from.path(), "", ONE_SOURCE),
        }
    }
}

fn variable_name(e: &mut FieldErrors, c: &Cursor) {
    if !c.str().chars().all(|ch| (' '..='~').contains(&ch) && ch != '=') {
        check::invalid_str(
            e,
            c,
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
        );
    }
}

fn value_from(e: &mut FieldErrors, c: &Cursor, has_value: bool) {
    let mut sources = 0;
    for key in [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ] {
        let source = c.child(key);
        if source.is_absent() {
            continue;
        }
        sources += 1;
        match key {
            "fieldRef" => field_ref(e, &source, ENV_FIELDS),
            "resourceFieldRef" => resource_field_ref(e, &source, false),
            "fileKeyRef" => {
                for key in ["volumeName", "path", "key"] {
                    check::required(e, &source.child(key));
                }
            }
            _ => key_ref(e, &source),
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        e.invalid(c.path(), "", detail);
    } else if has_value {
        e.invalid(c.path(), "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        e.invalid(c.path(), "", ONE_SOURCE);
    }
}

fn key_ref(e: &mut FieldErrors, c: &Cursor) {
    check::named(e, &c.child("name"), names::is_dns1123_subdomain);
    check::required_name(e, &c.child("key"), names::is_config_map_key);
}

/// A `fieldRef` whose path must be one of `fields`, or a subscripted label or annotation.
pub fn field_ref(e: &mut FieldErrors, c: &Cursor, fields: &[&str]) {
    let (version, path) = (c.child("apiVersion"), c.child("fieldPath"));
    if !check::required(e, &version) || !check::required(e, &path) {
        return;
    }
    let refuse = |e: &mut FieldErrors, why: String| {
        check::invalid_str(e, &path, format!("error converting fieldPath: {why}"));
    };
    if version.str() != "v1" {
        return refuse(e, format!("unsupported pod version: {}", version.str()));
    }
    if let Some((base, key)) = subscript(path.str()) {
        let messages = match base {
            "metadata.annotations" => names::is_qualified_name(&key.to_lowercase()),
            "metadata.labels" => names::is_qualified_name(key),
            _ => {
                return refuse(
                    e,
                    format!("field label does not support subscript: {}", path.str()),
                );
            }
        };
        for message in messages {
            e.invalid(c.path(), key, message);
        }
        return;
    }
    let known = |list: &[&str]| list.contains(&path.str());
    if !known(ENV_FIELDS) && !known(VOLUME_FIELDS) && !known(OTHER_FIELDS) && path.str() != "spec.host" {
        return refuse(e, format!("field label not supported: {}", path.str()));
    }
    let internal = if path.str() == "spec.host" {
        "spec.nodeName"
    } else {
        path.str()
    };
    if !fields.contains(&internal) {
        e.not_supported(path.path(), internal, fields);
    }
}

/// `metadata.labels['key']` as base and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_suffix("']")?;
    inner.split_once("['").filter(|(base, _)| !base.is_empty())
}

/// A `resourceFieldRef`; volumes must name the container.
pub fn resource_field_ref(e: &mut FieldErrors, c: &Cursor, volume: bool) {
    let resource = c.child("resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|prefix| resource.str().starts_with(prefix));
    if volume && c.child("containerName").str().is_empty() {
        e.required(c.child("containerName").path(), "");
    } else if resource.str().is_empty() {
        e.required(resource.path(), "");
    } else if !huge && !RESOURCES.contains(&resource.str()) {
        e.not_supported(resource.path(), resource.str(), RESOURCES);
    }
    divisor(e, c, resource.str());
}

fn divisor(e: &mut FieldErrors, c: &Cursor, resource: &str) {
    const BYTES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let divisor = c.child("divisor");
    let amount = check::amount_text(divisor.value());
    if divisor.is_absent() || amount == "0" {
        return;
    }
    let listed = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let refuse = |e: &mut FieldErrors, values: &str, what: &str| {
        let detail = format!("only divisor's values {values} are supported with the {what} resource");
        e.invalid(divisor.path(), resource, detail);
    };
    let name = resource.split_once('.').map_or("", |(_, name)| name);
    match name {
        "cpu" if !["1m", "1"].contains(&amount.as_str()) => refuse(e, "1m and 1", "cpu"),
        "memory" if !BYTES.contains(&amount.as_str()) => refuse(e, listed, "memory"),
        "ephemeral-storage" if !BYTES.contains(&amount.as_str()) => {
            refuse(e, listed, "local ephemeral storage");
        }
        _ if name.starts_with("hugepages-") && !BYTES.contains(&amount.as_str()) => {
            refuse(e, listed, "hugepages");
        }
        _ => {}
    }
}
