//! Images of the whole state: snapshot files in etcd's backend format, written from and loaded into an engine.
//!
//! An image of ours carries in the bucket `keelson` what Raft needs. An image made by etcd has none; it is a state of the
//! key space, users and leases without members, to start a new cluster from.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_disk::bbolt::{Reader, Writer};
use keelson_store_disk::{Batch, DiskError, Engine};
use prost::Message;

use crate::backend::{Meta, ReadError, put_blocks, sum_of};
use crate::block::{Block, Record};
use crate::hash::stored_form;
use crate::limits::FLUSH_BYTES;
use crate::rows::{self, Table};
use crate::{Revision, backend};

const META_BUCKET: &str = "meta";
const KEY_BUCKET: &str = "key";
const OWN_META: &[u8] = b"meta";

/// What an image of the engine's content is made from: rows now, blocks later. Blocks may be added meanwhile, not
/// rewritten.
#[derive(Debug)]
pub struct Snapshot {
    pub meta: Meta,
    rows: BTreeMap<Table, Vec<(Vec<u8>, Bytes)>>,
    /// Records in blocks that are no longer part of history.
    dead: BTreeMap<Revision, Vec<Revision>>,
}

impl Snapshot {
    /// Takes the rows and notes how far the blocks count.
    pub fn take(engine: &dyn Engine) -> Result<Self, ReadError> {
        let meta = backend::read_meta(engine)?.unwrap_or_default();
        let mut rows: BTreeMap<Table, Vec<(Vec<u8>, Bytes)>> = BTreeMap::new();
        engine.scan(&[rows::ROW], &[rows::ROW + 1], &mut |key, value| {
            if let Some((table, key)) = Table::parse(key) {
                rows.entry(table).or_default().push((key.to_vec(), value));
            }
            true
        })?;
        let dead = backend::read_dead(engine, &mut 0)?;
        Ok(Self { meta, rows, dead })
    }

