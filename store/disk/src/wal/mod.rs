//! The log: segments of checksummed frames, one frame and one fsync per batch.
//!
//! A frame is what one `append` made durable: header (magic, length, sequence number, checksum) and records. Frames are
//! numbered without gaps across segments, so a missing, swapped or foreign one is noticed. Only the last frame of the
//! last segment can be incomplete after a crash, because each append waits for the one before: it is cut when it looks
//! torn (short, or with a sector never written). Anything else that does not check is damage and is named, not repaired.
//!
//! Payloads are opaque: the genesis record, the hard state and entries are whatever the Raft layer encodes. An entry
//! whose index is not above the last one replaces the log from there, as Raft's conflict rule wants.

mod frame;
mod scan;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use frame::Record;
pub use scan::{Recovered, Report, recover, verify};

use crate::{Disk, DiskError, DiskFile};

/// A segment is closed when it has passed this size.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Longest frame that is written or believed; a longer length is damage.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// Where the entries of one frame are.
#[derive(Debug, Clone, Copy)]
struct FrameRef {
    first_index: u64,
    segment: u64,
    offset: u64,
    length: u32,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Index of the first entry that was appended to this or a later segment.
    first_index: u64,
    bytes: u64,
}

/// The open log. One writer; readers go through it.
pub struct Wal {
    disk: std::sync::Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes_max: u64,
    segments: VecDeque<Segment>,
    active: Box<dyn DiskFile>,
    next_frame: u64,
    frames: VecDeque<FrameRef>,
    first_index: u64,
    last_index: u64,
    genesis: Bytes,
    state: Bytes,
    buffer: Vec<u8>,
    /// A failed write leaves the tail in doubt; the next append starts by cutting it.
    dirty_tail: bool,
}

/// Records collected for one append.
#[derive(Debug, Default)]
pub struct WalBatch {
    records: Vec<u8>,
    first_index: Option<u64>,
    last_index: Option<u64>,
    state: Option<Bytes>,
}

impl WalBatch {
    /// Adds an entry; indexes within a batch ascend by one.
    pub fn entry(&mut self, index: u64, encoded_len: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        frame::put_entry(&mut self.records, index, encoded_len, encode);
        self.first_index.get_or_insert(index);
        self.last_index = Some(index);
    }

