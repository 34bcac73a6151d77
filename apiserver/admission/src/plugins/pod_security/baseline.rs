//! The baseline level: nothing that reaches out of the pod.

use keelson_auth::pod_references::containers;
use serde_json::{Map, Value};

use super::names::{containers_named, containers_where, is_windows, plural, quoted, setters, unique};
use super::{Check, Violation, violation};
use crate::value::{items, str_of};

/// In upstream's order.
pub const CHECKS: &[Check] = &[
    app_armor,
    host_namespaces,
    host_path_volumes,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    se_linux,
    sysctls,
    host_process,
];

/// What the restricted level has stricter checks for.
pub const OVERRIDDEN: &[Check] = &[capabilities, seccomp];

const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

pub fn app_armor_annotations(pod: &Value) -> Map<String, Value> {
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let ours = annotations.filter(|(key, _)| key.starts_with(APP_ARMOR_PREFIX));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn app_armor(metadata: &Value, spec: &Value) -> Option<Violation> {
    let field = |holder: &Value| str_of(&holder["securityContext"]["appArmorProfile"]["type"]).to_owned();
    let bad = |profile: &str| !matches!(profile, "" | "RuntimeDefault" | "Localhost");
    let pod = bad(&field(spec));
    let names = containers_where(spec, |container| bad(&field(container)));
    let mut details = Vec::new();
    let mut count = names.len() + usize::from(pod);
    if count > 0 {
        let mut values: Vec<String> = containers(spec).map(field).collect();
        values.push(field(spec));
        values.retain(|value| bad(value));
        let values = quoted(&unique(values));
        details.push(format!(
            "{} must not set AppArmor profile type to {values}",
            setters(pod, &names)
        ));
    }
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        let value = str_of(value);
        let allowed = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with(APP_ARMOR_PREFIX) && !allowed {
            details.push(format!("{key}={value:?}"));
            count += 1;
        }
    }
    if count == 0 {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", count);
    violation(reason, details.join(", "))
}

fn host_namespaces(_: &Value, spec: &Value) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> = fields
        .filter(|field| spec[field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        None
    } else {
        violation("host namespaces", set.join(", "))
    }
}

fn host_path_volumes(_: &Value, spec: &Value) -> Option<Violation> {
    let volumes = items(&spec["volumes"]).filter(|volume| volume["hostPath"].is_object());
    let names: Vec<String> = volumes.map(|volume| str_of(&volume["name"]).to_owned()).collect();
    if names.is_empty() {
        return None;
    }
    let noun = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{noun} {}", quoted(&names)))
}

fn host_ports(_: &Value, spec: &Value) -> Option<Violation> {
    let of = |container: &Value| -> Vec<i64> {
        let ports = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let names = containers_where(spec, |container| !of(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let mut ports: Vec<i64> = containers(spec).flat_map(of).collect();
    ports.sort_unstable();
    ports.dedup();
    let shown: Vec<String> = ports.iter().map(i64::to_string).collect();
    let verb = plural("uses", "use", names.len());
    let noun = plural("hostPort", "hostPorts", shown.len());
    violation(
        "hostPort",
        format!("{} {verb} {noun} {}", containers_named(&names), shown.join(", ")),
    )
}

fn host_probes(_: &Value, spec: &Value) -> Option<Violation> {
    let of = |container: &Value| -> Vec<String> {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        let handlers = probes.into_iter().chain(hooks);
        let hosts = handlers.flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
        hosts
            .map(str_of)
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let names = containers_where(spec, |container| !of(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let hosts = unique(containers(spec).flat_map(of).collect());
    let verb = plural("uses", "use", names.len());
    let noun = plural("host", "hosts", hosts.len());
    let who = containers_named(&names);
    violation(
        "probe or lifecycle host",
        format!("{who} {verb} probe or lifecycle {noun} {}", quoted(&hosts)),
    )
}

fn privileged(_: &Value, spec: &Value) -> Option<Violation> {
    let names = containers_where(spec, |container| {
        container["securityContext"]["privileged"] == true
    });
    if names.is_empty() {
        return None;
    }
    let who = containers_named(&names);
    violation(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

fn proc_mount(_: &Value, spec: &Value) -> Option<Violation> {
    // A pod with its own user namespace may unmask /proc.
    if spec["hostUsers"] == false {
        return None;
    }
    let of = |container: &Value| str_of(&container["securityContext"]["procMount"]).to_owned();
    let bad = |mount: &String| !matches!(mount.as_str(), "" | "Default");
    let names = containers_where(spec, |container| bad(&of(container)));
    if names.is_empty() {
        return None;
    }
    let values = quoted(&unique(containers(spec).map(of).filter(bad).collect()));
    let who = containers_named(&names);
    violation(
        "procMount",
        format!("{who} must not set securityContext.procMount to {values}"),
    )
}

const SE_LINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

fn se_linux(_: &Value, spec: &Value) -> Option<Violation> {
    let options = |holder: &Value| holder["securityContext"]["seLinuxOptions"].clone();
    let bad = |options: &Value| {
        !SE_LINUX_TYPES.contains(&str_of(&options["type"]))
            || !str_of(&options["user"]).is_empty()
            || !str_of(&options["role"]).is_empty()
    };
    let pod = bad(&options(spec));
    let names = containers_where(spec, |container| bad(&options(container)));
    if !pod && names.is_empty() {
        return None;
    }
    let all: Vec<Value> = std::iter::once(spec)
        .chain(containers(spec))
        .map(options)
        .collect();
    let types = all
        .iter()
        .map(|options| str_of(&options["type"]))
        .filter(|own| !SE_LINUX_TYPES.contains(own));
    let types = unique(types.map(str::to_owned).collect());
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            quoted(&types)
        ));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| !str_of(&options[field]).is_empty()) {
            data.push(format!("{field} may not be set"));
        }
    }
    let who = setters(pod, &names);
    violation(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            data.join("; ")
        ),
    )
}

const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const MORE_SAFE_SYSCTLS: [&str; 2] = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];

fn sysctls(_: &Value, spec: &Value) -> Option<Violation> {
    let named = items(&spec["securityContext"]["sysctls"]).map(|sysctl| str_of(&sysctl["name"]));
    let bad: Vec<&str> = named
        .filter(|name| !SAFE_SYSCTLS.contains(name) && !MORE_SAFE_SYSCTLS.contains(name))
        .collect();
    if bad.is_empty() {
        None
    } else {
        violation("forbidden sysctls", bad.join(", "))
    }
}

fn host_process(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let names = containers_where(spec, bad);
    let who = setters(bad(spec), &names);
    if who.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn capabilities(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = |container: &Value| -> Vec<String> {
        let added = items(&container["securityContext"]["capabilities"]["add"]).map(str_of);
        let bad = added.filter(|name| !DEFAULT_CAPABILITIES.contains(name));
        bad.map(str::to_owned).collect()
    };
    let names = containers_where(spec, |container| !bad(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let values = quoted(&unique(containers(spec).flat_map(bad).collect()));
    let who = containers_named(&names);
    violation(
        "non-default capabilities",
        format!("{who} must not include {values} in securityContext.capabilities.add"),
    )
}

fn seccomp(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = |holder: &Value| holder["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let names = containers_where(spec, bad);
    let who = setters(bad(spec), &names);
    if who.is_empty() || is_windows(spec) {
        return None;
    }
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""),
    )
}
