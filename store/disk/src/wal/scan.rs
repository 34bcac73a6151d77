//! Reading a log from the start: at recovery, where a torn tail is cut, and for verification, where nothing is changed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, HEADER_BYTES, Record};
use super::{FrameRef, SEGMENT_BYTES_MAX, Segment, Wal, segment_path};
use crate::fs::read_all;
use crate::{Disk, DiskError};

/// Size of the piece of a file a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// What a log was found to be.
pub struct Recovered {
    pub wal: Wal,
    /// Bytes of a torn frame that were cut.
    pub cut_bytes: u64,
}

/// Outcome of a verification.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    pub frames: u64,
    pub entries: u64,
    pub first_index: u64,
    pub last_index: u64,
    /// Bytes of a torn last frame; a start would cut them.
    pub torn_bytes: u64,
}

#[derive(Default)]
struct Scan {
    segments: VecDeque<Segment>,
    frames: VecDeque<FrameRef>,
    next_frame: Option<u64>,
    first_index: u64,
    last_index: u64,
    genesis: Bytes,
    state: Bytes,
    report: Report,
}

/// Opens an existing log, cutting a torn tail.
pub fn recover(disk: Arc<dyn Disk>, dir: &Path) -> Result<Recovered, DiskError> {
    let mut scan = scan(disk.as_ref(), dir)?;
    let torn = scan.report.torn_bytes;
    if scan.segments.back().is_some_and(|last| last.bytes == 0) {
        // The very segment was being made when the crash came; the one before is complete.
        let last = scan.segments.pop_back().expect("just seen");
        let path = segment_path(dir, last.number);
        disk.remove(&path).map_err(DiskError::io("remove", &path))?;
    }
    let Some(last) = scan.segments.back() else {
        return Err(DiskError::corrupt(dir, 0, "the log has no complete segment"));
    };
    let path = segment_path(dir, last.number);
    let active = disk.open(&path, false).map_err(DiskError::io("open", &path))?;
    if active.len().map_err(DiskError::io("stat", &path))? > last.bytes {
        active
            .truncate(last.bytes)
            .map_err(DiskError::io("truncate", &path))?;
        active.sync().map_err(DiskError::io("sync", &path))?;
    }
    let wal = Wal {
        disk,
        dir: dir.to_owned(),
        segment_bytes_max: SEGMENT_BYTES_MAX,
        segments: scan.segments,
        active,
        next_frame: scan.next_frame.unwrap_or(1),
        frames: scan.frames,
        first_index: scan.first_index,
        last_index: scan.last_index,
        genesis: scan.genesis,
        state: scan.state,
        buffer: Vec::new(),
        dirty_tail: false,
    };
    Ok(Recovered { wal, cut_bytes: torn })
}

/// Checks every frame and record without changing anything.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Report, DiskError> {
    let scan = scan(disk, dir)?;
    if scan.report.frames == 0 {
        return Err(DiskError::corrupt(dir, 0, "the log has no complete segment"));
    }
    Ok(Report {
        segments: scan.segments.len() as u64,
        first_index: scan.first_index,
        last_index: scan.last_index,
        ..scan.report
    })
}

fn scan(disk: &dyn Disk, dir: &Path) -> Result<Scan, DiskError> {
    let mut numbers = Vec::new();
    for name in disk.list(dir).map_err(DiskError::io("list", dir))? {
        let number = name
            .strip_suffix(".wal")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            let path = segment_path(dir, pair[0] + 1);
            return Err(DiskError::corrupt(&path, 0, "this segment of the log is missing"));
        }
    }
    let mut scan = Scan::default();
    let last = numbers.last().copied();
    for number in numbers {
        scan.segment(disk, dir, number, Some(number) == last)?;
    }
    Ok(scan)
}

