//! Opening a data directory: what is there, whether it can be trusted, and what is refused.
//!
//! Log and snapshots are the truth. The engine's content is used when it checks and the log continues it; otherwise it
//! is thrown away and refilled from the newest snapshot and the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_store_disk::bbolt::Reader;
use keelson_store_disk::snapshot::SnapshotFile;
use keelson_store_disk::wal::{self, Wal};
use keelson_store_disk::{Disk, DiskError, Engine, snapshot};
use keelson_store_mvcc::Mvcc;
use keelson_store_mvcc::backend::{self, ReadError};
use keelson_store_mvcc::image::Source;
use keelson_store_raft::{ConfState, Config, HardState, Node, SnapshotBase};

use super::wal_log::WalLog;
use super::{Fatal, Genesis, Keeper, Member, Settings, Shared, Transport};

/// Where engines are.
pub trait Engines: Send + Sync {
    /// Opens or creates one.
    fn open(&self, path: &Path) -> Result<Arc<dyn Engine>, DiskError>;
    /// Removes one.
    fn discard(&self, path: &Path) -> Result<(), DiskError>;
    /// Names of those below a directory.
    fn list(&self, dir: &Path) -> Vec<String>;
}

/// The directories of a member.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Log segments.
    pub wal: PathBuf,
    /// Snapshots.
    pub snap: PathBuf,
    /// Engines, one per generation; the newest counts.
    pub state: PathBuf,
}

impl Layout {
    /// Below etcd's `member` directory.
    pub fn new(data_dir: &Path) -> Self {
        let member = data_dir.join("member");
        Self {
            wal: member.join("wal"),
            snap: member.join("snap"),
            state: member.join("state"),
        }
    }

    /// Whether a member lives here.
    pub fn has_member(&self, disk: &dyn Disk) -> bool {
        disk.list(&self.wal)
            .is_ok_and(|names| names.iter().any(|name| name.ends_with(".wal")))
    }

    /// The engine of a generation.
    pub fn engine(&self, generation: u64) -> PathBuf {
        self.state.join(format!("{generation:016x}"))
    }
}

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Fatal(#[from] Fatal),
    #[error("{} holds the log of another program or version: {what}", path.display())]
    Genesis { path: PathBuf, what: String },
    #[error(
        "{}: neither the applied state nor a snapshot reaches the log, which starts at entry {first}: restore the \
         directory from a copy, or remove this member from the cluster and add it again with an empty directory",
        path.display()
    )]
    Gap { path: PathBuf, first: u64 },
}

/// A directory that was opened: everything a member is made from.
pub struct Opened {
    pub genesis: Genesis,
    pub wal: Wal,
    pub state: Mvcc,
    pub layout: Layout,
    /// Number of the engine in use.
    pub generation: u64,
    pub base: SnapshotBase,
}

/// Makes the directories and the log of a new member.
pub fn create(disk: &Arc<dyn Disk>, layout: &Layout, genesis: &Genesis) -> Result<(), DiskError> {
    let state = keelson_store_raft::encode(&genesis.hard_state());
    let encoded = prost::Message::encode_to_vec(genesis);
    for dir in [&layout.snap, &layout.state] {
        disk.create_dir(dir).map_err(DiskError::io("create", dir))?;
    }
    Wal::create(
        disk.clone(),
        &layout.wal,
        encoded.into(),
        state.into(),
        genesis.base().index,
    )?;
    for dir in [&layout.wal, &layout.snap, &layout.state] {
        let parent = dir.parent().unwrap_or(Path::new("."));
        disk.sync_dir(parent).map_err(DiskError::io("sync", parent))?;
    }
    Ok(())
}

/// Opens an existing member's directory.
pub fn open(disk: &Arc<dyn Disk>, engines: &dyn Engines, layout: &Layout) -> Result<Opened, OpenError> {
    let recovered = wal::recover(disk.clone(), &layout.wal)?;
    if recovered.cut_bytes > 0 {
        tracing::warn!(
            bytes = recovered.cut_bytes,
            "cut an incomplete write from the end of the log"
        );
    }
    let mut wal = recovered.wal;
    let genesis: Genesis =
        prost::Message::decode(wal.genesis().clone()).map_err(|error: prost::DecodeError| {
            OpenError::Genesis {
                path: layout.wal.clone(),
                what: error.to_string(),
            }
        })?;
    let base = newest_base(disk.as_ref(), layout, &genesis, &mut wal)?;
    let (state, generation) = open_state(disk.as_ref(), engines, layout, &genesis, &wal, base.index)?;
    let base = base_below(base, &state, &wal);
    Ok(Opened {
        genesis,
        wal,
        state,
        layout: layout.clone(),
        generation,
        base,
    })
}

