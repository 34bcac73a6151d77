//! What the server makes itself, once the caches are full: namespaces, policy, the `kubernetes` Service.

pub mod authentication_config;
pub mod identity_lease;
pub mod kubernetes_service;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use keelson_auth::bootstrap::{self, Action};
use keelson_machinery::{GroupResource, ObjectReader, Status, Value, meta};
use serde_json::{Map, json};

use crate::allocators::repair;
use crate::server::Server;

/// Objects written at once.
const WRITES_MAX: usize = 32;

/// Whether it is done.
#[derive(Clone, Debug, Default)]
pub struct Done(Arc<AtomicBool>);

impl Done {
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the server's own objects say of it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub place: kubernetes_service::Place,
    pub hostname: String,
    pub authentication: Map<String, Value>,
}

/// Makes everything; tries again until it is made. Then keeps alive what says that this server is.
pub async fn run(server: Arc<Server>, identity: Identity, done: Done) {
    let mut pause = std::time::Duration::from_millis(20);
    loop {
        if server.feed.is_ready() {
            match all(&server, &identity).await {
                Ok(()) => {
                    done.0.store(true, Ordering::Relaxed);
                    let id = uuid::Uuid::new_v4().to_string();
                    tokio::join!(
                        kubernetes_service::keep(server.clone(), identity.place),
                        identity_lease::keep(server.clone(), identity.hostname.clone(), id),
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the server's own objects could not be made; trying again")
                }
            }
        }
        tokio::select! {
            () = server.shutdown.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if server.feed.is_ready() {
            pause = (pause * 2).min(std::time::Duration::from_secs(2));
        }
    }
}

async fn all(server: &Server, identity: &Identity) -> Result<(), Status> {
    policy(server).await?;
    authentication_config::write(server, &identity.authentication).await?;
    service_cidr(server).await?;
    kubernetes_service::service(server, identity.place).await?;
    repair::run(server).await
}

/// The default ServiceCIDR: the flag's ranges.
async fn service_cidr(server: &Server) -> Result<(), Status> {
    let resource = GroupResource::new("networking.k8s.io", "servicecidrs");
    let cidrs: Vec<String> = server
        .allocators
        .ips
        .ranges()
        .iter()
        .map(ToString::to_string)
        .collect();
    let now = keelson_machinery::time::format_rfc3339(jiff::Timestamp::now());
    let object = json!({
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
            "message": "Kubernetes default Service CIDR is ready",
        }]},
    });
    server.create_own(&resource, object).await.map(drop)
}

/// Namespaces, roles, bindings, priority classes, flow control.
async fn policy(server: &Server) -> Result<(), Status> {
    let shipped: Vec<_> = bootstrap::objects()
        .into_iter()
        .filter(|(resource, _)| server.registry.cached(resource).is_some())
        .collect();
    let actions = bootstrap::plan(&shipped, |resource, namespace, name| {
        server.reader.get(resource, namespace, name)
    });
    // None needs another; side by side they share the store's syncs.
    futures::stream::iter(actions)
        .map(|action| apply(server, action))
        .buffer_unordered(WRITES_MAX)
        .try_collect()
        .await
}

async fn apply(server: &Server, action: Action) -> Result<(), Status> {
    match action {
        Action::Create { resource, object } => server.create_own(&resource, object).await.map(drop),
        Action::Update { resource, object } => update(server, &resource, object).await,
        Action::Recreate {
            resource,
            uid,
            object,
        } => {
            let (namespace, name) = (meta::namespace(&object), meta::name(&object));
            server
                .delete_own(&resource, namespace, name, |stored| meta::uid(stored) == uid)
                .await?;
            server.create_own(&resource, object).await.map(drop)
        }
    }
}

async fn update(server: &Server, resource: &GroupResource, object: Value) -> Result<(), Status> {
    let version = meta::resource_version(&object).to_owned();
    let (namespace, name) = (
        meta::namespace(&object).to_owned(),
        meta::name(&object).to_owned(),
    );
    server
        .update_own(resource, &namespace, &name, |stored| {
            stored
                .is_some_and(|stored| meta::resource_version(stored) == version)
                .then(|| object.clone())
        })
        .await
}
