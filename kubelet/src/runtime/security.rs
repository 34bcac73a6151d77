//! Security settings of sandboxes and containers: users, capabilities, seccomp, namespaces, masked paths.

use crate::pod::{self, Kind};
use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use keelson_proto::cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};

const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Node settings the security of pods depends on.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// `seccompDefault`: unset profiles become RuntimeDefault.
    pub seccomp_default: bool,
    /// Directory of Localhost seccomp profiles.
    pub seccomp_root: String,
}

/// The user of a container as spec and image say it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub username: String,
}

pub fn namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let spec = pod::spec(pod);
    let node = |on: Option<bool>| {
        if on.unwrap_or(false) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    let pid = match (spec.host_pid, spec.share_process_namespace, target_id) {
        (_, _, Some(_)) => NamespaceMode::Target,
        (Some(true), _, _) => NamespaceMode::Node,
        (_, Some(true), _) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: node(spec.host_network) as i32,
        ipc: node(spec.host_ipc) as i32,
        pid: pid as i32,
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

pub fn of_sandbox(pod: &Pod, defaults: &Defaults) -> LinuxSandboxSecurityContext {
    let context = pod::spec(pod).security_context.clone().unwrap_or_default();
    let privileged = pod::members(pod).any(|m| is_privileged(&m.container));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: selinux(context.se_linux_options.as_ref()),
        run_as_user: context.run_as_user.map(int64),
        run_as_group: context.run_as_group.map(int64),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged,
        // The sandbox always runs under the runtime's default profile unless the pod says otherwise.
        seccomp: Some(match &context.seccomp_profile {
            Some(profile) => seccomp(profile, defaults),
            None => SecurityProfile {
                profile_type: ProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            },
        }),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// Why a container's user is refused, if `runAsNonRoot` refuses it.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let pod_context = pod::spec(pod).security_context.clone().unwrap_or_default();
    let context = container.security_context.clone().unwrap_or_default();
    if !context
        .run_as_non_root
        .or(pod_context.run_as_non_root)
        .unwrap_or(false)
    {
        return Ok(());
    }
    let place = format!(
        "(pod: \"{}\", container: {})",
        pod::full_name(pod),
        container.name
    );
    match context.run_as_user.or(pod_context.run_as_user) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match (image.uid, image.username.as_str()) {
        (Some(0), _) => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        (None, name) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        )),
        _ => Ok(()),
    }
}

/// The security message of a container. `target_id` is the container whose process namespace an ephemeral one joins.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    kind: Kind,
    image: &ImageUser,
    target_id: Option<&str>,
    defaults: &Defaults,
) -> LinuxContainerSecurityContext {
    let pod_context = pod::spec(pod).security_context.clone().unwrap_or_default();
    let context = container.security_context.clone().unwrap_or_default();
    let user = context.run_as_user.or(pod_context.run_as_user).or(image.uid);
    let profile = context
        .seccomp_profile
        .as_ref()
        .or(pod_context.seccomp_profile.as_ref());
    let privileged = context.privileged.unwrap_or(false);
    let unmasked = privileged || context.proc_mount.as_deref() == Some("Unmasked");
    LinuxContainerSecurityContext {
        capabilities: context.capabilities.as_ref().map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: vec![],
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target_id.filter(|_| kind == Kind::Ephemeral))),
        selinux_options: selinux(
            context
                .se_linux_options
                .as_ref()
                .or(pod_context.se_linux_options.as_ref()),
        ),
        run_as_user: user.map(int64),
        run_as_username: if user.is_none() {
            image.username.clone()
        } else {
            String::new()
        },
        run_as_group: context.run_as_group.or(pod_context.run_as_group).map(int64),
        readonly_rootfs: context.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&pod_context),
        supplemental_groups_policy: groups_policy(&pod_context),
        no_new_privs: no_new_privs(&context),
        masked_paths: if unmasked {
            vec![]
        } else {
            strings(MASKED_PATHS.iter().chain(&MASKED_SYS))
        },
        readonly_paths: if unmasked {
            vec![]
        } else {
            strings(READONLY_PATHS.iter())
        },
        seccomp: Some(match profile {
            _ if privileged => unconfined(),
            Some(profile) => seccomp(profile, defaults),
            None if defaults.seccomp_default => SecurityProfile {
                profile_type: ProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            },
            None => unconfined(),
        }),
        ..LinuxContainerSecurityContext::default()
    }
}

pub fn is_privileged(container: &Container) -> bool {
    container
        .security_context
        .as_ref()
        .and_then(|s| s.privileged)
        .unwrap_or(false)
}

/// Upstream sets no_new_privs when escalation is forbidden and nothing already implies it.
fn no_new_privs(context: &SecurityContext) -> bool {
    context.allow_privilege_escalation == Some(false)
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups: Vec<i64> = context.fs_group.into_iter().collect();
    for group in context.supplemental_groups.iter().flatten() {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    groups
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn seccomp(profile: &SeccompProfile, defaults: &Defaults) -> SecurityProfile {
    match profile.type_.as_str() {
        "RuntimeDefault" => SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        },
        "Localhost" => SecurityProfile {
            profile_type: ProfileType::Localhost as i32,
            localhost_ref: format!(
                "{}/{}",
                defaults.seccomp_root,
                profile.localhost_profile.as_deref().unwrap_or_default()
            ),
        },
        _ => unconfined(),
    }
}

fn unconfined() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::Unconfined as i32,
        localhost_ref: String::new(),
    }
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<SeLinuxOption> {
    options.map(|o| SeLinuxOption {
        user: o.user.clone().unwrap_or_default(),
        role: o.role.clone().unwrap_or_default(),
        r#type: o.type_.clone().unwrap_or_default(),
        level: o.level.clone().unwrap_or_default(),
    })
}

fn int64(value: i64) -> Int64Value {
    Int64Value { value }
}

fn strings<'a>(list: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    list.map(|s| (*s).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn non_root_is_verified_against_spec_then_image() {
        let check = |run_as_user: Option<i64>, image: ImageUser| {
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}}))
                .unwrap();
            let mut container = pod::containers(&pod)[0].clone();
            container.security_context = Some(SecurityContext {
                run_as_user,
                ..SecurityContext::default()
            });
            verify_non_root(&pod, &container, &image)
        };
        assert!(
            check(Some(0), ImageUser::default())
                .unwrap_err()
                .contains("breaks non-root policy")
        );
        assert!(
            check(
                Some(5),
                ImageUser {
                    uid: Some(0),
                    ..ImageUser::default()
                }
            )
            .is_ok()
        );
        assert!(
            check(
                None,
                ImageUser {
                    uid: Some(0),
                    ..ImageUser::default()
                }
            )
            .unwrap_err()
            .contains("image will run as root")
        );
        assert!(
            check(
                None,
                ImageUser {
                    uid: None,
                    username: "www".into()
                }
            )
            .unwrap_err()
            .contains("non-numeric user (www)")
        );
    }
}