impl Opened {
    /// The configuration as of the applied entry.
    pub fn conf_state(&self) -> ConfState {
        keelson_store_raft::decode(self.state.conf_state()).unwrap_or_default()
    }

    /// Puts a member together around shared state made by `Shared::new` from `self.state`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts a member is made from; called in two places"
    )]
    pub fn into_member(
        settings: Settings,
        wal: Wal,
        base: SnapshotBase,
        layout: &Layout,
        shared: Arc<Shared>,
        transport: Box<dyn Transport>,
        keeper: Box<dyn Keeper>,
        disk: Arc<dyn Disk>,
        now_ms: u64,
    ) -> Result<Member, Fatal> {
        let (applied, conf_state) = {
            let state = shared.state.read();
            let conf_state: ConfState = keelson_store_raft::decode(state.conf_state()).unwrap_or_default();
            (state.applied().0, conf_state)
        };
        let mut hard_state: HardState =
            keelson_store_raft::decode(wal.state()).map_err(|error| Fatal::Command {
                index: 0,
                what: error.to_string(),
            })?;
        // The commit index is written with the next batch only; what is applied or in a snapshot was committed.
        hard_state.commit = hard_state.commit.max(applied).max(base.index);
        let config = Config {
            id: settings.id,
            election_ticks: settings.election_ticks,
            heartbeat_ticks: settings.heartbeat_ticks,
            pre_vote: settings.pre_vote,
            seed: settings.seed,
        };
        let node = Node::new(&config, WalLog { wal }, hard_state, applied, conf_state, base)?;
        Ok(Member::assemble(
            settings,
            node,
            shared,
            transport,
            keeper,
            disk,
            layout.snap.clone(),
            now_ms,
        ))
    }
}

