//! Security contexts of pods and containers.

use keelson_machinery::{Cursor, FieldErrors};

use super::{Context, volumes};
use crate::check;

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL: &str = "must have at most 253 characters and match regex \
^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// `securityContext` of a container.
pub fn container(e: &mut FieldErrors, c: &Cursor, ctx: &Context) {
    if c.is_absent() {
        return;
    }
    ids(e, c);
    seccomp(e, &c.child("seccompProfile"));
    let proc_mount = c.child("procMount");
    check::one_of_or_absent(e, &proc_mount, &["Default", "Unmasked"]);
    if ctx.host_users && proc_mount.str() == "Unmasked" {
        check::invalid_str(e, &proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    if c.child("allowPrivilegeEscalation").bool() == Some(false) {
        if c.child("privileged").bool() == Some(true) {
            check::invalid(
                e,
                c,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = c.child("capabilities").child("add");
        if added
            .items()
            .any(|capability| capability.str() == "CAP_SYS_ADMIN")
        {
            check::invalid(
                e,
                c,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    app_armor(e, &c.child("appArmorProfile"));
}

fn ids(e: &mut FieldErrors, c: &Cursor) {
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(e, &c.child(key));
    }
}

fn id(e: &mut FieldErrors, c: &Cursor) {
    if c.i64().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        check::invalid_int(e, c, ID_RANGE);
    }
}

/// `securityContext` of a pod, whose host namespaces stand in the spec.
pub fn pod(e: &mut FieldErrors, spec: &Cursor) {
    let c = spec.child("securityContext");
    ids(e, &c);
    for group in c.child("supplementalGroups").items() {
        id(e, &group);
    }
    let share = spec.child("shareProcessNamespace");
    if share.bool() == Some(true) && spec.child("hostPID").bool() == Some(true) {
        e.invalid(
            &c.path().child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(e, &c.child("sysctls"), spec);
    check::one_of_or_absent(e, &c.child("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    seccomp(e, &c.child("seccompProfile"));
    app_armor(e, &c.child("appArmorProfile"));
    check::one_of_or_absent(e, &c.child("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    check::one_of_or_absent(e, &c.child("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

fn sysctls(e: &mut FieldErrors, list: &Cursor, spec: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.child("name");
        if name.str().is_empty() {
            e.required(name.path(), "");
        } else if !is_sysctl(name.str()) {
            check::invalid_str(e, &name, SYSCTL);
        } else if seen.contains(&name.str()) {
            e.duplicate(name.path(), name.str());
        }
        seen.push(name.str());
        let normal = name.str().replace('/', ".");
        if spec.child("hostNetwork").bool() == Some(true) && normal.starts_with("net.") {
            check::invalid_str(e, &name, "may not be specified when 'hostNetwork' is true");
        } else if spec.child("hostIPC").bool() == Some(true) && is_ipc(&normal) {
            check::invalid_str(e, &name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn is_sysctl(name: &str) -> bool {
    let segment = |text: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || c == '-' || c == '_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn seccomp(e: &mut FieldErrors, c: &Cursor) {
    if c.is_absent() {
        return;
    }
    let (kind, profile) = (c.child("type"), c.child("localhostProfile"));
    if kind.str().is_empty() {
        e.required(kind.path(), "type is required when seccompProfile is set");
    } else {
        check::supported(e, &kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    if kind.str() == "Localhost" {
        match profile.is_absent() {
            true => e.required(profile.path(), "must be set when seccomp type is Localhost"),
            false => volumes::descending_path(e, &profile),
        }
    } else if !profile.is_absent() {
        let detail = "can only be set when seccomp type is Localhost";
        e.invalid(profile.path(), c.value().clone(), detail);
    }
}

fn app_armor(e: &mut FieldErrors, c: &Cursor) {
    const BYTES_MAX: usize = 4095;
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    if c.is_absent() {
        return;
    }
    let (kind, profile) = (c.child("type"), c.child("localhostProfile"));
    match kind.str() {
        "Localhost" => {
            if profile.str().is_empty() {
                e.required(profile.path(), NEEDED);
            } else if profile.str().trim() != profile.str() {
                check::invalid_str(e, &profile, "must not be padded with whitespace");
            }
            if profile.str().len() > BYTES_MAX {
                e.too_long(profile.path(), BYTES_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if !profile.is_absent() {
                check::invalid_str(e, &profile, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => e.required(kind.path(), "type is required when appArmorProfile is set"),
        other => e.not_supported(kind.path(), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}
