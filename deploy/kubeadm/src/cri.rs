//! The container runtime, asked to stop and remove every pod, so that its network plugins undo what they did.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use keelson_proto::cri::v1 as pb;
use keelson_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// How long one pod may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a runtime may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a pod that would not go is tried.
const ATTEMPTS: u32 = 5;
/// Bytes of an answer at most.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Removes all pods; a socket that does not exist has none. Gives their uids.
pub async fn remove_pods(socket: &str) -> anyhow::Result<Vec<String>> {
    let path = PathBuf::from(socket.trim_start_matches("unix://"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut runtime = connect(path).await?;
    let listed = runtime
        .list_pod_sandbox(pb::ListPodSandboxRequest::default())
        .await
        .context("list the runtime's pods")?
        .into_inner()
        .items;
    let mut left = Vec::new();
    for sandbox in &listed {
        if let Err(error) = remove_pod(&mut runtime, &sandbox.id).await {
            let name = sandbox
                .metadata
                .as_ref()
                .map(|pod| format!("{}/{}", pod.namespace, pod.name));
            left.push(format!(
                "{}: {error:#}",
                name.unwrap_or_else(|| sandbox.id.clone())
            ));
        }
    }
    if !left.is_empty() {
        bail!(
            "failed to remove {} of {} pods: {}",
            left.len(),
            listed.len(),
            left.join("; ")
        );
    }
    let uids = listed
        .into_iter()
        .filter_map(|sandbox| sandbox.metadata.map(|pod| pod.uid));
    Ok(uids.collect())
}

/// Waits until a runtime that is starting answers: it takes connections before it knows its pods.
pub async fn wait_for(socket: &str) -> anyhow::Result<()> {
    let path = PathBuf::from(socket.trim_start_matches("unix://"));
    let began = Instant::now();
    while let Err(error) = answers(path.clone()).await {
        if began.elapsed() > START_LIMIT {
            return Err(error)
                .with_context(|| format!("the container runtime at {} does not answer", path.display()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn answers(path: PathBuf) -> anyhow::Result<()> {
    let list = pb::ListPodSandboxRequest::default();
    connect(path)
        .await?
        .list_pod_sandbox(list)
        .await
        .context("list the runtime's pods")?;
    Ok(())
}

async fn connect(path: PathBuf) -> anyhow::Result<RuntimeServiceClient<Channel>> {
    // The URI is never resolved: the connector goes to the socket.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .context("connect to the container runtime")?;
    Ok(RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

async fn remove_pod(runtime: &mut RuntimeServiceClient<Channel>, id: &str) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        match remove_once(runtime, id).await {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn remove_once(runtime: &mut RuntimeServiceClient<Channel>, id: &str) -> anyhow::Result<()> {
    let stop = pb::StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    tokio::time::timeout(STOP_TIMEOUT, runtime.stop_pod_sandbox(stop))
        .await
        .with_context(|| format!("not stopped after {} s", STOP_TIMEOUT.as_secs()))?
        .context("stop it")?;
    let remove = pb::RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    runtime.remove_pod_sandbox(remove).await.context("remove it")?;
    Ok(())
}
