//! Containers, init containers and ephemeral containers.

use keelson_machinery::{Cursor, FieldErrors, names};

use super::{Context, env, mounts, probes, resources, security};
use crate::check;

const PROBES: &[&str] = &["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// `containers`: at least one.
pub fn regular(e: &mut FieldErrors, list: &Cursor, ctx: &Context) {
    if list.is_empty() {
        e.required(list.path(), "");
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for c in list.items() {
        any(e, &c, ctx);
        let name = c.child("name");
        match seen.contains(&name.str()) {
            true => e.duplicate(name.path(), name.str()),
            false => seen.push(name.str()),
        }
        probes::container(e, &c, ctx);
        restart_rules(e, &c);
    }
    host_ports(e, list.items());
}

/// `initContainers`: those with `restartPolicy: Always` are sidecars and may have probes.
pub fn init(e: &mut FieldErrors, list: &Cursor, regular: &Cursor, ctx: &Context) {
    let mut seen: Vec<&str> = regular.items().map(|c| c.child("name").str()).collect();
    for c in list.items() {
        any(e, &c, ctx);
        let name = c.child("name");
        if seen.contains(&name.str()) {
            e.duplicate(name.path(), name.str());
        } else if !name.str().is_empty() {
            seen.push(name.str());
        }
        restart_rules(e, &c);
        host_ports(e, std::iter::once(c.clone()));
        if c.child("restartPolicy").str() == "Always" {
            probes::container(e, &c, ctx);
        } else {
            for key in PROBES {
                if !c.child(key).is_absent() {
                    e.forbidden(
                        c.child(key).path(),
                        "may not be set for init containers without restartPolicy=Always",
                    );
                }
            }
            if !c.child("resizePolicy").is_empty() {
                check::invalid(e, &c.child("resizePolicy"), "must not be set for init containers");
            }
        }
    }
}

/// `ephemeralContainers`: names unique among all, and none of what a workload relies on.
pub fn ephemeral(e: &mut FieldErrors, list: &Cursor, spec: &Cursor, ctx: &Context) {
    const REFUSED: &[&str] = &[
        "ports",
        "resources",
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
    ];
    const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| spec.child(key).items().collect::<Vec<_>>())
        .map(|c| c.child("name").str())
        .collect();
    let mut seen = others.clone();
    for c in list.items() {
        any(e, &c, ctx);
        image_is_trimmed(e, &c);
        let name = c.child("name");
        match seen.contains(&name.str()) {
            true => e.duplicate(name.path(), name.str()),
            false => seen.push(name.str()),
        }
        let target = c.child("targetContainerName");
        if !target.str().is_empty() && !others.contains(&target.str()) {
            e.not_found(target.path(), target.str());
        }
        for key in REFUSED {
            if !c.child(key).is_zero() {
                e.forbidden(c.child(key).path(), NOT_HERE);
            }
        }
        for mount in c.child("volumeMounts").items() {
            for key in ["subPath", "subPathExpr"] {
                if !mount.child(key).str().is_empty() {
                    e.forbidden(mount.child(key).path(), NOT_HERE);
                }
            }
        }
    }
}

/// What holds for every container.
fn any(e: &mut FieldErrors, c: &Cursor, ctx: &Context) {
    check::required_name(e, &c.child("name"), names::is_dns1123_label);
    check::required(e, &c.child("image"));
    check::one_of(
        e,
        &c.child("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    ports(e, &c.child("ports"));
    env::container(e, c);
    mounts::container(e, c, ctx);
    check::one_of(
        e,
        &c.child("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    resources::container(e, &c.child("resources"), &ctx.claims);
    resize_policy(e, &c.child("resizePolicy"), ctx);
    security::container(e, &c.child("securityContext"), ctx);
}

/// A pod's images have no white space around them; templates may.
pub fn image_is_trimmed(e: &mut FieldErrors, c: &Cursor) {
    let image = c.child("image");
    if image.str().trim() != image.str() {
        check::invalid_str(e, &image, "must not have leading or trailing whitespace");
    }
}

fn ports(e: &mut FieldErrors, list: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.child("name");
        if !name.str().is_empty() {
            let messages = names::is_valid_port_name(name.str());
            if messages.is_empty() && seen.contains(&name.str()) {
                e.duplicate(name.path(), name.str());
            } else if messages.is_empty() {
                seen.push(name.str());
            }
            for message in messages {
                check::invalid_str(e, &name, message);
            }
        }
        let number = port.child("containerPort");
        match number.is_zero() {
            true => e.required(number.path(), ""),
            false => check::port(e, &number),
        }
        if !port.child("hostPort").is_zero() {
            check::port(e, &port.child("hostPort"));
        }
        check::one_of(e, &port.child("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_ports<'a>(e: &mut FieldErrors, containers: impl Iterator<Item = Cursor<'a>>) {
    let mut seen: Vec<String> = Vec::new();
    for container in containers {
        for port in container.child("ports").items() {
            let host = port.child("hostPort");
            if host.is_zero() {
                continue;
            }
            let key = format!(
                "{}/{}/{}",
                port.child("protocol").str(),
                port.child("hostIP").str(),
                host.i64().unwrap_or(0)
            );
            match seen.contains(&key) {
                true => e.duplicate(host.path(), key),
                false => seen.push(key),
            }
        }
    }
}

/// Errors stand at the list: upstream's path.
fn resize_policy(e: &mut FieldErrors, list: &Cursor, ctx: &Context) {
    let mut seen: Vec<&str> = Vec::new();
    for policy in list.items() {
        let name = policy.child("resourceName").str();
        let restart = policy.child("restartPolicy").str();
        if seen.contains(&name) {
            e.duplicate(policy.path(), name);
        }
        seen.push(name);
        let at = |key: &str| Cursor::at(policy.child(key).value(), list.path().clone());
        check::one_of(e, &at("resourceName"), &["cpu", "memory"]);
        check::one_of(e, &at("restartPolicy"), &["NotRequired", "RestartContainer"]);
        if ctx.restart_policy == "Never" && restart != "NotRequired" {
            e.invalid(
                list.path(),
                restart,
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            );
        }
    }
}

/// The container's own restart policy and its rules on exit codes.
fn restart_rules(e: &mut FieldErrors, c: &Cursor) {
    const RULES_MAX: usize = 20;
    let (policy, rules) = (c.child("restartPolicy"), c.child("restartPolicyRules"));
    check::one_of_or_absent(e, &policy, &["Always", "Never", "OnFailure"]);
    if rules.is_empty() {
        return;
    }
    if policy.is_absent() {
        e.required(
            policy.path(),
            "must specify restartPolicy when restart rules are used",
        );
    }
    if rules.len() > RULES_MAX {
        e.too_long(rules.path(), RULES_MAX);
    }
    for rule in rules.items() {
        let (action, codes) = (rule.child("action"), rule.child("exitCodes"));
        check::one_of(e, &action, &["Restart", "RestartAllContainers"]);
        if codes.is_absent() {
            e.required(codes.path(), "must be specified");
            continue;
        }
        check::one_of(e, &codes.child("operator"), &["In", "NotIn"]);
        if codes.child("values").is_empty() {
            e.required(codes.child("values").path(), "must specify at least one value");
        }
    }
}
