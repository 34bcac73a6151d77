//! Which revisions each key has: the only part of history that is always in memory.
//!
//! Per key one entry with its newest version in place and, only while there are any, older ones in a separate list: a
//! key written once costs its bytes and 40 more. A version knows creation revision and count, so comparisons need no
//! record. Superseded versions are queued as they arise, so a compaction visits only keys that have something to drop.
//!
//! Example: put a (2), put a (3), delete a (4), put a (5) gives newest {5, created 5, version 1} and older
//! [{2,2,1}, {3,2,2}, {4, tombstone}]; compacting at 4 leaves only the newest.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::Revision;

/// A key's bytes, shared between the index, the lease table and the queue of superseded versions.
pub type Key = Arc<[u8]>;

/// One version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub modified: Revision,
    /// Main revision of the put that created the key; 0 for a deletion.
    pub created: i64,
    /// Puts since creation; 0 for a deletion.
    pub version: i64,
}

impl Version {
    /// Whether this is a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    fn tombstone(modified: Revision) -> Self {
        Self {
            modified,
            created: 0,
            version: 0,
        }
    }
}

#[derive(Debug)]
struct Entry {
    newest: Version,
    /// Ascending. Boxed, because most keys have none.
    #[expect(clippy::box_collection, reason = "one word instead of three in every entry")]
    older: Option<Box<Vec<Version>>>,
}

impl Entry {
    fn at(&self, revision: i64) -> Option<&Version> {
        if self.newest.modified.main <= revision {
            return Some(&self.newest);
        }
        let older = self.older.as_ref()?;
        let place = older.partition_point(|version| version.modified.main <= revision);
        older.get(place.checked_sub(1)?)
    }

    fn all(&self) -> impl Iterator<Item = &Version> {
        self.older
            .iter()
            .flat_map(|older| older.iter())
            .chain([&self.newest])
    }
}

/// The index. `at` in its methods is a main revision; `end` follows `range::Range`'s rules and is resolved there.
#[derive(Debug, Default)]
pub struct KeyIndex {
    map: BTreeMap<Key, Entry>,
    /// A version was superseded by (or is a deletion of) this revision; in order of revisions.
    superseded: VecDeque<(i64, Key)>,
}

impl KeyIndex {
    /// Keys, deleted ones not yet compacted included.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Records a put and gives the new version and the one it replaced (if the key existed).
    pub fn put(&mut self, key: &[u8], modified: Revision) -> (Key, Version, Option<Version>) {
        if let Some((stored, _)) = self.map.get_key_value(key) {
            let stored = stored.clone();
            let entry = self.map.get_mut(key).expect("found just above");
            let previous = (!entry.newest.is_tombstone()).then_some(entry.newest);
            let version = Version {
                modified,
                created: previous.map_or(modified.main, |previous| previous.created),
                version: previous.map_or(1, |previous| previous.version + 1),
            };
            entry.older.get_or_insert_default().push(entry.newest);
            entry.newest = version;
            self.superseded.push_back((modified.main, stored.clone()));
            return (stored, version, previous);
        }
        let key: Key = key.into();
        let version = Version {
            modified,
            created: modified.main,
            version: 1,
        };
        let entry = Entry {
            newest: version,
            older: None,
        };
        self.map.insert(key.clone(), entry);
        (key, version, None)
    }

    /// Records a deletion; `None` when the key does not exist.
    pub fn delete(&mut self, key: &[u8], modified: Revision) -> Option<(Key, Version)> {
        let stored = self.map.get_key_value(key)?.0.clone();
        let entry = self.map.get_mut(key)?;
        if entry.newest.is_tombstone() {
            return None;
        }
        let previous = entry.newest;
        entry.older.get_or_insert_default().push(previous);
        entry.newest = Version::tombstone(modified);
        self.superseded.push_back((modified.main, stored.clone()));
        Some((stored, previous))
    }