    /// Writes the image's buckets.
    pub fn write(&self, engine: &dyn Engine, writer: &mut Writer) -> Result<(), DiskError> {
        for table in Table::ALL {
            writer.bucket(table.bucket().as_bytes())?;
            let mut rows: Vec<(&[u8], &[u8])> = Vec::new();
            rows.extend(
                self.rows
                    .get(&table)
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (&key[..], &value[..])),
            );
            let own = (table == Table::Keelson).then(|| self.meta.seal());
            if let Some(own) = &own {
                rows.push((OWN_META, own));
            }
            rows.sort_unstable();
            for (key, value) in rows {
                writer.put(key, value)?;
            }
        }
        self.write_meta(writer)?;
        writer.bucket(KEY_BUCKET.as_bytes())?;
        let mut failed = None;
        engine.scan(&[rows::BLOCK], &[rows::BLOCK + 1], &mut |key, stored| {
            let first = Revision::from_bytes(&key[1..]).unwrap_or_default();
            let dead = self.dead.get(&first).map_or(&[][..], Vec::as_slice);
            match self.write_block(stored, dead, writer) {
                Ok(more) => more,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn write_meta(&self, writer: &mut Writer) -> Result<(), DiskError> {
        writer.bucket(META_BUCKET.as_bytes())?;
        writer.put(b"consistent_index", &self.meta.applied_index.to_be_bytes())?;
        if self.meta.compacted > 0 {
            let compacted = Revision::new(self.meta.compacted, 0).to_etcd_bytes(false);
            writer.put(b"scheduledCompactRev", &compacted)?;
        }
        writer.put(b"term", &self.meta.applied_term.to_be_bytes())
    }

    fn write_block(&self, stored: Bytes, dead: &[Revision], writer: &mut Writer) -> Result<bool, DiskError> {
        let damaged = |what: String| DiskError::Engine {
            step: "read",
            path: "the state".into(),
            what,
        };
        let block = Block::new(stored).map_err(damaged)?;
        for record in block.records() {
            let (revision, record) = record.map_err(damaged)?;
            if revision.main > self.meta.revision {
                return Ok(false);
            }
            if dead.binary_search(&revision).is_ok() {
                continue;
            }
            let value = stored_form(&record).encode_to_vec();
            writer.put(&revision.to_etcd_bytes(record.tombstone), &value)?;
        }
        Ok(true)
    }
}

/// An image file to load.
pub struct Source<'a> {
    pub reader: &'a Reader,
    /// Members, Raft state and alarms are left out: the image starts a new cluster.
    pub fresh: bool,
}

impl Source<'_> {
    /// What an image of ours says about itself; `None` for one made by etcd.
    pub fn own_meta(&self) -> Result<Option<Meta>, ReadError> {
        let mut found = None;
        self.reader
            .scan(Table::Keelson.bucket().as_bytes(), &mut |key, value| {
                if key == OWN_META {
                    found = Some(value.to_vec());
                }
                Ok(())
            })?;
        let Some(bytes) = found else { return Ok(None) };
        Meta::unseal(&bytes).map(Some)
    }

    /// Fills an empty engine.
    pub(crate) fn load(&self, engine: &dyn Engine) -> Result<Meta, ReadError> {
        let own = self.own_meta()?;
        let mut loader = Loader {
            engine,
            batch: Batch::default(),
            sum: 0,
            records: Vec::new(),
            bytes: 0,
            last: 1,
        };
        for table in Table::ALL {
            let belongs_to_the_cluster = matches!(
                table,
                Table::Member | Table::MemberRemoved | Table::Cluster | Table::Alarm | Table::Keelson
            );
            if self.fresh && belongs_to_the_cluster {
                continue;
            }
            self.reader.scan(table.bucket().as_bytes(), &mut |key, value| {
                if !(table == Table::Keelson && key == OWN_META) {
                    loader.row(table, key, value);
                }
                Ok(())
            })?;
        }
        self.reader
            .scan(KEY_BUCKET.as_bytes(), &mut |key, value| loader.record(key, value))?;
        loader.flush()?;
        let mut meta = own.unwrap_or_default();
        // An etcd that started from an image of ours keeps our bucket while its key space moves on.
        meta.revision = meta.revision.max(loader.last);
        meta.compacted = meta.compacted.max(self.etcd_compacted()?);
        if self.fresh {
            meta.applied_index = 0;
            meta.applied_term = 0;
            meta.conf_state = Bytes::new();
        }
        meta.sum = loader.sum;
        let mut batch = std::mem::take(&mut loader.batch);
        batch.put(vec![rows::META], meta.seal());
        engine.apply(batch)?;
        Ok(meta)
    }

    fn etcd_compacted(&self) -> Result<i64, ReadError> {
        let mut compacted = 0;
        self.reader.scan(META_BUCKET.as_bytes(), &mut |key, value| {
            if matches!(key, b"scheduledCompactRev" | b"finishedCompactRev")
                && let Some((revision, _)) = Revision::from_etcd_bytes(value)
            {
                compacted = compacted.max(revision.main);
            }
            Ok(())
        })?;
        Ok(compacted)
    }
}

struct Loader<'a> {
    engine: &'a dyn Engine,
    batch: Batch,
    sum: u64,
    records: Vec<(Revision, Record)>,
    bytes: usize,
    last: i64,
}

impl Loader<'_> {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let key = table.key(key);
        self.sum = self.sum.wrapping_add(sum_of(&key, value));
        self.batch.put(key, Bytes::copy_from_slice(value));
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let damaged = |what: &str| DiskError::Engine {
            step: "load",
            path: "the image".into(),
            what: what.to_owned(),
        };
        let (revision, tombstone) =
            Revision::from_etcd_bytes(key).ok_or_else(|| damaged("a revision has a wrong form"))?;
        let mut kv =
            KeyValue::decode(Bytes::copy_from_slice(value)).map_err(|error| damaged(&error.to_string()))?;
        if tombstone {
            kv.mod_revision = revision.main;
        }
        let record = Record { kv, tombstone };
        self.last = self.last.max(revision.main);
        self.bytes += record.bytes();
        self.records.push((revision, record));
        if self.bytes >= FLUSH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        put_blocks(&records, &mut self.batch, &mut self.sum);
        self.engine.apply(std::mem::take(&mut self.batch))
    }
}
