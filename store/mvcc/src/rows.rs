//! Keys of everything the engine holds, and the small replicated tables.
//!
//! Rows are kept in etcd's own encodings and named by etcd's buckets, so an image (snapshot) is a copy of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Revision;

/// First byte of a block's key.
pub const BLOCK: u8 = b'b';
/// First byte of the key of a block's list of dead records.
pub const DEAD: u8 = b'd';
/// First byte of the meta key.
pub const META: u8 = b'm';
/// First byte of a row's key.
pub const ROW: u8 = b't';

/// A replicated table besides the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Alarm,
    Auth,
    AuthRole,
    AuthUser,
    Cluster,
    Lease,
    Member,
    MemberRemoved,
    /// What etcd has no bucket for.
    Keelson,
}

impl Table {
    /// All tables, in the order of their buckets' names.
    pub const ALL: [Self; 9] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRole,
        Self::AuthUser,
        Self::Cluster,
        Self::Keelson,
        Self::Lease,
        Self::Member,
        Self::MemberRemoved,
    ];

    /// etcd's bucket.
    pub const fn bucket(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRole => "authRoles",
            Self::AuthUser => "authUsers",
            Self::Cluster => "cluster",
            Self::Keelson => "keelson",
            Self::Lease => "lease",
            Self::Member => "members",
            Self::MemberRemoved => "members_removed",
        }
    }

    /// The engine key of a row.
    pub fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = vec![ROW, self as u8];
        full.extend_from_slice(key);
        full
    }

    /// Table and row key of an engine key.
    pub fn parse(full: &[u8]) -> Option<(Self, &[u8])> {
        let (table, key) = full.strip_prefix(&[ROW])?.split_first()?;
        let table = Self::ALL.into_iter().find(|known| *known as u8 == *table)?;
        Some((table, key))
    }
}

/// The engine key of a block.
pub fn block_key(first: Revision) -> Vec<u8> {
    let mut key = vec![BLOCK];
    key.extend_from_slice(&first.to_bytes());
    key
}

/// The engine key of a block's list of dead records.
pub fn dead_key(first: Revision) -> Vec<u8> {
    let mut key = vec![DEAD];
    key.extend_from_slice(&first.to_bytes());
    key
}

/// A list of dead records as it is stored.
pub fn encode_dead(dead: &[Revision]) -> Bytes {
    dead.iter().flat_map(|revision| revision.to_bytes()).collect()
}

/// The reverse of `encode_dead`, in order of revisions.
pub fn decode_dead(bytes: &[u8]) -> Result<Vec<Revision>, String> {
    let dead: Option<Vec<Revision>> = bytes
        .chunks(12)
        .map(|piece| (piece.len() == 12).then(|| Revision::from_bytes(piece)).flatten())
        .collect();
    let mut dead = dead.ok_or("a list of dead records has a wrong length")?;
    dead.sort_unstable();
    Ok(dead)
}

/// Rows changed since they were last handed to the engine.
#[derive(Debug, Clone, Default)]
pub struct Dirty {
    rows: BTreeMap<Vec<u8>, Option<Bytes>>,
}

impl Dirty {
    /// Sets a row.
    pub fn put(&mut self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        self.rows.insert(table.key(key), Some(value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.rows.insert(table.key(key), None);
    }

    /// Changed rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Engine keys and their new values.
    pub fn into_rows(self) -> impl Iterator<Item = (Vec<u8>, Option<Bytes>)> {
        self.rows.into_iter()
    }

    /// Puts back rows whose hand-over failed; newer changes win.
    pub fn put_back(&mut self, older: Self) {
        for (key, value) in older.rows {
            self.rows.entry(key).or_insert(value);
        }
    }
}
