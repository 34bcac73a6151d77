//! Warnings about pods and templates that are valid but not what their author means.

use keelson_machinery::{Cursor, Path, Value, names};

use crate::check;

const VOLUMES: &[(&str, &str)] = &[
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const NODE_LABELS: &[(&str, &str)] = &[
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

/// Names that end up in host names and should be DNS labels; `used` says where.
pub fn name(obj: &Value, used: &str) -> Vec<String> {
    let name = obj["metadata"]["name"].as_str().unwrap_or("");
    let messages = names::is_dns1123_label(name);
    if messages.is_empty() || name.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        messages.join(" ")
    )]
}

/// A template of another kind.
pub fn template(template: &Cursor) -> Vec<String> {
    spec(&template.child("spec"), Some(template.child("metadata").value()))
}

/// A pod's spec; `metadata` stands beside it.
pub fn spec(spec: &Cursor, metadata: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    node_labels(&mut out, spec);
    annotations(&mut out, spec, metadata.unwrap_or(&Value::Null));
    for volume in spec.child("volumes").items() {
        for (kind, text) in VOLUMES {
            if !volume.child(kind).is_absent() {
                out.push(format!("{}: {text}", volume.child(kind).path()));
            }
        }
    }
    repeated(&mut out, &spec.child("hostAliases"), "ip");
    repeated(&mut out, &spec.child("imagePullSecrets"), "name");
    for secret in spec.child("imagePullSecrets").items() {
        let name = secret.child("name");
        if name.str().is_empty() {
            out.push(format!("{}: invalid empty name \"\"", name.path()));
        }
    }
    fractions(&mut out, &spec.child("overhead"));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.child(list).items() {
            for amounts in ["limits", "requests"] {
                fractions(&mut out, &container.child("resources").child(amounts));
            }
            hidden_variables(&mut out, &container.child("env"));
        }
    }
    ports(&mut out, spec);
    if spec
        .child("terminationGracePeriodSeconds")
        .i64()
        .is_some_and(|value| value < 0)
    {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            spec.child("terminationGracePeriodSeconds").path()
        ));
    }
    out
}

fn node_labels(out: &mut Vec<String>, spec: &Cursor) {
    let known = |key: &str| {
        NODE_LABELS
            .iter()
            .find(|(label, _)| *label == key)
            .map(|(_, text)| text)
    };
    for (key, entry) in spec.child("nodeSelector").entries() {
        if let Some(text) = known(key) {
            out.push(format!("{}: {text}", entry.path()));
        }
    }
    for constraint in spec.child("topologySpreadConstraints").items() {
        let key = constraint.child("topologyKey");
        if let Some(text) = known(key.str()) {
            out.push(format!("{}: {} is {text}", key.path(), key.str()));
        }
        let selector = constraint.child("labelSelector");
        if selector.is_absent() {
            out.push(format!(
                "{}: a null labelSelector results in matching no pod",
                selector.path()
            ));
        }
    }
}

/// The annotations stand beside the spec, so their path starts where the spec's does.
fn annotations(out: &mut Vec<String>, spec: &Cursor, metadata: &Value) {
    let text = spec.path().to_string();
    let base = match text.strip_suffix("spec") {
        Some("") | None => Path::new("metadata"),
        Some(prefix) => Path::new(prefix.trim_end_matches('.')).child("metadata"),
    };
    for (key, message) in ANNOTATIONS {
        if metadata["annotations"].get(key).is_some() {
            out.push(format!("{}: {message}", base.child("annotations").key(key)));
        }
    }
}

fn repeated(out: &mut Vec<String>, list: &Cursor, key: &str) {
    let mut seen: Vec<&str> = Vec::new();
    for item in list.items() {
        let field = item.child(key);
        match seen.contains(&field.str()) {
            true => out.push(format!("{}: duplicate {key} {:?}", field.path(), field.str())),
            false => seen.push(field.str()),
        }
    }
}

fn fractions(out: &mut Vec<String>, amounts: &Cursor) {
    for (name, amount) in amounts.entries() {
        let Some(parsed) = check::parse_quantity(amount.value()) else {
            continue;
        };
        if ["memory", "ephemeral-storage"].contains(&name) && parsed.milli_value() % 1000 != 0 {
            out.push(format!(
                "{}: fractional byte value {:?} is invalid, must be an integer",
                amount.path(),
                parsed.to_string()
            ));
        }
    }
}

fn hidden_variables(out: &mut Vec<String>, env: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    for variable in env.items() {
        let name = variable.child("name").str();
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let (value, reference) = (variable.child("value").str(), format!("$({name})"));
        let extends = value.contains(&reference) && value != reference;
        if !variable.child("valueFrom").is_absent() || !extends {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path()
            ));
        }
    }
}

fn ports(out: &mut Vec<String>, spec: &Cursor) {
    let mut seen: Vec<(i64, &str, &str, i64, String)> = Vec::new();
    for list in ["initContainers", "containers"] {
        for container in spec.child(list).items() {
            for port in container.child("ports").items() {
                let number = port.child("containerPort").i64().unwrap_or(0);
                let protocol = port.child("protocol").str();
                let host_ip = port.child("hostIP").str();
                let host = port.child("hostPort").i64().unwrap_or(0);
                for (_, _, ip, other, path) in seen.iter().filter(|one| (one.0, one.1) == (number, protocol))
                {
                    if (*ip, *other) == (host_ip, host) {
                        out.push(format!("{}: duplicate port definition with {path}", port.path()));
                    } else if host == 0 || *other == 0 {
                        out.push(format!(
                            "{}: overlapping port definition with {path}",
                            port.path()
                        ));
                    }
                }
                seen.push((number, protocol, host_ip, host, port.path().to_string()));
            }
        }
    }
}
