//! Views of a Pod that the rest of the kubelet asks for: names, containers of each kind, policies.
//!
//! Pure accessors over the typed object; they decide nothing and allocate only where the API type forces it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, EphemeralContainer, ObjectReference, Pod, PodSpec,
};
use std::borrow::Cow;

/// Annotation that says where a pod came from: `api`, `file`.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation with the hash of a static pod, on it and on its mirror.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation that marks the API object which mirrors a static pod.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// The list of the spec a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `spec.initContainers`.
    Init,
    /// `spec.containers`.
    Regular,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

impl Kind {
    /// The field name that events and paths use.
    pub fn field(self) -> &'static str {
        match self {
            Kind::Init => "initContainers",
            Kind::Regular => "containers",
            Kind::Ephemeral => "ephemeralContainers",
        }
    }
}

/// One container of a pod with the list it stands in.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub kind: Kind,
    pub container: Cow<'a, Container>,
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, the form log lines, back-off messages and events use.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The spec; a pod from the API server always has one.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// Every container: init, regular, ephemeral.
pub fn members(pod: &Pod) -> impl Iterator<Item = Member<'_>> {
    let borrowed = |kind| {
        move |c| Member {
            kind,
            container: Cow::Borrowed(c),
        }
    };
    init_containers(pod)
        .iter()
        .map(borrowed(Kind::Init))
        .chain(containers(pod).iter().map(borrowed(Kind::Regular)))
        .chain(ephemeral_containers(pod).iter().map(|e| Member {
            kind: Kind::Ephemeral,
            container: Cow::Owned(from_ephemeral(e)),
        }))
}

/// The container of that name, whichever list holds it.
pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<Member<'a>> {
    members(pod).find(|m| m.container.name == name)
}

/// An init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The restart policy of the pod, `Always` when unset.
pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// When the API server asked for the pod to go, if it did.
pub fn deletion_time(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.deletion_timestamp.as_ref().map(|t| t.0)
}

/// The grace period in force: the deletion's own, otherwise the spec's.
pub fn grace_period_s(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .filter(|_| pod.metadata.deletion_timestamp.is_some())
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30)
        .max(0)
}

/// The phase the API server has.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether the phase never changes again.
pub fn is_terminal_phase(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The status the API server has for one container.
pub fn api_container_status<'a>(pod: &'a Pod, kind: Kind, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let list = match kind {
        Kind::Init => &status.init_container_statuses,
        Kind::Regular => &status.container_statuses,
        Kind::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.as_deref()?.iter().find(|s| s.name == name)
}

/// A static pod (from a file), which the API server only mirrors.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// The API object that mirrors a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What events about the pod, or one of its containers, refer to.
pub fn reference(pod: &Pod, container: Option<(Kind, &str)>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(|(kind, name)| format!("spec.{}{{{name}}}", kind.field())),
    }
}

/// An ephemeral container in the shape of the others.
fn from_ephemeral(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        lifecycle: e.lifecycle.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// Go's `time.Duration` text for whole seconds, as upstream's back-off messages print it: `10s`, `2m40s`, `1h0m5s`.
pub fn go_duration_s(seconds: i64) -> String {
    let (h, m, s) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

/// Go's `time.Duration` text for a measured time, to the millisecond: `350ms`, `1.25s`, `1m2.5s`.
pub fn go_duration_ms(ms: u128) -> String {
    if ms == 0 {
        return "0s".into();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match minutes {
        0 => format!("{seconds}s"),
        m if m < 60 => format!("{m}m{seconds}s"),
        m => format!("{}h{}m{seconds}s", m / 60, m % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        for (s, text) in [
            (0, "0s"),
            (10, "10s"),
            (80, "1m20s"),
            (300, "5m0s"),
            (3605, "1h0m5s"),
        ] {
            assert_eq!(go_duration_s(s), text);
        }
        for (ms, text) in [
            (0, "0s"),
            (350, "350ms"),
            (1000, "1s"),
            (1250, "1.25s"),
            (62_500, "1m2.5s"),
            (60_000, "1m0s"),
        ] {
            assert_eq!(go_duration_ms(ms), text);
        }
    }

    #[test]
    fn grace_comes_from_the_deletion_first() {
        let mut pod = Pod {
            spec: Some(PodSpec::default()),
            ..Pod::default()
        };
        assert_eq!(grace_period_s(&pod), 30);
        pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(5);
        assert_eq!(grace_period_s(&pod), 5);
        pod.metadata.deletion_grace_period_seconds = Some(1);
        assert_eq!(grace_period_s(&pod), 5);
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH,
        ));
        assert_eq!(grace_period_s(&pod), 1);
    }
}