    /// Adds a version as it was recorded; versions come in order of revisions.
    pub fn restore(&mut self, key: &[u8], version: Version) -> Key {
        if let Some((stored, _)) = self.map.get_key_value(key) {
            let stored = stored.clone();
            let entry = self.map.get_mut(key).expect("found just above");
            entry.older.get_or_insert_default().push(entry.newest);
            entry.newest = version;
            self.superseded.push_back((version.modified.main, stored.clone()));
            return stored;
        }
        let key: Key = key.into();
        let entry = Entry {
            newest: version,
            older: None,
        };
        if version.is_tombstone() {
            self.superseded.push_back((version.modified.main, key.clone()));
        }
        self.map.insert(key.clone(), entry);
        key
    }

    /// The version of a key at a revision; `None` when it did not exist then.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Version> {
        let version = self.map.get(key)?.at(at)?;
        (!version.is_tombstone()).then_some(*version)
    }

    /// Keys in `[from, to)` (`None`: to the end) that existed at a revision, in order.
    pub fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        at: i64,
    ) -> impl Iterator<Item = (&'a Key, &'a Version)> + 'a {
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let valid = to.is_none_or(|to| from < to);
        let lower = Bound::Included(from);
        let keys = valid.then(|| self.map.range::<[u8], _>((lower, upper)));
        keys.into_iter().flatten().filter_map(move |(key, entry)| {
            let version = entry.at(at)?;
            (!version.is_tombstone()).then_some((key, version))
        })
    }

    /// All versions, deletions included, of keys in `[from, to)` with main revisions in `[first, last]`.
    pub fn versions_between<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (&'a Key, &'a Version)> + 'a {
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let valid = to.is_none_or(|to| from < to);
        let keys = valid.then(|| self.map.range::<[u8], _>((Bound::Included(from), upper)));
        keys.into_iter().flatten().flat_map(move |(key, entry)| {
            // Most entries are older than `first` altogether.
            let skip = entry.newest.modified.main < first;
            entry
                .all()
                .filter(move |version| !skip && (first..=last).contains(&version.modified.main))
                .map(move |version| (key, version))
        })
    }

    /// The version before `modified`, if the key existed then.
    pub fn previous(&self, key: &[u8], modified: Revision) -> Option<Version> {
        let entry = self.map.get(key)?;
        let mut previous = None;
        for version in entry.all().take_while(|version| version.modified < modified) {
            previous = Some(*version);
        }
        previous.filter(|version| !version.is_tombstone())
    }

    /// Whether a record is still part of history.
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        self.map
            .get(key)
            .is_some_and(|entry| entry.all().any(|version| version.modified == revision))
    }

    /// Drops up to `count` queued versions that nobody can ask for after a compaction at `compacted`, telling each;
    /// true when none is left. A deletion at `compacted` itself stays: a watcher may still start there.
    pub fn compact(&mut self, compacted: i64, count: usize, dropped: &mut dyn FnMut(Revision)) -> bool {
        for _ in 0..count {
            match self.superseded.front() {
                Some((by, _)) if *by < compacted => {}
                _ => return true,
            }
            let Some((_, key)) = self.superseded.pop_front() else {
                return true;
            };
            let Some(entry) = self.map.get_mut(&key) else {
                continue;
            };
            if entry.compact(compacted, dropped) {
                self.map.remove(&key);
            }
        }
        false
    }

    /// Keeps of each key, visiting all, what is visible at or after `at`: the content of a hash or an image.
    pub fn visible_since(&self, key: &[u8], version_at: Revision, at: i64) -> bool {
        let Some(entry) = self.map.get(key) else {
            return false;
        };
        match entry.at(at) {
            Some(last) if last.modified == version_at => !last.is_tombstone(),
            _ => version_at.main > at,
        }
    }
}

