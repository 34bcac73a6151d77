//! The server's parts, put together once and shared by every request.

use std::sync::Arc;
use std::time::Duration;

use keelson_admission::chain::Chain;
use keelson_auth::build::Auth;
use keelson_base::Shutdown;
use keelson_base::health::Checks;

use crate::allocators::Allocators;
use crate::auth_files::AuthFiles;
use crate::cache::Progress;
use crate::cache::feed::Feed;
use crate::cache::reader::CacheReader;
use crate::discovery::Discovery;
use crate::filters::InFlight;
use crate::metrics::Metrics;
use crate::registry::{Hub, Registry};
use crate::storage::Etcd;
use crate::storage::keys::Keys;
use crate::storage::leases::Leases;

/// What requests need to know of the command line.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    pub request_timeout: Duration,
}

/// Everything a request may touch.
pub struct Server {
    pub options: RequestOptions,
    pub store: Etcd,
    pub keys: Keys,
    pub progress: Progress,
    pub feed: Arc<Feed>,
    pub registry: Arc<Registry>,
    pub reader: Arc<CacheReader>,
    pub auth: Auth,
    pub auth_files: AuthFiles,
    pub admission: Chain,
    pub leases: Leases,
    pub in_flight: InFlight,
    pub allocators: Allocators,
    pub discovery: Discovery,
    pub checks: Checks,
    pub metrics: Metrics,
    pub tokens: crate::subresources::token::TokenOptions,
    pub kubelets: crate::streams::Kubelets,
    pub shutdown: Shutdown,
}

impl Server {
    /// After a write: the cache catches up before the writer is answered, so that what it does next, and what it
    /// causes others to do, sees the write. Events and Leases decide nothing here.
    pub async fn wrote(&self, hub: &Hub, revision: i64) {
        if !hub.expires && hub.storage_prefix != "leases" {
            self.progress.wait_own_write(revision).await;
        }
    }
}
