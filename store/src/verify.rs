//! `kube-store verify DIR`: checks log, snapshots and applied state without changing the directory.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use keelson_store_disk::lock::DirLock;
use keelson_store_disk::sled_engine::SledEngine;
use keelson_store_disk::{Disk, Engine, RealDisk, snapshot, wal};
use keelson_store_mvcc::Mvcc;
use keelson_store_raft::{Entry, EntryType};

use crate::member::Genesis;
use crate::member::open::Layout;

/// Checks a directory; what it finds is printed, damage is an error.
pub fn verify(dir: &Path) -> anyhow::Result<()> {
    let _lock = DirLock::take(dir)?;
    let layout = Layout::new(dir);
    let disk = RealDisk;
    let report = wal::verify(&disk, &layout.wal).context("the log")?;
    println!(
        "log: {} segments, {} frames, entries {} to {}",
        report.segments, report.frames, report.first_index, report.last_index
    );
    if report.torn_bytes > 0 {
        println!(
            "log: the last {} bytes are an incomplete write, which a start cuts",
            report.torn_bytes
        );
    } else {
        check_entries(&layout)?;
    }
    let mut newest = 0;
    for file in snapshot::list(&disk, &layout.snap)? {
        snapshot::check(&disk, &file.path)?;
        newest = newest.max(file.index);
        println!(
            "snapshot: {} holds everything up to entry {}",
            file.path.display(),
            file.index
        );
    }
    if newest + 1 < report.first_index && report.first_index > 2 {
        anyhow::bail!(
            "no snapshot reaches the log, which starts at entry {}",
            report.first_index
        );
    }
    check_state(&layout, report.first_index, report.last_index)?;
    println!("ok");
    Ok(())
}

/// Decodes every entry. The log is opened for that, which changes nothing since no write is incomplete.
fn check_entries(layout: &Layout) -> anyhow::Result<()> {
    let wal = wal::recover(Arc::new(RealDisk), &layout.wal)?.wal;
    let genesis: Genesis = prost::Message::decode(wal.genesis().clone()).context("the birth record")?;
    println!(
        "member {:x} of cluster {:x}",
        genesis.member_id, genesis.cluster_id
    );
    let mut next = wal.first_index();
    while next <= wal.last_index() {
        for (index, data) in wal.read(next, wal.last_index() + 1, 1 << 20)? {
            let entry: Entry = keelson_store_raft::decode(&data).with_context(|| format!("entry {index}"))?;
            anyhow::ensure!(
                entry.index == index,
                "entry {index} says it is entry {}",
                entry.index
            );
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                keelson_store_mvcc::Command::decode(entry.data.into())
                    .with_context(|| format!("the command of entry {index}"))?;
            }
            next = index + 1;
        }
    }
    Ok(())
}

fn check_state(layout: &Layout, first: u64, last: u64) -> anyhow::Result<()> {
    let Some(newest) = RealDisk.list(&layout.state).unwrap_or_default().pop() else {
        println!("state: none; a start rebuilds it");
        return Ok(());
    };
    // A copy is opened: sled changes its files when it opens them.
    let scratch = std::env::temp_dir().join(format!("kube-store-verify-{}", std::process::id()));
    let outcome = copy(&layout.state.join(&newest), &scratch)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let engine: Arc<dyn Engine> = Arc::new(SledEngine::open(&scratch)?);
            Ok(Mvcc::open(engine)?)
        });
    let _ = std::fs::remove_dir_all(&scratch);
    match outcome {
        Ok(state) => {
            let (applied, _) = state.applied();
            println!(
                "state: {} keys at revision {}, entry {applied} applied",
                state.keys(),
                state.revision()
            );
            if applied > 0 && (applied + 1 < first || applied > last) {
                println!("state: it does not fit the log; a start rebuilds it");
            }
        }
        Err(error) => println!("state: {error}; a start rebuilds it from snapshot and log"),
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
