//! One simulated machine: a disk, engines, and the member that runs on them or does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_disk::fs::{read_all, temporary};
use keelson_store_disk::{Disk, snapshot};
use keelson_store_raft::{Message, SnapshotBase};
use kube_store::keeper::Work;
use kube_store::member::open::{self, Layout, Opened, load};
use kube_store::member::{Fatal, Genesis, Input, Keeper, Member, Settings, Shared, Transport};
use parking_lot::Mutex;

use crate::chance::Chance;
use crate::disk::SimDisk;
use crate::engines::SimEngines;

/// By how much a machine's clock may be fast or slow.
pub const CLOCK_DRIFT_PER_MILLE: u64 = 20;
/// Length of a member's tick.
pub const TICK_MS: u64 = 100;
/// Ticks of an election timeout.
pub const ELECTION_TICKS: usize = 10;
/// Few, so that followers need snapshots.
const CATCH_UP_ENTRIES: u64 = 10;
/// Small, so that segments are removed.
const SEGMENT_BYTES_MAX: u64 = 4_000;

/// Messages on their way out.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<Message>>>);

impl Transport for Outbox {
    fn send(&self, messages: Vec<Message>) {
        self.0.lock().extend(messages);
    }
}

/// What the member wants done beside it.
#[derive(Default)]
struct Orders {
    wake: AtomicBool,
    snapshot: AtomicBool,
}

/// The keeper without a thread.
struct SimKeeper {
    work: Arc<Mutex<Work>>,
    orders: Arc<Orders>,
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    engines: Arc<SimEngines>,
    layout: Layout,
    generation: AtomicU64,
    installed: Arc<AtomicU32>,
}

impl Keeper for SimKeeper {
    fn wake(&self) {
        self.orders.wake.store(true, Ordering::Relaxed);
    }

    fn wait(&self) {
        self.work
            .lock()
            .flush(false)
            .expect("engines in memory do not fail");
    }

    fn snapshot(&self) {
        self.orders.snapshot.store(true, Ordering::Relaxed);
    }

    fn restore(&self, base: &SnapshotBase) -> Result<(), Fatal> {
        self.installed.fetch_add(1, Ordering::Relaxed);
        let file = snapshot::path(&self.layout.snap, base.term, base.index);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.layout.engine(generation);
        let new = load(self.disk.as_ref(), self.engines.as_ref(), &path, &file)?;
        let mut state = self.shared.state.write();
        state.hub.dismiss();
        *state = new;
        let members = state.members().list();
        let conf = keelson_store_raft::decode(state.conf_state()).unwrap_or_default();
        self.shared.set_conf(&conf, self.shared.member_id);
        drop(state);
        self.shared.members.send_replace(members);
        self.shared.applied.send_replace(base.index);
        *self.work.lock() = Work::new(self.shared.clone(), self.disk.clone(), self.layout.clone())?;
        Ok(())
    }
}

/// A running member.
pub struct Running {
    pub member: Member,
    pub shared: Arc<Shared>,
    work: Arc<Mutex<Work>>,
    orders: Arc<Orders>,
    outbox: Outbox,
}

/// One machine.
pub struct Host {
    pub id: u64,
    pub disk: SimDisk,
    pub engines: Arc<SimEngines>,
    pub running: Option<Running>,
    /// Counts starts: what was asked of an earlier one is not answered by a later one.
    pub incarnation: u64,
    /// Does not run before this.
    pub asleep_until: u64,
    /// When to start again; `None` while it runs.
    pub start_at: Option<u64>,
    /// A bit of its disk was flipped: it may refuse to start.
    pub flipped: bool,
    /// It refused to start.
    pub refused: bool,
    /// Until when its disk is full.
    pub full_until: u64,
    /// It was removed from the cluster and stopped for good.
    pub gone: bool,
    /// Its start and entry at which it was last looked at.
    pub seen: (u64, u64),
    layout: Layout,
    installed: Arc<AtomicU32>,
    /// Clocks start at different times and go at different rates.
    clock_ms: u64,
    clock_per_mille: u64,
    next_tick: u64,
}

impl Host {
    /// A machine with a fresh data directory: of a member of a new cluster, or, without `members`, of one that joins the
    /// cluster of its `peers`.
    pub fn new(
        id: u64,
        members: &[pb::Member],
        peers: &[pb::Member],
        chance: &mut Chance,
        loses_syncs: bool,
    ) -> Result<Self, String> {
        let disk = SimDisk::new(chance.fork(), loses_syncs);
        let layout = Layout::new(Path::new("/data"));
        let genesis = Genesis {
            cluster_id: 7,
            member_id: id,
            members: members.to_vec(),
            peers: peers.to_vec(),
            restored: false,
        };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        open::create(&shared, &layout, &genesis).map_err(|error| error.to_string())?;
        Ok(Self {
            id,
            disk,
            engines: Arc::default(),
            running: None,
            incarnation: 0,
            asleep_until: 0,
            start_at: Some(0),
            flipped: false,
            refused: false,
            full_until: 0,
            gone: false,
            seen: (0, 0),
            layout,
            installed: Arc::default(),
            clock_ms: chance.below(100_000),
            clock_per_mille: 1000 - CLOCK_DRIFT_PER_MILLE + chance.below(2 * CLOCK_DRIFT_PER_MILLE + 1),
            next_tick: 0,
        })
    }

