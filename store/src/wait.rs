//! Waiting for a change of keys inside the process: for locks and elections.

use std::sync::Arc;

use keelson_store_mvcc::Mvcc;
use keelson_store_mvcc::watch::{Events, Interest, Outlet};
use tokio::sync::Notify;

use crate::api::Api;

/// Wakes a waiter; it looks at the state again, so events need not be kept.
#[derive(Default)]
struct Bell(Notify);

impl Outlet for Bell {
    fn push(&self, _: i64, _: &Arc<Events>) -> bool {
        self.0.notify_one();
        true
    }

    fn lag(&self, _: i64, _: i64) {
        self.0.notify_one();
    }
}

/// Leaves the hub however the wait ends.
struct Joined<'a> {
    api: &'a Api,
    interest: &'a Interest,
    outlet: Arc<dyn Outlet>,
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.api
            .shared
            .state
            .write()
            .hub
            .leave(self.interest, 0, &self.outlet);
    }
}

impl Api {
    /// Returns what `look` finds, looking again after each change of interest.
    pub async fn wait_until<T>(&self, interest: &Interest, mut look: impl FnMut(&Mvcc) -> Option<T>) -> T {
        loop {
            let bell = Arc::new(Bell::default());
            let outlet: Arc<dyn Outlet> = bell.clone();
            let found = {
                let mut state = self.shared.state.write();
                let found = look(&state);
                if found.is_none() {
                    state.hub.join(interest, 0, outlet.clone());
                }
                found
            };
            if let Some(found) = found {
                return found;
            }
            let joined = Joined {
                api: self,
                interest,
                outlet,
            };
            bell.0.notified().await;
            drop(joined);
        }
    }
}
