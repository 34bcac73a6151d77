//! How many requests run at once: `--max-requests-inflight` for reads, `--max-mutating-requests-inflight` for writes.
//! Long-running requests and system:masters are not counted.

use std::sync::Arc;

use keelson_auth::user::MASTERS;
use keelson_machinery::Status;
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::server::Server;

/// The places for requests in flight; `None`: no limit.
#[derive(Clone, Debug)]
pub struct InFlight {
    reads: Option<Places>,
    writes: Option<Places>,
}

#[derive(Clone, Debug)]
struct Places {
    limit: usize,
    free: Arc<Semaphore>,
}

impl InFlight {
    /// 0 is no limit.
    pub fn new(reads: usize, writes: usize) -> Self {
        let places = |limit: usize| {
            (limit > 0).then(|| Places {
                limit,
                free: Arc::new(Semaphore::new(limit)),
            })
        };
        Self {
            reads: places(reads),
            writes: places(writes),
        }
    }

    /// Places taken now, of reads and of writes; 0 where there is no limit.
    pub fn in_use(&self) -> (usize, usize) {
        let used = |places: &Option<Places>| {
            let places = places.as_ref();
            places.map_or(0, |places| {
                places.limit.saturating_sub(places.free.available_permits())
            })
        };
        (used(&self.reads), used(&self.writes))
    }
}

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    if context.info.is_long_running() || context.user.in_group(MASTERS) {
        return Ok(());
    }
    let mutating = !matches!(context.info.verb.as_str(), "get" | "list" | "watch" | "head");
    let places = match mutating {
        true => &server.in_flight.writes,
        false => &server.in_flight.reads,
    };
    if let Some(places) = places {
        let permit = places.free.clone().try_acquire_owned().map_err(|_| {
            Status::too_many_requests(
                "The apiserver is currently overloaded, please try again later.",
                1,
            )
        })?;
        context.permit = Some(permit);
    }
    Ok(())
}
