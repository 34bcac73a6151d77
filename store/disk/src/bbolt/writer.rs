//! Writes a bbolt file in one pass.

use std::path::{Path, PathBuf};

use super::PAGE_BYTES;
use super::page::{
    ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, header,
    meta,
};
use crate::{DiskError, DiskFile};

/// Bytes collected before they are written to the file.
const BUFFER_BYTES: usize = 1 << 20;
/// Elements a page's 16-bit count can take, with room to spare.
const ELEMENTS_MAX: usize = 0xFFF0;

/// One page under construction.
#[derive(Default)]
struct Node {
    /// Key, and value (leaf) or page number (branch), with the element's flags.
    elements: Vec<(Vec<u8>, Vec<u8>, u32)>,
    bytes: usize,
}

/// A bulk writer; pages 0 and 1 (meta) are written last, so an unfinished file is not a database.
pub struct Writer {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    buffer: Vec<u8>,
    written: u64,
    next_page: u64,
    /// Levels of the bucket being written, leaves first.
    levels: Vec<Node>,
    bucket: Option<Vec<u8>>,
    last_key: Vec<u8>,
    roots: Vec<(Vec<u8>, u64)>,
}

impl Writer {
    /// Starts a file; old content is dropped.
    pub fn new(file: Box<dyn DiskFile>, path: &Path) -> Result<Self, DiskError> {
        file.truncate(0).map_err(DiskError::io("truncate", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            buffer: vec![0; 2 * PAGE_BYTES],
            written: 0,
            next_page: 2,
            levels: vec![Node::default()],
            bucket: None,
            last_key: Vec::new(),
            roots: Vec::new(),
        })
    }

    /// Starts a bucket; names may come in any order, each once.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), DiskError> {
        self.end_bucket()?;
        assert!(
            self.roots.iter().all(|(known, _)| known != name),
            "a bucket is written once"
        );
        self.bucket = Some(name.to_vec());
        Ok(())
    }

    /// Adds a pair to the current bucket; keys ascend.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        assert!(self.bucket.is_some(), "a pair needs a bucket");
        let first = self.levels.len() == 1 && self.levels[0].elements.is_empty();
        assert!(first || self.last_key.as_slice() < key, "keys ascend");
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.add(0, key.to_vec(), value.to_vec(), 0)
    }

    /// Completes the file and makes it durable; gives its size.
    pub fn finish(mut self) -> Result<u64, DiskError> {
        self.end_bucket()?;
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort();
        for (name, root) in roots {
            let mut value = root.to_le_bytes().to_vec();
            value.extend_from_slice(&0u64.to_le_bytes());
            self.add(0, name, value, ELEMENT_BUCKET)?;
        }
        let root = self.end_tree()?;
        let freelist = self.page(FLAG_FREELIST, 0, &[])?;
        self.drain()?;
        let high_water = self.next_page;
        for id in 0..2u64 {
            let mut bytes = header(id, FLAG_META, 0, 0).to_vec();
            bytes.extend(meta(root, freelist, high_water, id, PAGE_BYTES as u32));
            self.file
                .write_at(&bytes, id * PAGE_BYTES as u64)
                .map_err(DiskError::io("write", &self.path))?;
        }
        self.file.sync().map_err(DiskError::io("sync", &self.path))?;
        Ok(self.written)
    }

    fn end_bucket(&mut self) -> Result<(), DiskError> {
        if let Some(name) = self.bucket.take() {
            let root = self.end_tree()?;
            self.roots.push((name, root));
        }
        Ok(())
    }

    /// Writes what is left of each level; the topmost page is the root.
    fn end_tree(&mut self) -> Result<u64, DiskError> {
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            let (first, page) = self.write_node(level)?;
            if top {
                self.levels = vec![Node::default()];
                return Ok(page);
            }
            self.add(level + 1, first, page.to_le_bytes().to_vec(), 0)?;
            level += 1;
        }
    }

    fn add(&mut self, level: usize, key: Vec<u8>, value: Vec<u8>, flags: u32) -> Result<(), DiskError> {
        if level == self.levels.len() {
            self.levels.push(Node::default());
        }
        let bytes = ELEMENT_BYTES + key.len() + if level == 0 { value.len() } else { 0 };
        let node = &self.levels[level];
        let least = if level == 0 { 1 } else { 2 };
        let full = HEADER_BYTES + node.bytes + bytes > PAGE_BYTES || node.elements.len() >= ELEMENTS_MAX;
        if full && node.elements.len() >= least {
            let (first, page) = self.write_node(level)?;
            self.add(level + 1, first, page.to_le_bytes().to_vec(), 0)?;
        }
        let node = &mut self.levels[level];
        node.bytes += bytes;
        node.elements.push((key, value, flags));
        Ok(())
    }

    fn write_node(&mut self, level: usize) -> Result<(Vec<u8>, u64), DiskError> {
        let node = std::mem::take(&mut self.levels[level]);
        let count = node.elements.len();
        let mut body = Vec::with_capacity(node.bytes);
        let mut data = ELEMENT_BYTES * count;
        for (number, (key, value, flags)) in node.elements.iter().enumerate() {
            let position = as_u32(data - ELEMENT_BYTES * number);
            let key_len = as_u32(key.len());
            if level == 0 {
                for word in [*flags, position, key_len, as_u32(value.len())] {
                    body.extend_from_slice(&word.to_le_bytes());
                }
                data += key.len() + value.len();
            } else {
                body.extend_from_slice(&position.to_le_bytes());
                body.extend_from_slice(&key_len.to_le_bytes());
                body.extend_from_slice(value);
                data += key.len();
            }
        }
        for (key, value, _) in &node.elements {
            body.extend_from_slice(key);
            if level == 0 {
                body.extend_from_slice(value);
            }
        }
        let flags = if level == 0 { FLAG_LEAF } else { FLAG_BRANCH };
        let page = self.page(flags, count as u16, &body)?;
        let first = node
            .elements
            .into_iter()
            .next()
            .map(|(key, _, _)| key)
            .unwrap_or_default();
        Ok((first, page))
    }

    /// Appends a page with its overflow pages; gives its number.
    fn page(&mut self, flags: u16, count: u16, body: &[u8]) -> Result<u64, DiskError> {
        let id = self.next_page;
        let pages = (HEADER_BYTES + body.len()).div_ceil(PAGE_BYTES);
        self.buffer
            .extend_from_slice(&header(id, flags, count, as_u32(pages - 1)));
        self.buffer.extend_from_slice(body);
        let end = self.buffer.len().next_multiple_of(PAGE_BYTES);
        self.buffer.resize(end, 0);
        self.next_page += pages as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(id)
    }

    fn drain(&mut self) -> Result<(), DiskError> {
        self.file
            .write_at(&self.buffer, self.written)
            .map_err(DiskError::io("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn as_u32(length: usize) -> u32 {
    u32::try_from(length).expect("pages hold keys and values bounded by the request size")
}