impl Scan {
    fn segment(&mut self, disk: &dyn Disk, dir: &Path, number: u64, last: bool) -> Result<(), DiskError> {
        let path = segment_path(dir, number);
        let bytes = Bytes::from(read_all(disk, &path).map_err(DiskError::io("read", &path))?);
        self.segments.push_back(Segment {
            number,
            first_index: self.last_index + 1,
            bytes: 0,
        });
        let mut offset = 0;
        while offset < bytes.len() {
            let rest = bytes.slice(offset..);
            let found = match frame::check(&rest) {
                Ok(found) => found,
                Err(what) => {
                    if last && is_torn(&rest, offset, self.next_frame.unwrap_or(0)) {
                        self.report.torn_bytes = rest.len() as u64;
                        break;
                    }
                    return Err(DiskError::corrupt(&path, offset as u64, what));
                }
            };
            if self.next_frame.is_some_and(|expected| expected != found.number) {
                let what = format!(
                    "frame {} follows where {:?} is expected",
                    found.number, self.next_frame
                );
                return Err(DiskError::corrupt(&path, offset as u64, what));
            }
            let place = (number, offset as u64, found.length);
            self.frame(&found, place, offset == 0)
                .map_err(|what| DiskError::corrupt(&path, offset as u64, what))?;
            offset += found.length;
        }
        self.segments.back_mut().expect("pushed above").bytes = offset as u64;
        Ok(())
    }

    fn frame(&mut self, found: &frame::Frame, place: (u64, u64, usize), head: bool) -> Result<(), String> {
        self.next_frame = Some(found.number + 1);
        self.report.frames += 1;
        let mut first = None;
        for (position, record) in frame::records(&found.records).enumerate() {
            match record? {
                Record::Head {
                    first_index,
                    last_index,
                    genesis,
                } if head && position == 0 => self.head(first_index, last_index, genesis)?,
                Record::Head { .. } => return Err("a segment head is in the wrong place".to_owned()),
                _ if head && position == 0 => return Err("a segment does not start with its head".to_owned()),
                Record::State(state) => self.state = state,
                Record::Entry { index, .. } => {
                    if index > self.last_index + 1 || index == 0 {
                        return Err(format!("entry {index} follows entry {}", self.last_index));
                    }
                    if index < self.first_index {
                        // Entries of a removed segment were replaced by this one and its successors.
                        self.first_index = index;
                        self.frames.clear();
                    }
                    first.get_or_insert(index);
                    self.last_index = index;
                    self.report.entries += 1;
                }
            }
        }
        if let Some(first) = first {
            while self.frames.back().is_some_and(|frame| frame.first_index >= first) {
                self.frames.pop_back();
            }
            self.frames.push_back(FrameRef {
                first_index: first,
                segment: place.0,
                offset: place.1,
                length: u32::try_from(place.2).map_err(|_| "a frame is too long")?,
            });
        }
        Ok(())
    }

    fn head(&mut self, first_index: u64, last_index: u64, genesis: Bytes) -> Result<(), String> {
        if self.segments.len() > 1 && genesis != self.genesis {
            return Err("the segment belongs to another member or cluster".to_owned());
        }
        if self.segments.len() == 1 || last_index + 1 == first_index {
            // The oldest segment left, or one that follows a snapshot: the log starts here.
            self.frames.clear();
            self.first_index = if self.segments.len() == 1 {
                last_index + 1
            } else {
                first_index
            };
            self.last_index = last_index;
        } else if last_index != self.last_index {
            return Err(format!(
                "the segment follows entry {last_index}, the one before ends at {}",
                self.last_index
            ));
        }
        self.genesis = genesis;
        let last = self
            .segments
            .back_mut()
            .expect("pushed before its frames are read");
        last.first_index = last_index + 1;
        Ok(())
    }
}

/// Whether the bytes after the last good frame, at this offset of the file, look like an append the crash interrupted:
/// nothing valid follows, and it is short or has a sector's part that was never written.
fn is_torn(rest: &Bytes, offset: usize, expected: u64) -> bool {
    for at in 1..rest.len().saturating_sub(HEADER_BYTES) {
        if rest[at] == b'K' && frame::check(&rest.slice(at..)).is_ok_and(|frame| frame.number > expected) {
            return false;
        }
    }
    if rest.len() < HEADER_BYTES {
        return true;
    }
    let length = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
    let has_magic = rest[..4] == *b"KSF1";
    if has_magic && HEADER_BYTES + length > rest.len() {
        return true;
    }
    let (first, others) = rest.split_at((SECTOR_BYTES - offset % SECTOR_BYTES).min(rest.len()));
    std::iter::once(first)
        .chain(others.chunks(SECTOR_BYTES))
        .any(|part| part.iter().all(|byte| *byte == 0))
}