/// Opens the engine if it can be trusted, or makes a new one. Beside a snapshot at `base`, Raft can no longer tell the
/// term before the log's first entry, so the state must hold that entry: an older one is rebuilt from the snapshot.
fn open_state(
    disk: &dyn Disk,
    engines: &dyn Engines,
    layout: &Layout,
    genesis: &Genesis,
    wal: &Wal,
    base: u64,
) -> Result<(Mvcc, u64), OpenError> {
    let mut generations: Vec<u64> = engines
        .list(&layout.state)
        .iter()
        .filter_map(|name| u64::from_str_radix(name, 16).ok())
        .collect();
    generations.sort_unstable();
    let newest = generations.last().copied().unwrap_or(0);
    for old in &generations[..generations.len().saturating_sub(1)] {
        engines.discard(&layout.engine(*old))?;
    }
    let path = layout.engine(newest);
    let outcome = engines.open(&path).map_err(ReadError::from).and_then(Mvcc::open);
    match outcome {
        Ok(mut state) => {
            let (applied, _) = state.applied();
            let born = genesis.base();
            let begins = !genesis.restored && wal.first_index() == born.index + 1;
            if applied == 0 && begins && base <= born.index {
                bootstrap(&mut state, genesis);
                return Ok((state, newest));
            }
            let reaches =
                applied >= wal.first_index() || (applied + 1 == wal.first_index() && base <= applied);
            if applied > 0 && reaches && applied <= wal.last_index() {
                return Ok((state, newest));
            }
            if applied > 0 || newest > 0 {
                tracing::warn!(
                    applied,
                    first = wal.first_index(),
                    "the applied state does not fit the log"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "the applied state cannot be used and is rebuilt"),
    }
    engines.discard(&path)?;
    let state = rebuild(disk, engines, layout, genesis, wal, newest + 1)?;
    Ok((state, newest + 1))
}

fn rebuild(
    disk: &dyn Disk,
    engines: &dyn Engines,
    layout: &Layout,
    genesis: &Genesis,
    wal: &Wal,
    generation: u64,
) -> Result<Mvcc, OpenError> {
    for file in snapshot::list(disk, &layout.snap)? {
        if file.index + 1 < wal.first_index() {
            break;
        }
        // A damaged one the log could not be brought up to.
        if file.index > wal.last_index() {
            continue;
        }
        match load(disk, engines, &layout.engine(generation), &file.path) {
            Ok(state) => {
                tracing::info!(snapshot = %file.path.display(), "rebuilt the applied state from a snapshot");
                return Ok(state);
            }
            Err(error) => {
                tracing::warn!(%error, "a snapshot cannot be used");
                engines.discard(&layout.engine(generation))?;
            }
        }
    }
    if genesis.restored || wal.first_index() != genesis.base().index + 1 {
        return Err(OpenError::Gap {
            path: layout.wal.clone(),
            first: wal.first_index(),
        });
    }
    let mut state = Mvcc::open(engines.open(&layout.engine(generation))?)?;
    bootstrap(&mut state, genesis);
    Ok(state)
}

/// Checks a snapshot file and fills a new engine from it.
pub fn load(disk: &dyn Disk, engines: &dyn Engines, engine: &Path, file: &Path) -> Result<Mvcc, ReadError> {
    snapshot::check(disk, file)?;
    let reader = Reader::open(disk, file)?;
    engines.discard(engine)?;
    let engine = engines.open(engine)?;
    let source = Source {
        reader: &reader,
        fresh: false,
    };
    backend::fill(engine.as_ref(), &source)?;
    Mvcc::open(engine)
}

fn bootstrap(state: &mut Mvcc, genesis: &Genesis) {
    let base = genesis.base();
    if base.index > 0 {
        let conf_state = keelson_store_raft::encode(&base.conf_state);
        state.bootstrap(base.index, base.term, conf_state.into(), &genesis.members);
    }
}

/// The newest snapshot that can be read. One ahead of the log came from the leader just before a crash: it holds only
/// what the cluster has committed, so the log starts over behind it.
fn newest_base(
    disk: &dyn Disk,
    layout: &Layout,
    genesis: &Genesis,
    wal: &mut Wal,
) -> Result<SnapshotBase, OpenError> {
    for file in snapshot::list(disk, &layout.snap)? {
        let reader = Reader::open(disk, &file.path);
        let source = reader.as_ref().map(|reader| Source { reader, fresh: false });
        let meta = source.ok().and_then(|source| source.own_meta().ok().flatten());
        let Some(meta) =
            meta.filter(|meta| (meta.applied_index, meta.applied_term) == (file.index, file.term))
        else {
            continue;
        };
        if file.index > wal.last_index() {
            if !snapshot::check(disk, &file.path).unwrap_or(false) {
                tracing::warn!(snapshot = %file.path.display(), "the snapshot is damaged and not used");
                continue;
            }
            wal.reset(hard_state_behind(wal, &file)?, file.index)?;
        }
        return Ok(SnapshotBase {
            index: meta.applied_index,
            term: meta.applied_term,
            conf_state: keelson_store_raft::decode(&meta.conf_state).unwrap_or_default(),
            has_file: true,
        });
    }
    Ok(genesis.base())
}

/// A state that ends where the log starts must replay all of it: the log then starts after that state, whatever snapshot
/// there is beside them (one that turned out to be damaged).
fn base_below(base: SnapshotBase, state: &Mvcc, wal: &Wal) -> SnapshotBase {
    let (index, term) = state.applied();
    if index == base.index || index + 1 != wal.first_index() {
        return base;
    }
    SnapshotBase {
        index,
        term,
        conf_state: keelson_store_raft::decode(state.conf_state()).unwrap_or_default(),
        has_file: false,
    }
}

fn hard_state_behind(wal: &Wal, file: &SnapshotFile) -> Result<Bytes, Fatal> {
    let mut state: HardState = keelson_store_raft::decode(wal.state()).map_err(|error| Fatal::Command {
        index: 0,
        what: error.to_string(),
    })?;
    if file.term > state.term {
        state.term = file.term;
        state.vote = 0;
    }
    state.commit = file.index;
    Ok(keelson_store_raft::encode(&state).into())
}
