//! News of containers from the runtime: CRI events where the runtime has them, containerd's own event service otherwise,
//! and a comparison with everything it runs as the last resort.
//!
//! Only ends matter: starts are the kubelet's own doing and are read where they happen.

use crate::cri::Cri;
use crate::limits;
use crate::runtime::labels;
use keelson_proto::cri::v1::{ContainerEventType, ContainerFilter, PodSandboxFilter, PodSandboxState};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// The namespace containerd keeps Kubernetes' containers in.
const CONTAINERD_NAMESPACE: &str = "k8s.io";
/// How long the CRI plugin may take to digest an exit containerd has already told of.
const DIGEST: [u64; 8] = [2, 5, 10, 20, 50, 100, 200, 500];

/// What a listener is told.
pub enum News {
    /// This container, or this sandbox, of this pod changed.
    Changed { pod_uid: String, id: String },
    /// State of everything by pod uid: ids with their states.
    Listed(HashMap<String, Vec<(String, i32)>>),
}

pub type Listener = Arc<dyn Fn(News) + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Cri,
    Containerd,
    Relist,
}

/// Follows the runtime for ever.
pub async fn follow(cri: Cri, listener: Listener) {
    let mut source = Source::Cri;
    let relist = tokio::sync::watch::Sender::new(limits::RELIST_WITHOUT_EVENTS);
    tokio::spawn(relist_on_time(cri.clone(), listener.clone(), relist.subscribe()));
    loop {
        let result = match source {
            Source::Cri => cri_events(&cri, &listener, &relist).await,
            Source::Containerd => containerd_events(&cri, &listener, &relist).await,
            Source::Relist => return,
        };
        relist.send_replace(limits::RELIST_WITHOUT_EVENTS);
        match result {
            Err(status) if status.code() == Code::Unimplemented => {
                source = if source == Source::Cri {
                    Source::Containerd
                } else {
                    Source::Relist
                };
                tracing::info!(
                    ?source,
                    "the container runtime has no such events; using another source"
                );
            }
            Err(status) => {
                tracing::warn!(error = %crate::cri::describe(&status), "container events ended; following them again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(()) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn cri_events(
    cri: &Cri,
    listener: &Listener,
    relist: &tokio::sync::watch::Sender<Duration>,
) -> Result<(), Status> {
    let mut stream = cri.events().await?;
    relist.send_replace(limits::RELIST_WITH_EVENTS);
    while let Some(event) = stream.message().await? {
        if event.container_event_type() == ContainerEventType::ContainerStoppedEvent {
            let metadata = event.pod_sandbox_status.and_then(|s| s.metadata);
            if let Some(metadata) = metadata {
                listener(News::Changed {
                    pod_uid: metadata.uid,
                    id: event.container_id,
                });
            }
        }
    }
    Ok(())
}

/// containerd's `containerd.services.events.v1.Events/Subscribe`, filtered to the ends of first processes.
async fn containerd_events(
    cri: &Cri,
    listener: &Listener,
    relist: &tokio::sync::watch::Sender<Duration>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(cri.channel());
    client
        .ready()
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = tonic_prost::ProstCodec::<wire::SubscribeRequest, wire::Envelope>::default();
    let path = http::uri::PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let filter = format!("namespace=={CONTAINERD_NAMESPACE},topic==\"/tasks/exit\"");
    let request = tonic::Request::new(wire::SubscribeRequest {
        filters: vec![filter],
    });
    let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
    relist.send_replace(limits::RELIST_WITH_EVENTS);
    while let Some(envelope) = stream.message().await? {
        let Some(exit) = envelope
            .event
            .and_then(|e| <wire::TaskExit as prost::Message>::decode(e.value).ok())
        else {
            continue;
        };
        // Processes of exec have an id of their own.
        if exit.id == exit.container_id {
            tokio::spawn(digested(cri.clone(), listener.clone(), exit.container_id));
        }
    }
    Ok(())
}

/// Tells of an end once CRI shows it.
async fn digested(cri: Cri, listener: Listener, id: String) {
    let mut pod_uid = None;
    for wait in DIGEST {
        let (running, labels) = match cri.container_status(&id).await {
            Ok(status) => (status.finished_at == 0, status.labels),
            Err(status) if status.code() == Code::NotFound => match cri.pod_sandbox_status(&id).await {
                Ok(status) => (status.state() == PodSandboxState::SandboxReady, status.labels),
                Err(_) => return,
            },
            Err(_) => return,
        };
        pod_uid = labels.get(labels::POD_UID).cloned();
        if !running || pod_uid.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    if let Some(pod_uid) = pod_uid {
        listener(News::Changed { pod_uid, id });
    }
}

/// Compares on time, and at once when the source of events changes: what happened before it is not told by it.
async fn relist_on_time(cri: Cri, listener: Listener, mut period: tokio::sync::watch::Receiver<Duration>) {
    loop {
        let wait = *period.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = period.changed() => if changed.is_err() { return },
        }
        match list(&cri).await {
            Ok(all) => listener(News::Listed(all)),
            Err(status) => tracing::warn!(error = %crate::cri::describe(&status), "containers not listed"),
        }
    }
}

/// Everything the runtime has, by pod.
pub async fn list(cri: &Cri) -> Result<HashMap<String, Vec<(String, i32)>>, Status> {
    let mut all: HashMap<String, Vec<(String, i32)>> = HashMap::new();
    for sandbox in cri.list_pod_sandbox(PodSandboxFilter::default()).await? {
        if let Some(uid) = sandbox.labels.get(labels::POD_UID) {
            all.entry(uid.clone())
                .or_default()
                .push((sandbox.id, sandbox.state));
        }
    }
    for container in cri.list_containers(ContainerFilter::default()).await? {
        if let Some(uid) = container.labels.get(labels::POD_UID) {
            all.entry(uid.clone())
                .or_default()
                .push((container.id, container.state));
        }
    }
    Ok(all)
}

/// The few messages of containerd's event service that are needed.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SubscribeRequest {
        #[prost(string, repeated, tag = "1")]
        pub filters: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Envelope {
        #[prost(message, optional, tag = "4")]
        pub event: Option<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Any {
        #[prost(string, tag = "1")]
        pub type_url: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub value: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TaskExit {
        #[prost(string, tag = "1")]
        pub container_id: String,
        #[prost(string, tag = "2")]
        pub id: String,
    }
}