impl Entry {
    /// Drops what a compaction at `compacted` makes invisible; true when nothing is left.
    fn compact(&mut self, compacted: i64, dropped: &mut dyn FnMut(Revision)) -> bool {
        if let Some(older) = &mut self.older {
            // The last version at or below the compaction stays, unless it is a deletion before it.
            let below = older.partition_point(|version| version.modified.main <= compacted);
            let newest_below = self.newest.modified.main <= compacted;
            let last = below.checked_sub(1).map(|place| older[place]);
            let keep_last = !newest_below
                && last.is_some_and(|last| !last.is_tombstone() || last.modified.main == compacted);
            let cut = below - usize::from(keep_last);
            for version in older.drain(..cut) {
                dropped(version.modified);
            }
            if older.is_empty() {
                self.older = None;
            } else {
                older.shrink_to(4);
            }
        }
        let gone = self.newest.is_tombstone() && self.newest.modified.main < compacted;
        if gone {
            dropped(self.newest.modified);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    fn example() -> KeyIndex {
        let mut index = KeyIndex::default();
        index.put(b"a", rev(2));
        index.put(b"a", rev(3));
        index.delete(b"a", rev(4)).unwrap();
        index.put(b"a", rev(5));
        index.put(b"b", rev(6));
        index
    }

    #[test]
    fn a_key_is_seen_as_it_was() {
        let index = example();
        let seen: Vec<_> = (1..7)
            .map(|at| {
                index
                    .get(b"a", at)
                    .map(|version| (version.created, version.version))
            })
            .collect();
        assert_eq!(
            seen,
            [None, Some((2, 1)), Some((2, 2)), None, Some((5, 1)), Some((5, 1))]
        );
        assert_eq!(index.range(b"a", None, 6).count(), 2);
        assert_eq!(index.range(b"a", Some(b"b"), 6).count(), 1);
        assert_eq!(index.range(b"b", Some(b"a"), 6).count(), 0);
        assert_eq!(index.versions_between(b"a", None, 3, 5).count(), 3);
        assert_eq!(index.previous(b"a", rev(3)).unwrap().modified, rev(2));
        assert_eq!(index.previous(b"a", rev(5)), None);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        let mut index = example();
        assert!(index.delete(b"c", rev(7)).is_none());
        index.delete(b"b", rev(7)).unwrap();
        assert!(index.delete(b"b", rev(8)).is_none());
    }

    /// Compaction at every revision, with a model that keeps all versions.
    #[test]
    fn compaction_keeps_exactly_what_can_be_asked_for() {
        for compacted in 1..9 {
            let mut index = example();
            index.delete(b"b", rev(7));
            let whole = {
                let mut whole = example();
                whole.delete(b"b", rev(7));
                whole
            };
            let mut dropped = Vec::new();
            assert!(index.compact(compacted, 100, &mut |revision| dropped.push(revision.main)));
            for at in compacted..10 {
                for key in [b"a", b"b"] {
                    assert_eq!(index.get(key, at), whole.get(key, at), "{compacted} {at}");
                }
            }
            let expect: &[i64] = match compacted {
                1..=3 => &[],
                4 => &[2, 3],
                5..=7 => &[2, 3, 4],
                _ => &[2, 3, 4, 6, 7],
            };
            dropped.sort_unstable();
            assert_eq!(dropped, expect, "compacted at {compacted}");
        }
    }

    #[test]
    fn an_index_restored_from_records_is_the_same() {
        let index = example();
        let mut versions: Vec<_> = index
            .versions_between(b"", None, 0, 100)
            .map(|(key, version)| (version.modified, key.clone(), *version))
            .collect();
        versions.sort_by_key(|(modified, _, _)| *modified);
        let mut restored = KeyIndex::default();
        for (_, key, version) in versions {
            restored.restore(&key, version);
        }
        assert_eq!(format!("{:?}", restored.map), format!("{:?}", index.map));
        let mut count = 0;
        restored.compact(100, 100, &mut |_| count += 1);
        assert_eq!(count, 3);
    }
}
