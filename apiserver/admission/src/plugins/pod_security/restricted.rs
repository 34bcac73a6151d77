//! The restricted level: what hardened pods set.

use keelson_auth::pod_references::containers;
use serde_json::Value;

use super::names::{containers_named, containers_where, is_windows, plural, quoted, setters, unique};
use super::{Check, Violation, violation};
use crate::value::{items, str_of};

/// In upstream's order; asked after those of baseline.
pub const CHECKS: &[Check] = &[
    allow_privilege_escalation,
    capabilities,
    volumes,
    run_as_non_root,
    run_as_user,
    seccomp,
];

fn allow_privilege_escalation(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = |container: &Value| container["securityContext"]["allowPrivilegeEscalation"] != false;
    let names = containers_where(spec, bad);
    if names.is_empty() || is_windows(spec) {
        return None;
    }
    let who = containers_named(&names);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

fn capabilities(_: &Value, spec: &Value) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    let list = |container: &Value, field: &str| -> Vec<String> {
        let names = items(&container["securityContext"]["capabilities"][field]);
        names.map(str_of).map(str::to_owned).collect()
    };
    let forbidden = |container: &Value| -> Vec<String> {
        let mut added = list(container, "add");
        added.retain(|name| name != "NET_BIND_SERVICE");
        added
    };
    let mut details = Vec::new();
    let keeping = containers_where(spec, |container| {
        !list(container, "drop").contains(&"ALL".to_owned())
    });
    if !keeping.is_empty() {
        let who = containers_named(&keeping);
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    let adding = containers_where(spec, |container| !forbidden(container).is_empty());
    if !adding.is_empty() {
        let values = quoted(&unique(containers(spec).flat_map(forbidden).collect()));
        let who = containers_named(&adding);
        details.push(format!(
            "{who} must not include {values} in securityContext.capabilities.add"
        ));
    }
    if details.is_empty() {
        None
    } else {
        violation("unrestricted capabilities", details.join("; "))
    }
}

const VOLUME_TYPES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(_: &Value, spec: &Value) -> Option<Violation> {
    let bad_type = |volume: &Value| -> Option<String> {
        let fields = volume.as_object()?;
        let source = fields.keys().find(|key| *key != "name")?;
        (!VOLUME_TYPES.contains(&source.as_str())).then(|| source.clone())
    };
    let bad: Vec<(&Value, String)> = items(&spec["volumes"])
        .filter_map(|volume| Some((volume, bad_type(volume)?)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<String> = bad
        .iter()
        .map(|(volume, _)| str_of(&volume["name"]).to_owned())
        .collect();
    let types = unique(bad.into_iter().map(|(_, source)| source).collect());
    violation(
        "restricted volume types",
        format!(
            "{} {} {} restricted volume {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("type", "types", types.len()),
            quoted(&types)
        ),
    )
}

fn run_as_non_root(_: &Value, spec: &Value) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let of = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    // A pod with its own user namespace may be root in it.
    if spec["hostUsers"] == false {
        return None;
    }
    let explicit = containers_where(spec, |container| of(container) == Some(false));
    let silent = containers_where(spec, |container| of(container).is_none());
    let pod = of(spec);
    // The pod's word only counts for containers that say nothing.
    let pod_bad = pod == Some(false) && !silent.is_empty();
    let who = setters(pod_bad || (pod == Some(false) && explicit.is_empty()), &explicit);
    if !who.is_empty() {
        return violation(
            reason,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    if pod == Some(true) || silent.is_empty() {
        return None;
    }
    let names = containers_named(&silent);
    violation(
        reason,
        format!("pod or {names} must set securityContext.runAsNonRoot=true"),
    )
}

fn run_as_user(_: &Value, spec: &Value) -> Option<Violation> {
    if spec["hostUsers"] == false {
        return None;
    }
    let bad = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
    let names = containers_where(spec, bad);
    let who = setters(bad(spec), &names);
    if who.is_empty() {
        None
    } else {
        violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
    }
}

fn seccomp(_: &Value, spec: &Value) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    let of = |holder: &Value| str_of(&holder["securityContext"]["seccompProfile"]["type"]).to_owned();
    let good = |profile: &str| matches!(profile, "RuntimeDefault" | "Localhost");
    let bad = |profile: &str| !profile.is_empty() && !good(profile);
    let pod = of(spec);
    let explicit = containers_where(spec, |container| bad(&of(container)));
    let who = setters(bad(&pod), &explicit);
    if !who.is_empty() {
        let mut values: Vec<String> = containers(spec).map(of).collect();
        values.push(pod);
        values.retain(|value| bad(value));
        let values = quoted(&unique(values));
        return violation(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to {values}"),
        );
    }
    let silent = containers_where(spec, |container| of(container).is_empty());
    if good(&pod) || silent.is_empty() {
        return None;
    }
    let names = containers_named(&silent);
    violation(
        "seccompProfile",
        format!(
            "pod or {names} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}
