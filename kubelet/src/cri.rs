//! Calls to the container runtime over its unix socket, each timed and counted.
//!
//! Nothing is decided here. Answers come back as CRI messages; `NotFound` on stops and removals counts as success,
//! because what was to go is gone.

use crate::limits;
use crate::metrics::Metrics;
use hyper_util::rt::TokioIo;
use keelson_proto::cri::v1::{
    self as pb, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Added to a call's own time limit, for the runtime's bookkeeping around it.
const GRACE: Duration = Duration::from_secs(10);

/// A connection to the runtime; clones share it.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
    metrics: Metrics,
}

/// One timed call: `call!(self, runtime.version, "version", request)`.
macro_rules! call {
    ($self:ident, $service:ident . $method:ident, $request:expr, $timeout:expr) => {{
        let mut client = $self.$service.clone();
        let mut request = Request::new($request);
        request.set_timeout($timeout);
        let started = Instant::now();
        let result = tokio::time::timeout($timeout + GRACE, client.$method(request)).await;
        let result = result
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the container runtime does not answer")));
        let failed = result.as_ref().is_err_and(|e| e.code() != Code::NotFound);
        $self.metrics.cri(stringify!($method), started.elapsed(), failed);
        result.map(|r| r.into_inner())
    }};
}

impl Cri {
    /// A lazy connection to `unix:///path`; the first call connects, a broken connection is made anew.
    pub fn new(endpoint: &str, metrics: Metrics) -> Result<Self, String> {
        let path = endpoint
            .strip_prefix("unix://")
            .or_else(|| endpoint.starts_with('/').then_some(endpoint))
            .ok_or_else(|| format!("container runtime endpoint {endpoint:?} is not unix:///PATH"))?;
        let path = PathBuf::from(path);
        // The URI is never resolved: the connector goes to the socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }),
        );
        let bound = limits::CRI_MESSAGE_BYTES_MAX;
        Ok(Cri {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(bound),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(bound),
            channel,
            metrics,
        })
    }

    /// The transport, for the runtime's own event service.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub async fn version(&self) -> Result<pb::VersionResponse, Status> {
        call!(
            self,
            runtime.version,
            pb::VersionRequest {
                version: "0.1.0".into()
            },
            limits::CRI_TIMEOUT
        )
    }

    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        call!(
            self,
            runtime.status,
            pb::StatusRequest { verbose: false },
            limits::CRI_TIMEOUT
        )
    }

    /// The image the runtime makes sandboxes from, where its verbose status tells (containerd, CRI-O).
    pub async fn sandbox_image(&self) -> Result<Option<String>, Status> {
        let answer = call!(
            self,
            runtime.status,
            pb::StatusRequest { verbose: true },
            limits::CRI_TIMEOUT
        )?;
        let config = answer
            .info
            .get("config")
            .and_then(|c| serde_json::from_str::<serde_json::Value>(c).ok());
        Ok(config.and_then(|c| c["sandboxImage"].as_str().map(str::to_owned)))
    }

    /// Tells the runtime the node's pod CIDR.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), Status> {
        let network_config = Some(pb::NetworkConfig {
            pod_cidr: pod_cidr.into(),
        });
        let request = pb::UpdateRuntimeConfigRequest {
            runtime_config: Some(pb::RuntimeConfig { network_config }),
        };
        call!(self, runtime.update_runtime_config, request, limits::CRI_TIMEOUT).map(drop)
    }

    /// The runtime's event stream; `Unimplemented` before containerd 1.7.
    pub async fn events(&self) -> Result<tonic::Streaming<pb::ContainerEventResponse>, Status> {
        let mut client = self.runtime.clone();
        Ok(client
            .get_container_events(pb::GetEventsRequest {})
            .await?
            .into_inner())
    }

    pub async fn run_pod_sandbox(
        &self,
        config: pb::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, Status> {
        let request = pb::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.into(),
        };
        // Upstream gives sandboxes twice the time: network plugins are slow.
        call!(self, runtime.run_pod_sandbox, request, limits::CRI_TIMEOUT * 2).map(|r| r.pod_sandbox_id)
    }

    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = pb::StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        gone_is_fine(call!(self, runtime.stop_pod_sandbox, request, limits::CRI_TIMEOUT).map(drop))
    }

    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = pb::RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        gone_is_fine(call!(self, runtime.remove_pod_sandbox, request, limits::CRI_TIMEOUT).map(drop))
    }

    pub async fn pod_sandbox_status(&self, id: &str) -> Result<pb::PodSandboxStatus, Status> {
        let request = pb::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        call!(self, runtime.pod_sandbox_status, request, limits::CRI_TIMEOUT)?
            .status
            .ok_or_else(|| Status::internal("the container runtime answered without a sandbox status"))
    }

    pub async fn list_pod_sandbox(
        &self,
        filter: pb::PodSandboxFilter,
    ) -> Result<Vec<pb::PodSandbox>, Status> {
        let request = pb::ListPodSandboxRequest { filter: Some(filter) };
        call!(self, runtime.list_pod_sandbox, request, limits::CRI_TIMEOUT).map(|r| r.items)
    }

    pub async fn create_container(
        &self,
        sandbox: &str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = pb::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        call!(self, runtime.create_container, request, limits::CRI_TIMEOUT).map(|r| r.container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = pb::StartContainerRequest {
            container_id: id.into(),
        };
        call!(self, runtime.start_container, request, limits::CRI_TIMEOUT).map(drop)
    }

    /// TERM, and KILL after `timeout_s`.
    pub async fn stop_container(&self, id: &str, timeout_s: i64) -> Result<(), Status> {
        let request = pb::StopContainerRequest {
            container_id: id.into(),
            timeout: timeout_s,
        };
        let limit = limits::CRI_TIMEOUT + Duration::from_secs(timeout_s.max(0).unsigned_abs());
        gone_is_fine(call!(self, runtime.stop_container, request, limit).map(drop))
    }

    pub async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let request = pb::RemoveContainerRequest {
            container_id: id.into(),
        };
        gone_is_fine(call!(self, runtime.remove_container, request, limits::CRI_TIMEOUT).map(drop))
    }

    pub async fn list_containers(&self, filter: pb::ContainerFilter) -> Result<Vec<pb::Container>, Status> {
        let request = pb::ListContainersRequest { filter: Some(filter) };
        call!(self, runtime.list_containers, request, limits::CRI_TIMEOUT).map(|r| r.containers)
    }

    pub async fn container_status(&self, id: &str) -> Result<pb::ContainerStatus, Status> {
        let request = pb::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        call!(self, runtime.container_status, request, limits::CRI_TIMEOUT)?
            .status
            .ok_or_else(|| Status::internal("the container runtime answered without a container status"))
    }

    pub async fn reopen_container_log(&self, id: &str) -> Result<(), Status> {
        let request = pb::ReopenContainerLogRequest {
            container_id: id.into(),
        };
        call!(self, runtime.reopen_container_log, request, limits::CRI_TIMEOUT).map(drop)
    }

    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        timeout_s: i64,
    ) -> Result<pb::ExecSyncResponse, Status> {
        let request = pb::ExecSyncRequest {
            container_id: id.into(),
            cmd,
            timeout: timeout_s,
        };
        let limit = match timeout_s {
            0 => Duration::from_secs(3600),
            s => Duration::from_secs(s.unsigned_abs()) + GRACE,
        };
        call!(self, runtime.exec_sync, request, limit)
    }

    /// URL of a stream that runs a command.
    pub async fn exec(&self, request: pb::ExecRequest) -> Result<String, Status> {
        call!(self, runtime.exec, request, limits::CRI_TIMEOUT).map(|r| r.url)
    }

    /// URL of a stream attached to the first process.
    pub async fn attach(&self, request: pb::AttachRequest) -> Result<String, Status> {
        call!(self, runtime.attach, request, limits::CRI_TIMEOUT).map(|r| r.url)
    }

    /// URL of a stream to ports of the sandbox.
    pub async fn port_forward(&self, request: pb::PortForwardRequest) -> Result<String, Status> {
        call!(self, runtime.port_forward, request, limits::CRI_TIMEOUT).map(|r| r.url)
    }

    pub async fn list_container_stats(&self) -> Result<Vec<pb::ContainerStats>, Status> {
        let request = pb::ListContainerStatsRequest { filter: None };
        call!(self, runtime.list_container_stats, request, limits::CRI_TIMEOUT).map(|r| r.stats)
    }

    pub async fn list_images(&self) -> Result<Vec<pb::Image>, Status> {
        call!(
            self,
            images.list_images,
            pb::ListImagesRequest { filter: None },
            limits::CRI_TIMEOUT
        )
        .map(|r| r.images)
    }

    /// The image, if the node has it.
    pub async fn image_status(&self, image: &str) -> Result<Option<pb::Image>, Status> {
        let spec = pb::ImageSpec {
            image: image.into(),
            ..pb::ImageSpec::default()
        };
        let request = pb::ImageStatusRequest {
            image: Some(spec),
            verbose: false,
        };
        call!(self, images.image_status, request, limits::CRI_TIMEOUT).map(|r| r.image)
    }

    /// Pulls without a deadline of its own: the runtime gives up when nothing arrives any more.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<pb::AuthConfig>,
        sandbox_config: Option<pb::PodSandboxConfig>,
    ) -> Result<String, Status> {
        let spec = pb::ImageSpec {
            image: image.into(),
            user_specified_image: image.into(),
            ..pb::ImageSpec::default()
        };
        let request = pb::PullImageRequest {
            image: Some(spec),
            auth,
            sandbox_config,
        };
        let limit = Duration::from_secs(24 * 3600);
        call!(self, images.pull_image, request, limit).map(|r| r.image_ref)
    }

    pub async fn remove_image(&self, id: &str) -> Result<(), Status> {
        let spec = pb::ImageSpec {
            image: id.into(),
            ..pb::ImageSpec::default()
        };
        let request = pb::RemoveImageRequest { image: Some(spec) };
        call!(self, images.remove_image, request, limits::CRI_TIMEOUT).map(drop)
    }

    pub async fn image_fs_info(&self) -> Result<pb::ImageFsInfoResponse, Status> {
        call!(
            self,
            images.image_fs_info,
            pb::ImageFsInfoRequest {},
            limits::CRI_TIMEOUT
        )
    }
}

fn gone_is_fine(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        other => other,
    }
}

/// A gRPC error in the words upstream's messages use.
pub fn describe(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}