    /// Sets the hard state.
    pub fn state(&mut self, state: Bytes) {
        frame::put_state(&mut self.records, &state);
        self.state = Some(state);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Wal {
    /// Makes a new log whose entries start after `last_index` (what a snapshot holds).
    pub fn create(
        disk: std::sync::Arc<dyn Disk>,
        dir: &Path,
        genesis: Bytes,
        state: Bytes,
        last_index: u64,
    ) -> Result<Self, DiskError> {
        disk.create_dir(dir).map_err(DiskError::io("create", dir))?;
        let path = segment_path(dir, 1);
        let active = disk.open(&path, true).map_err(DiskError::io("create", &path))?;
        let mut wal = Self {
            disk,
            dir: dir.to_owned(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            segments: VecDeque::new(),
            active,
            next_frame: 1,
            frames: VecDeque::new(),
            first_index: last_index + 1,
            last_index,
            genesis,
            state,
            buffer: Vec::new(),
            dirty_tail: false,
        };
        wal.start_segment(1)?;
        Ok(wal)
    }

    /// Index of the oldest entry that can be read.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Index of the newest entry; one less than `first_index` when there is none.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The record the log was created with.
    pub fn genesis(&self) -> &Bytes {
        &self.genesis
    }

    /// The last hard state.
    pub fn state(&self) -> &Bytes {
        &self.state
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Writes a batch and makes it durable. After an error nothing of it counts, and the call may be repeated.
    pub fn append(&mut self, batch: &WalBatch) -> Result<(), DiskError> {
        if self.tail().bytes >= self.segment_bytes_max {
            let number = self.tail().number + 1;
            self.start_segment(number)?;
        }
        let (offset, length) = self.write_frame(&batch.records)?;
        let segment = self.tail().number;
        if let (Some(first), Some(last)) = (batch.first_index, batch.last_index) {
            while self.frames.back().is_some_and(|frame| frame.first_index >= first) {
                self.frames.pop_back();
            }
            self.frames.push_back(FrameRef {
                first_index: first,
                segment,
                offset,
                length,
            });
            self.last_index = last;
        }
        if let Some(state) = &batch.state {
            self.state = state.clone();
        }
        Ok(())
    }

    /// Reads entries from `low` up to but not including `high`, at least one and about `bytes_max`.
    pub fn read(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<(u64, Bytes)>, DiskError> {
        assert!(
            low >= self.first_index && high <= self.last_index + 1,
            "entries {low}..{high} are not in the log"
        );
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut place = self
            .frames
            .partition_point(|frame| frame.first_index <= low)
            .saturating_sub(1);
        let mut next = low;
        while next < high && (entries.is_empty() || bytes < bytes_max) {
            let Some(frame) = self.frames.get(place) else {
                return Err(DiskError::corrupt(
                    &self.dir,
                    0,
                    format!("entry {next} is not in any frame"),
                ));
            };
            let end = self
                .frames
                .get(place + 1)
                .map_or(high, |after| after.first_index.min(high));
            for (index, data) in self.read_frame(frame)? {
                if index == next && index < end && (entries.is_empty() || bytes < bytes_max) {
                    bytes += data.len() as u64;
                    entries.push((index, data));
                    next += 1;
                }
            }
            place += 1;
        }
        Ok(entries)
    }

    /// Forgets entries up to and including `index`, which a durable snapshot holds; removes whole segments.
    pub fn compact(&mut self, index: u64) -> Result<(), DiskError> {
        if index < self.first_index {
            return Ok(());
        }
        self.first_index = index + 1;
        self.last_index = self.last_index.max(index);
        while self.frames.len() > 1 && self.frames[1].first_index <= self.first_index {
            self.frames.pop_front();
        }
        while self.segments.len() > 1 && self.segments[1].first_index <= index + 1 {
            let path = segment_path(&self.dir, self.segments[0].number);
            self.disk.remove(&path).map_err(DiskError::io("remove", &path))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Starts over after a snapshot that is ahead of, or conflicts with, the whole log.
    pub fn reset(&mut self, state: Bytes, last_index: u64) -> Result<(), DiskError> {
        self.state = state;
        self.frames.clear();
        self.first_index = last_index + 1;
        self.last_index = last_index;
        let number = self.tail().number + 1;
        self.start_segment(number)?;
        while self.segments.len() > 1 {
            let path = segment_path(&self.dir, self.segments[0].number);
            self.disk.remove(&path).map_err(DiskError::io("remove", &path))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// For tests: smaller segments.
    #[must_use]
    pub fn with_segment_bytes_max(mut self, bytes: u64) -> Self {
        self.segment_bytes_max = bytes;
        self
    }

    fn tail(&self) -> &Segment {
        self.segments.back().expect("a log has at least one segment")
    }

    /// Opens a new segment, whose first frame repeats what is needed without the older ones.
    fn start_segment(&mut self, number: u64) -> Result<(), DiskError> {
        let path = segment_path(&self.dir, number);
        let active = self
            .disk
            .open(&path, true)
            .map_err(DiskError::io("create", &path))?;
        active.truncate(0).map_err(DiskError::io("truncate", &path))?;
        let mut records = Vec::new();
        frame::put_head(&mut records, self.first_index, self.last_index, &self.genesis);
        frame::put_state(&mut records, &self.state);
        let mut buffer = Vec::new();
        frame::seal(&mut buffer, self.next_frame, &records);
        let write = || {
            active.write_at(&buffer, 0)?;
            active.sync()?;
            self.disk.sync_dir(&self.dir)
        };
        if let Err(source) = write() {
            // An unfinished segment must not be found by the next start.
            let _ = self.disk.remove(&path);
            return Err(DiskError::io("write", &path)(source));
        }
        self.active = active;
        self.next_frame += 1;
        self.dirty_tail = false;
        self.segments.push_back(Segment {
            number,
            first_index: self.last_index + 1,
            bytes: buffer.len() as u64,
        });
        Ok(())
    }

    fn write_frame(&mut self, records: &[u8]) -> Result<(u64, u32), DiskError> {
        let tail = self.tail();
        let (number, offset) = (tail.number, tail.bytes);
        let path = segment_path(&self.dir, number);
        if self.dirty_tail {
            self.active
                .truncate(offset)
                .map_err(DiskError::io("truncate", &path))?;
            self.active.sync().map_err(DiskError::io("sync", &path))?;
        }
        self.buffer.clear();
        frame::seal(&mut self.buffer, self.next_frame, records);
        self.dirty_tail = true;
        self.active
            .write_at(&self.buffer, offset)
            .and_then(|()| self.active.sync())
            .map_err(DiskError::io("write", &path))?;
        self.dirty_tail = false;
        self.next_frame += 1;
        let length = self.buffer.len();
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        let tail = self.segments.back_mut().expect("a log has at least one segment");
        tail.bytes += length as u64;
        Ok((
            offset,
            u32::try_from(length).expect("frames are bounded by FRAME_BYTES_MAX"),
        ))
    }

    fn read_frame(&self, place: &FrameRef) -> Result<Vec<(u64, Bytes)>, DiskError> {
        let path = segment_path(&self.dir, place.segment);
        let mut bytes = vec![0; place.length as usize];
        let read = if place.segment == self.tail().number {
            self.active.read_at(&mut bytes, place.offset)
        } else {
            self.disk
                .open(&path, false)
                .and_then(|file| file.read_at(&mut bytes, place.offset))
        };
        read.map_err(DiskError::io("read", &path))?;
        let bytes = Bytes::from(bytes);
        let found = frame::check(&bytes).map_err(|what| DiskError::corrupt(&path, place.offset, what))?;
        let mut entries = Vec::new();
        for record in frame::records(&found.records) {
            match record.map_err(|what| DiskError::corrupt(&path, place.offset, what))? {
                Record::Entry { index, data } => entries.push((index, data)),
                Record::State(_) | Record::Head { .. } => {}
            }
        }
        Ok(entries)
    }
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::RealDisk;

    fn new(dir: &Path) -> Wal {
        Wal::create(Arc::new(RealDisk), dir, "genesis".into(), "s0".into(), 1)
            .unwrap()
            .with_segment_bytes_max(400)
    }

    fn batch(entries: &[(u64, &str)], state: &'static str) -> WalBatch {
        let mut batch = WalBatch::default();
        for (index, data) in entries {
            batch.entry(*index, data.len(), |buffer| {
                buffer.extend_from_slice(data.as_bytes())
            });
        }
        batch.state(Bytes::from_static(state.as_bytes()));
        batch
    }

    fn read_all(wal: &Wal) -> Vec<(u64, Bytes)> {
        let (mut low, high) = (wal.first_index(), wal.last_index() + 1);
        let mut all = Vec::new();
        while low < high {
            let part = wal.read(low, high, 10).unwrap();
            low += part.len() as u64;
            all.extend(part);
        }
        all
    }

    fn reopen(dir: &Path) -> Result<Wal, DiskError> {
        recover(Arc::new(RealDisk), dir).map(|recovered| recovered.wal)
    }

    #[test]
    fn entries_survive_reopening_segments_conflicts_and_compaction() {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = new(dir.path());
        for index in 2..40 {
            wal.append(&batch(&[(index, "first entry of many")], "s1"))
                .unwrap();
        }
        wal.append(&batch(&[(30, "x30"), (31, "x31")], "s2")).unwrap();
        let expect = read_all(&wal);
        assert_eq!(expect.len(), 30);
        assert_eq!(expect[28..], [(30, "x30".into()), (31, "x31".into())]);
        drop(wal);
        let mut wal = reopen(dir.path()).unwrap();
        assert_eq!(read_all(&wal), expect);
        assert_eq!(
            (&wal.genesis()[..], &wal.state()[..]),
            (&b"genesis"[..], &b"s2"[..])
        );
        let before = wal.segments.len();
        wal.compact(20).unwrap();
        assert!(wal.segments.len() < before);
        assert_eq!(read_all(&wal), expect[19..]);
        drop(wal);
        let mut wal = reopen(dir.path()).unwrap();
        wal.compact(20).unwrap();
        assert_eq!(read_all(&wal), expect[19..]);
        wal.reset("s3".into(), 100).unwrap();
        assert_eq!((wal.first_index(), wal.last_index()), (101, 100));
        drop(wal);
        let wal = reopen(dir.path()).unwrap();
        assert_eq!(
            (wal.first_index(), wal.last_index(), &wal.state()[..]),
            (101, 100, &b"s3"[..])
        );
    }

    #[test]
    fn every_cut_of_the_last_frame_is_repaired_and_every_flipped_bit_before_it_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = new(dir.path()).with_segment_bytes_max(1 << 20);
        wal.append(&batch(&[(2, "two")], "s1")).unwrap();
        let kept = wal.bytes();
        wal.append(&batch(&[(3, "three")], "s2")).unwrap();
        drop(wal);
        let path = segment_path(dir.path(), 1);
        let whole = std::fs::read(&path).unwrap();
        for cut in kept as usize..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let wal = reopen(dir.path()).unwrap();
            assert_eq!(wal.last_index(), 2, "cut at {cut}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), kept);
        }
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            match reopen(dir.path()) {
                Err(DiskError::Corrupt { path: named, .. }) => assert_eq!(named, path),
                Err(other) => panic!("byte {place}: {other}"),
                // A damaged length in the very last frame cannot be told from a torn one.
                Ok(wal) => assert!(place >= kept as usize && wal.last_index() == 2, "byte {place}"),
            }
        }
    }

    #[test]
    fn a_missing_segment_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = new(dir.path());
        for index in 2..40 {
            wal.append(&batch(&[(index, "first entry of many")], "s1"))
                .unwrap();
        }
        drop(wal);
        std::fs::remove_file(segment_path(dir.path(), 2)).unwrap();
        assert!(matches!(reopen(dir.path()), Err(DiskError::Corrupt { .. })));
    }
}
