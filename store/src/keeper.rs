//! The keeper: moves records from memory to the engine, carries out compactions, writes snapshots.
//!
//! One thread, woken by the member's thread; it takes the state's lock for moments only. `Work` is the same without the
//! thread, for a simulation to call.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use keelson_store_disk::{Disk, snapshot};
use keelson_store_mvcc::backend::{Backend, ReadError};
use keelson_store_mvcc::image::Snapshot;
use keelson_store_raft::SnapshotBase;
use parking_lot::{Condvar, Mutex};

use crate::member::open::{Engines, Layout, load};
use crate::member::{Fatal, Input, Keeper, Shared};

/// What the keeper does, one step at a time.
pub struct Work {
    shared: Arc<Shared>,
    backend: Backend,
    disk: Arc<dyn Disk>,
    layout: Layout,
}

impl Work {
    /// Continues from what the state's engine holds.
    pub fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, layout: Layout) -> Result<Self, ReadError> {
        let engine = shared.state.read().engine().clone();
        Ok(Self {
            backend: Backend::new(engine)?,
            shared,
            disk,
            layout,
        })
    }

    /// Writes what is due to the engine.
    pub fn flush(&mut self, force: bool) -> Result<(), ReadError> {
        loop {
            let Some(job) = self.shared.state.write().flush_job(force) else {
                return Ok(());
            };
            match self.backend.flush(&job) {
                Ok(blocks) => self.shared.state.write().flushed(&job, &blocks),
                Err(error) => {
                    self.shared.state.write().flush_failed(job);
                    return Err(error);
                }
            }
            if force {
                return Ok(());
            }
        }
    }

    /// Drops compacted records and rewrites sparse blocks; true while there is more to do.
    pub fn compact(&mut self, may_reclaim: bool) -> Result<bool, ReadError> {
        if self.shared.state.write().compact_step() {
            return Ok(true);
        }
        self.shared.compacted.notify_waiters();
        if !may_reclaim {
            return Ok(false);
        }
        if self.shared.state.read().compacted() > self.backend.meta().compacted {
            self.flush(true)?;
        }
        // Under the lock, so that no reader finds a block missing that the state still names.
        let mut state = self.shared.state.write();
        if state.compacted() > self.backend.meta().compacted {
            return Ok(true);
        }
        let Some(job) = state.reclaim_job() else {
            return Ok(false);
        };
        let blocks = self
            .backend
            .reclaim(&job, &mut |key, revision| state.holds(key, revision))?;
        state.reclaimed(&job, &blocks);
        Ok(true)
    }

    /// Takes what a snapshot is made from.
    pub fn start_snapshot(&mut self) -> Result<SnapshotJob, ReadError> {
        self.flush(true)?;
        Ok(SnapshotJob {
            snapshot: Snapshot::take(self.backend.engine().as_ref())?,
            engine: self.backend.engine().clone(),
            disk: self.disk.clone(),
            dir: self.layout.snap.clone(),
        })
    }

    /// Flushes everything, also to the disk.
    pub fn finish(&mut self) -> Result<(), ReadError> {
        self.flush(true)?;
        self.backend.sync()
    }
}

/// A snapshot being written, while the state goes on.
pub struct SnapshotJob {
    snapshot: Snapshot,
    engine: Arc<dyn keelson_store_disk::Engine>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl SnapshotJob {
    /// Writes the file under its final name.
    pub fn write(&self) -> Result<SnapshotBase, ReadError> {
        let meta = &self.snapshot.meta;
        let path = snapshot::path(&self.dir, meta.applied_term, meta.applied_index);
        self.write_to(&path)?;
        Ok(SnapshotBase {
            index: meta.applied_index,
            term: meta.applied_term,
            conf_state: keelson_store_raft::decode(&meta.conf_state).unwrap_or_default(),
            has_file: true,
        })
    }

    /// Writes the file elsewhere.
    pub fn write_to(&self, path: &std::path::Path) -> Result<u64, ReadError> {
        let size = snapshot::write(self.disk.as_ref(), path, |writer| {
            self.snapshot.write(self.engine.as_ref(), writer)
        })?;
        Ok(size)
    }
}

enum Order {
    Wake,
    Wait(Arc<Gate>),
    Snapshot,
    SnapshotEnded,
    /// A client's snapshot: the job is handed out, and comes back when it is dropped.
    Export(tokio::sync::oneshot::Sender<Result<SnapshotJob, String>>),
    Restore(SnapshotBase, mpsc::Sender<Result<(), Fatal>>),
    Finish(mpsc::Sender<()>),
}

#[derive(Default)]
struct Gate {
    /// Guards whether the work is done.
    open: Mutex<bool>,
    changed: Condvar,
}

/// The keeper's thread, as others see it; clones share it.
#[derive(Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
}

