//! `kube-store restore FILE`: makes the data directory of a new cluster's member from a snapshot.
//!
//! Every member of the new cluster is restored from the same file with the same `--initial-cluster`. The key space, leases
//! and users come from the file; members and Raft's state are new.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use keelson_store_disk::bbolt::Reader;
use keelson_store_disk::lock::DirLock;
use keelson_store_disk::{Disk, RealDisk, snapshot};
use keelson_store_mvcc::Mvcc;
use keelson_store_mvcc::backend::{self, Backend};
use keelson_store_mvcc::image::Source;

use crate::config::Config;
use crate::member::Genesis;
use crate::member::genesis::cluster_id;
use crate::member::open::{self, Engines};
use crate::run::{SledEngines, layout};

/// Restores a file into `config.data_dir`, which must not hold a member.
pub fn restore(config: &Config, file: &Path, skip_hash_check: bool) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if !snapshot::check(disk.as_ref(), file)? && !skip_hash_check {
        bail!(
            "{} has no hash; if it was copied from a data directory, give --skip-hash-check",
            file.display()
        );
    }
    disk.create_dir(&config.data_dir)?;
    let _lock = DirLock::take(&config.data_dir)?;
    let layout = layout(config);
    if layout.has_member(disk.as_ref()) {
        bail!(
            "{} holds a member already: restore into an empty directory",
            config.data_dir.display()
        );
    }
    let genesis = Genesis {
        cluster_id: cluster_id(&config.members, &config.token),
        member_id: config.member_id,
        members: config.members.clone(),
        peers: Vec::new(),
        restored: true,
    };
    open::create(&disk, &layout, &genesis)?;
    let reader = Reader::open(disk.as_ref(), file)?;
    let source = Source {
        reader: &reader,
        fresh: true,
    };
    let scratch = layout.engine(0);
    SledEngines.discard(&scratch)?;
    let engine = SledEngines.open(&scratch)?;
    backend::fill(engine.as_ref(), &source).with_context(|| format!("cannot load {}", file.display()))?;
    let mut state = Mvcc::open(engine.clone())?;
    // Entry 1, the cluster's birth, is what this state is the result of.
    let base = genesis.base();
    let conf_state = keelson_store_raft::encode(&base.conf_state);
    state.bootstrap(base.index, base.term, conf_state.into(), &genesis.members);
    let mut backend = Backend::new(engine.clone())?;
    state.flush_all(&mut backend)?;
    backend.sync()?;
    // The snapshot is what a damaged state is rebuilt from.
    let image = keelson_store_mvcc::image::Snapshot::take(engine.as_ref())?;
    let path = snapshot::path(&layout.snap, base.term, base.index);
    snapshot::write(disk.as_ref(), &path, |writer| {
        image.write(engine.as_ref(), writer)
    })?;
    println!(
        "restored {} keys at revision {} as member {:x} of cluster {:x} into {}",
        state.keys(),
        state.revision(),
        genesis.member_id,
        genesis.cluster_id,
        config.data_dir.display()
    );
    Ok(())
}