    /// This machine's clock.
    pub fn clock(&self, now: u64) -> u64 {
        self.clock_ms + now * self.clock_per_mille / 1000
    }

    /// Snapshots it took from leaders.
    pub fn installed(&self) -> u32 {
        self.installed.load(Ordering::Relaxed)
    }

    /// Starts the member from the disk.
    pub fn start(&mut self, now: u64, seed: u64) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened =
            open::open(&disk, self.engines.as_ref(), &self.layout).map_err(|error| error.to_string())?;
        let conf = opened.conf_state();
        let Opened {
            wal,
            state,
            generation,
            base,
            ..
        } = opened;
        let shared = Arc::new(Shared::new(state, 7, self.id, &conf));
        let work = Work::new(shared.clone(), disk.clone(), self.layout.clone());
        let work = Arc::new(Mutex::new(work.map_err(|error| error.to_string())?));
        let orders = Arc::new(Orders::default());
        let outbox = Outbox::default();
        let keeper = SimKeeper {
            work: work.clone(),
            orders: orders.clone(),
            shared: shared.clone(),
            disk: disk.clone(),
            engines: self.engines.clone(),
            layout: self.layout.clone(),
            generation: AtomicU64::new(generation),
            installed: self.installed.clone(),
        };
        let settings = Settings {
            id: self.id,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 1,
            tick_ms: TICK_MS,
            pre_vote: true,
            seed,
            snapshot_count: 50,
            catch_up_entries: CATCH_UP_ENTRIES,
        };
        let member = Opened::into_member(
            settings,
            wal.with_segment_bytes_max(SEGMENT_BYTES_MAX),
            base,
            &self.layout,
            shared.clone(),
            Box::new(outbox.clone()),
            Box::new(keeper),
            disk,
            self.clock(now),
        );
        self.running = Some(Running {
            member: member.map_err(|error| error.to_string())?,
            shared,
            work,
            orders,
            outbox,
        });
        self.incarnation += 1;
        self.start_at = None;
        Ok(())
    }

    /// Power is lost; the machine comes back at `start_at`.
    pub fn crash(&mut self, chance: &mut Chance, start_at: u64) {
        self.running = None;
        self.disk.crash();
        self.engines.crash(chance);
        self.start_at = Some(start_at);
        self.asleep_until = 0;
    }

    /// Hands an input over and does what follows; messages that want to go out.
    pub fn take(&mut self, now: u64, input: Option<Input>) -> Result<Vec<Message>, String> {
        let clock = self.clock(now);
        let Some(running) = &mut self.running else {
            return Ok(Vec::new());
        };
        running.member.set_now(clock);
        if let Some(input) = input {
            running.member.take(input);
        }
        running.member.process().map_err(|error| error.to_string())?;
        Ok(std::mem::take(&mut *running.outbox.0.lock()))
    }

    /// A tick of the member's clock, if it is due.
    pub fn tick(&mut self, now: u64) {
        let clock = self.clock(now);
        if clock < self.next_tick {
            return;
        }
        self.next_tick = clock + TICK_MS;
        if let Some(running) = &mut self.running {
            running.member.tick(clock, 1);
        }
    }

    /// Some of the work beside the member; `eager` also without being asked.
    pub fn background(&mut self, eager: bool, snapshot: bool) {
        let Some(running) = &mut self.running else { return };
        let mut work = running.work.lock();
        if running.orders.wake.swap(false, Ordering::Relaxed) || eager {
            work.flush(eager).expect("engines in memory do not fail");
            while work.compact(true).expect("engines in memory do not fail") {}
        }
        if running.orders.snapshot.swap(false, Ordering::Relaxed) || snapshot {
            let outcome = work.start_snapshot().and_then(|job| job.write());
            drop(work);
            let outcome = outcome.map_err(|error| error.to_string());
            running.member.take(Input::SnapshotDone(outcome));
        }
    }

    /// The file of a snapshot message, if it is still there.
    pub fn snapshot_file(&self, message: &Message) -> Option<Vec<u8>> {
        let metadata = message.get_snapshot().get_metadata();
        let path = snapshot::path(&self.layout.snap, metadata.term, metadata.index);
        read_all(&self.disk, &path).ok()
    }

    /// Stores a received snapshot's file as the peers' transport does.
    pub fn store_snapshot(&self, message: &Message, bytes: &[u8]) -> bool {
        let metadata = message.get_snapshot().get_metadata();
        let path = snapshot::path(&self.layout.snap, metadata.term, metadata.index);
        let part = temporary(&path);
        let write = || -> std::io::Result<()> {
            let file = self.disk.open(&part, true)?;
            file.truncate(0)?;
            file.write_at(bytes, 0)?;
            file.sync()
        };
        write().is_ok()
            && snapshot::check(&self.disk, &part).unwrap_or(false)
            && snapshot::install(&self.disk, &part, &path).is_ok()
    }
}
