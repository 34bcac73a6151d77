//! The CRI description of a container.

use super::{expansion::expand, labels, resources, security};
use crate::pod::Kind;
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Container, Pod};
use keelson_proto::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, Signal,
};

/// All a container's configuration is made from besides the pod.
pub struct ContainerInputs<'a> {
    pub kind: Kind,
    pub restart_count: u32,
    /// What the runtime calls the image.
    pub image_ref: &'a str,
    pub env: &'a [(String, String)],
    pub mounts: Vec<Mount>,
    pub image_user: security::ImageUser,
    /// Container whose process namespace is joined (ephemeral containers).
    pub target_id: Option<&'a str>,
    pub node: resources::NodeLimits,
    pub security: &'a security::Defaults,
}

/// Log file of an attempt, relative to the pod's log directory.
pub fn log_path(container_name: &str, restart_count: u32) -> String {
    format!("{container_name}/{restart_count}.log")
}

pub fn render(pod: &Pod, container: &Container, inputs: ContainerInputs<'_>) -> ContainerConfig {
    let lookup = |name: &str| inputs.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, lookup)).collect()
    };
    let security = security::of_container(
        pod,
        container,
        inputs.kind,
        &inputs.image_user,
        inputs.target_id,
        inputs.security,
    );
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: inputs.restart_count,
        }),
        image: Some(ImageSpec {
            image: inputs.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .env
            .iter()
            .map(|(key, value)| KeyValue {
                key: key.clone(),
                value: Bytes::copy_from_slice(value.as_bytes()),
            })
            .collect(),
        mounts: inputs.mounts,
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, inputs.restart_count),
        log_path: log_path(&container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, inputs.node)),
            security_context: Some(security),
        }),
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|l| l.stop_signal.as_deref())
            .and_then(Signal::from_str_name)
            .unwrap_or(Signal::RuntimeDefault) as i32,
        ..ContainerConfig::default()
    }
}
