//! Leases for objects that expire (Events): one lease serves all that are written within a minute of each other.
//!
//! As upstream's lease manager: sharing keeps the number of leases small at the price of living up to a minute longer.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{Etcd, StoreError};

/// How long one lease is given out.
const REUSE: Duration = Duration::from_secs(60);
/// Objects one lease may carry: its expiry is one transaction of the store.
const OBJECTS_MAX: u32 = 1_000;

/// Gives out leases for one time to live.
#[derive(Debug)]
pub struct Leases {
    ttl_s: i64,
    /// Guards the lease given out now; held across the grant so that one is asked for at a time.
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    id: i64,
    since: Instant,
    objects: u32,
}

impl Leases {
    pub fn new(ttl_s: i64) -> Self {
        Self {
            ttl_s,
            current: Mutex::new(None),
        }
    }

    /// A lease for one more object.
    pub async fn get(&self, store: &Etcd) -> Result<i64, StoreError> {
        let mut current = self.current.lock().await;
        if let Some(lease) = current.as_mut()
            && lease.since.elapsed() < REUSE
            && lease.objects < OBJECTS_MAX
        {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let id = store.grant(self.ttl_s + REUSE.as_secs().cast_signed()).await?;
        *current = Some(Current {
            id,
            since: Instant::now(),
            objects: 1,
        });
        Ok(id)
    }
}
