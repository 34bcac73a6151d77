//! Reads a bbolt file; every length and page number is checked before it is followed.

use std::path::{Path, PathBuf};

use super::page::{
    ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, HEADER_BYTES, MAGIC, META_SUMMED_BYTES, VERSION,
    fnv1a,
};
use crate::{Disk, DiskError, DiskFile};

/// Deepest tree that is followed; a deeper one is a loop.
const DEPTH_MAX: usize = 32;
/// Longest run of overflow pages that is believed.
const PAGE_RUN_BYTES_MAX: u64 = 1 << 30;

/// What a scan calls for each pair; an error ends it.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), DiskError> + 'a;

/// The same with the element's flags.
type VisitElement<'a> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), DiskError> + 'a;

/// An open bbolt file.
pub struct Reader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    page_bytes: u64,
    pages: u64,
    root: u64,
}

impl Reader {
    /// Opens the file and takes the newer valid meta page.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, DiskError> {
        let file = disk.open(path, false).map_err(DiskError::io("open", path))?;
        let length = file.len().map_err(DiskError::io("stat", path))?;
        let mut best: Option<(u64, u64, u64, u64)> = None;
        // The second meta page's place depends on the page size, which is that of the machine that wrote the file.
        for place in [0u64, 4096, 8192, 16384, 32768, 65536] {
            let mut bytes = [0; HEADER_BYTES + META_SUMMED_BYTES + 8];
            if place + bytes.len() as u64 > length || file.read_at(&mut bytes, place).is_err() {
                continue;
            }
            let Some((page_bytes, root, pages, transaction)) = meta(&bytes[HEADER_BYTES..]) else {
                continue;
            };
            let fits = place == 0 || place == page_bytes;
            if fits && best.is_none_or(|(_, _, _, newest)| transaction > newest) {
                best = Some((page_bytes, root, pages, transaction));
            }
        }
        let Some((page_bytes, root, pages, _)) = best else {
            let what = "this is not a bbolt database (no valid meta page)";
            return Err(DiskError::corrupt(path, 0, what));
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            page_bytes,
            pages: pages.min(length / page_bytes),
            root,
        })
    }

    /// Bytes of the database itself; a snapshot has its hash after them.
    pub fn database_bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// Names of all buckets, in order.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, DiskError> {
        let mut names = Vec::new();
        self.walk(self.root, 0, &mut |flags, key, _| {
            if flags & ELEMENT_BUCKET != 0 {
                names.push(key.to_vec());
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// Visits the pairs of a bucket in order; a missing bucket has none.
    pub fn scan(&self, bucket: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        let mut found = None;
        self.walk(self.root, 0, &mut |flags, key, value| {
            if flags & ELEMENT_BUCKET != 0 && key == bucket {
                found = Some(value.to_vec());
            }
            Ok(())
        })?;
        let Some(value) = found else { return Ok(()) };
        if value.len() < 16 {
            return Err(self.damaged(self.root, "a bucket has no root"));
        }
        let mut pair = |_: u32, key: &[u8], value: &[u8]| visit(key, value);
        match u64_at(&value, 0) {
            Some(0) => self.page_elements(0, &value[16..], 0, &mut pair),
            Some(root) => self.walk(root, 0, &mut pair),
            None => Err(self.damaged(self.root, "a bucket has no root")),
        }
    }

    fn walk(&self, page: u64, depth: usize, visit: &mut VisitElement<'_>) -> Result<(), DiskError> {
        if depth > DEPTH_MAX || page < 2 || page >= self.pages {
            return Err(self.damaged(page, "a page number points nowhere"));
        }
        let mut head = [0; HEADER_BYTES];
        let place = page * self.page_bytes;
        self.read(&mut head, place)?;
        let overflow = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let length = (u64::from(overflow) + 1) * self.page_bytes;
        let id_matches = u64_at(&head, 0) == Some(page);
        if !id_matches || length > PAGE_RUN_BYTES_MAX || page + u64::from(overflow) >= self.pages {
            return Err(self.damaged(page, "a page header is wrong"));
        }
        let mut bytes =
            vec![0; usize::try_from(length).map_err(|_| self.damaged(page, "a page is too long"))?];
        self.read(&mut bytes, place)?;
        self.page_elements(page, &bytes, depth, visit)
    }

    fn page_elements(
        &self,
        page: u64,
        bytes: &[u8],
        depth: usize,
        visit: &mut VisitElement<'_>,
    ) -> Result<(), DiskError> {
        let wrong = || self.damaged(page, "an element lies outside its page");
        if bytes.len() < HEADER_BYTES {
            return Err(wrong());
        }
        let flags = u16::from_le_bytes([bytes[8], bytes[9]]);
        let count = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
        for number in 0..count {
            let at = HEADER_BYTES + number * ELEMENT_BYTES;
            let word = |offset| u32_at(bytes, at + offset).map(|word| word as usize);
            match flags & (FLAG_BRANCH | FLAG_LEAF) {
                FLAG_LEAF => {
                    let (Some(flags), Some(position), Some(key), Some(value)) =
                        (word(0), word(4), word(8), word(12))
                    else {
                        return Err(wrong());
                    };
                    let start = at + position;
                    let key_bytes = bytes.get(start..start + key).ok_or_else(wrong)?;
                    let value_bytes = bytes.get(start + key..start + key + value).ok_or_else(wrong)?;
                    visit(flags as u32, key_bytes, value_bytes)?;
                }
                FLAG_BRANCH => {
                    let child = u64_at(bytes, at + 8).ok_or_else(wrong)?;
                    self.walk(child, depth + 1, visit)?;
                }
                _ => return Err(self.damaged(page, "a page is neither branch nor leaf")),
            }
        }
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], place: u64) -> Result<(), DiskError> {
        self.file
            .read_at(bytes, place)
            .map_err(DiskError::io("read", &self.path))
    }

    fn damaged(&self, page: u64, what: &str) -> DiskError {
        DiskError::corrupt(&self.path, page.saturating_mul(self.page_bytes), what)
    }
}

/// Page size, root, page count and transaction of a valid meta page.
fn meta(bytes: &[u8]) -> Option<(u64, u64, u64, u64)> {
    let valid = u32_at(bytes, 0)? == MAGIC
        && u32_at(bytes, 4)? == VERSION
        && u64_at(bytes, META_SUMMED_BYTES)? == fnv1a(&bytes[..META_SUMMED_BYTES]);
    let page_bytes = u64::from(u32_at(bytes, 8)?);
    if !valid || !page_bytes.is_power_of_two() || !(512..=65536).contains(&page_bytes) {
        return None;
    }
    Some((
        page_bytes,
        u64_at(bytes, 16)?,
        u64_at(bytes, 40)?,
        u64_at(bytes, 48)?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
