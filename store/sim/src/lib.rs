//! Deterministic simulation of store members, network, disks and clock from one seed.
//!
//! The seam, which this crate drives:
//! - `kube_store::member::Member` is one member without threads, sockets or clock: `take(Input)`, `tick(now_ms, 1)`,
//!   `process()`. Election jitter comes from `Settings::seed`; request ids and member ids from whoever makes them.
//! - `member::Transport::send` gets messages to other members: drop, delay, duplicate, reorder them, then hand them over
//!   as `Input::Message`. A `MsgSnapshot` may be handed over only after the snapshot's file was copied to the receiver's
//!   `Layout::snap` (what `peer::snapshot` does over the wire); tell the sender by `Input::SnapshotSent`.
//! - `member::Keeper` asks for work beside the member. `keeper::Work` is that work as plain calls: `flush`, `compact`,
//!   `start_snapshot` then `SnapshotJob::write` (its outcome goes back as `Input::SnapshotDone`); run them at any time.
//!   `Keeper::restore` is `member::open::load` and putting the state into `Shared`, as `keeper::restore` does.
//! - `keelson_store_disk::Disk` and `DiskFile` are all files of log and snapshots: what was written since the last `sync`
//!   (names: `sync_dir`) may be lost or torn at a crash, anything may be flipped, writes may fail with `StorageFull`.
//! - `member::open::Engines` opens engines: `MemoryEngine` per path; a crash may keep, lose or replace its content, since
//!   `open` must rebuild whatever does not check.
//! - A crash is dropping `Member`, `Work` and `Shared`; a restart is `open::open` and `Opened::into_member`.
//! - `keelson_store_mvcc::watch::Outlet` receives what watchers get; `Mvcc::missed` is how a lagging one catches up.

pub mod chance;
pub mod client;
pub mod disk;
pub mod engines;
pub mod host;
pub mod linear;
pub mod watching;
pub mod world;