/// Starts the keeper's thread.
pub fn spawn(
    mut work: Work,
    engines: Arc<dyn Engines>,
    mut generation: u64,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<Handle> {
    let (orders, received) = mpsc::channel();
    let back = orders.clone();
    let run = move || {
        // Snapshots being written: blocks must not be rewritten meanwhile.
        let mut snapshots = 0u32;
        while let Ok(order) = received.recv() {
            match order {
                Order::Wake => keep(&mut work, snapshots == 0),
                Order::Wait(gate) => {
                    keep(&mut work, snapshots == 0);
                    *gate.open.lock() = true;
                    gate.changed.notify_all();
                }
                Order::Snapshot => {
                    snapshots += 1;
                    write_snapshot(&mut work, &inputs, &back);
                }
                Order::Export(answer) => {
                    snapshots += 1;
                    let job = work.start_snapshot().map_err(|error| error.to_string());
                    let failed = job.is_err();
                    if answer.send(job).is_err() || failed {
                        snapshots -= 1;
                    }
                }
                Order::SnapshotEnded => {
                    snapshots -= 1;
                    keep(&mut work, snapshots == 0);
                }
                Order::Restore(base, done) => {
                    generation += 1;
                    let _ = done.send(restore(&mut work, engines.as_ref(), generation, &base));
                }
                Order::Finish(done) => {
                    if let Err(error) = work.finish() {
                        tracing::warn!(%error, "the applied state was not written; the next start replays the log");
                    }
                    let _ = done.send(());
                }
            }
        }
    };
    std::thread::Builder::new().name("keeper".to_owned()).spawn(run)?;
    Ok(Handle { orders })
}

fn keep(work: &mut Work, may_reclaim: bool) {
    let mut step = || -> Result<(), ReadError> {
        let started = std::time::Instant::now();
        work.flush(false)?;
        let took = started.elapsed().as_secs_f64();
        work.shared.metrics.backend_commit.observe(took);
        while work.compact(may_reclaim)? {
            work.flush(false)?;
        }
        Ok(())
    };
    if let Err(error) = step() {
        // Records stay in memory and in the log; the next wake tries again, and writers wait when it is too much.
        tracing::error!(%error, "the state engine cannot be written");
        std::thread::sleep(std::time::Duration::from_millis(crate::limits::DISK_RETRY_MS));
    }
}

fn write_snapshot(work: &mut Work, inputs: &mpsc::Sender<Input>, back: &mpsc::Sender<Order>) {
    let job = work.start_snapshot();
    let (inputs, back) = (inputs.clone(), back.clone());
    let run = move || {
        let outcome = job.and_then(|job| job.write()).map_err(|error| error.to_string());
        let _ = inputs.send(Input::SnapshotDone(outcome));
        let _ = back.send(Order::SnapshotEnded);
    };
    if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(run) {
        tracing::error!(%error, "no thread for a snapshot");
    }
}

fn restore(
    work: &mut Work,
    engines: &dyn Engines,
    generation: u64,
    base: &SnapshotBase,
) -> Result<(), Fatal> {
    let file = snapshot::path(&work.layout.snap, base.term, base.index);
    let path = work.layout.engine(generation);
    let new = load(work.disk.as_ref(), engines, &path, &file)?;
    let backend = Backend::new(new.engine().clone())?;
    let mut state = work.shared.state.write();
    state.hub.dismiss();
    *state = new;
    let members = state.members().list();
    let conf = keelson_store_raft::decode(state.conf_state()).unwrap_or_default();
    work.shared.set_conf(&conf, work.shared.member_id);
    drop(state);
    work.shared.members.send_replace(members);
    work.shared.applied.send_replace(base.index);
    work.backend = backend;
    let old = work.layout.engine(generation - 1);
    // A reader may still hold the old engine; a leftover directory is removed by the next start.
    if let Err(error) = engines.discard(&old) {
        tracing::debug!(%error, "the old state is removed later");
    }
    Ok(())
}

impl Handle {
    fn order(&self, order: Order) {
        // The thread ends only with the process.
        let _ = self.orders.send(order);
    }

    /// A snapshot for a client.
    pub async fn export(&self) -> Result<Export, String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.order(Order::Export(answer));
        let job = answered
            .await
            .map_err(|_| "the member is stopping".to_owned())??;
        Ok(Export {
            job,
            keeper: self.clone(),
        })
    }

    /// Writes everything and returns when it is done.
    pub fn finish(&self) {
        let (done, finished) = mpsc::channel();
        self.order(Order::Finish(done));
        let _ = finished.recv();
    }
}

/// A client's snapshot; blocks are not rewritten until it is dropped.
pub struct Export {
    pub job: SnapshotJob,
    keeper: Handle,
}

impl Drop for Export {
    fn drop(&mut self) {
        self.keeper.order(Order::SnapshotEnded);
    }
}

impl Keeper for Handle {
    fn wake(&self) {
        self.order(Order::Wake);
    }

    fn wait(&self) {
        let gate = Arc::new(Gate::default());
        self.order(Order::Wait(gate.clone()));
        let mut open = gate.open.lock();
        while !*open {
            gate.changed.wait(&mut open);
        }
    }

    fn snapshot(&self) {
        self.order(Order::Snapshot);
    }

    fn restore(&self, base: &SnapshotBase) -> Result<(), Fatal> {
        let (done, finished) = mpsc::channel();
        self.order(Order::Restore(base.clone(), done));
        finished
            .recv()
            .unwrap_or_else(|_| Err(Fatal::Read(ReadError::damaged("the keeper has ended"))))
    }
}
