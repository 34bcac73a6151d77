//! Blocks: neighbouring records stored as one value of the state engine. Pure.
//!
//! One engine write per record would cost more than everything else in a put; a block spreads it. Layout: number of
//! records (4), per record main (8), sub with the deletion flag in its top bit (4), length (4), CRC-32 (4), then the
//! records, each an encoded `mvccpb.KeyValue`. Little-endian.

use bytes::Bytes;
use keelson_proto::etcd::mvccpb::KeyValue;
use prost::Message;

use crate::Revision;

const ELEMENT_BYTES: usize = 20;
const TOMBSTONE: u32 = 1 << 31;

/// A change as it is kept: the pair after it, or only the key if it was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub kv: KeyValue,
    pub tombstone: bool,
}

impl Record {
    /// Bytes it takes in memory and on disk, about.
    pub fn bytes(&self) -> usize {
        self.kv.key.len() + self.kv.value.len() + 64
    }
}

/// Encodes records, which are in order of revisions.
pub fn encode(records: &[(Revision, Record)]) -> Bytes {
    let lengths: Vec<usize> = records
        .iter()
        .map(|(_, record)| record.kv.encoded_len())
        .collect();
    let head = 4 + ELEMENT_BYTES * records.len();
    let mut bytes = vec![0; head];
    bytes.reserve(lengths.iter().sum());
    bytes[..4].copy_from_slice(&(records.len() as u32).to_le_bytes());
    for (number, (revision, record)) in records.iter().enumerate() {
        let start = bytes.len();
        record.kv.encode(&mut bytes).expect("a vector takes any length");
        let sum = crc32fast::hash(&bytes[start..]);
        let flag = if record.tombstone { TOMBSTONE } else { 0 };
        let at = 4 + ELEMENT_BYTES * number;
        bytes[at..at + 8].copy_from_slice(&revision.main.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&(revision.sub | flag).to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&(lengths[number] as u32).to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
    }
    bytes.into()
}

/// A block being read.
#[derive(Debug, Clone)]
pub struct Block {
    bytes: Bytes,
    count: usize,
}

impl Block {
    /// Takes a stored value; records are checked as they are read.
    pub fn new(bytes: Bytes) -> Result<Self, String> {
        let count = bytes
            .get(..4)
            .and_then(|word| word.try_into().ok())
            .map(u32::from_le_bytes);
        let count = count.ok_or("a block is too short")? as usize;
        if count == 0 || bytes.len() < 4 + ELEMENT_BYTES.saturating_mul(count) {
            return Err("a block's number of records is wrong".to_owned());
        }
        Ok(Self { bytes, count })
    }

    /// The record of a revision.
    pub fn get(&self, revision: Revision) -> Result<Option<Record>, String> {
        self.find(revision).map(|number| self.record(number)).transpose()
    }

    /// The pair of a revision as it is stored: an encoded `mvccpb.KeyValue`, checked.
    pub fn stored(&self, revision: Revision) -> Result<Option<Bytes>, String> {
        self.find(revision)
            .map(|number| self.bytes_of(number))
            .transpose()
    }

    fn find(&self, revision: Revision) -> Option<usize> {
        let mut low = 0;
        let mut high = self.count;
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.revision(middle).0.cmp(&revision) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = Result<(Revision, Record), String>> + '_ {
        (0..self.count).map(|number| Ok((self.revision(number).0, self.record(number)?)))
    }

    fn word(&self, at: usize) -> u32 {
        let word = &self.bytes[at..at + 4];
        u32::from_le_bytes([word[0], word[1], word[2], word[3]])
    }

    fn revision(&self, number: usize) -> (Revision, bool) {
        let at = 4 + ELEMENT_BYTES * number;
        let main = u64::from(self.word(at)) | u64::from(self.word(at + 4)) << 32;
        let sub = self.word(at + 8);
        (Revision::new(main as i64, sub & !TOMBSTONE), sub & TOMBSTONE != 0)
    }

    fn bytes_of(&self, number: usize) -> Result<Bytes, String> {
        let length = |number: usize| self.word(4 + ELEMENT_BYTES * number + 12) as usize;
        let start = 4 + ELEMENT_BYTES * self.count + (0..number).map(length).sum::<usize>();
        let end = start + length(number);
        if end > self.bytes.len() {
            return Err("a record lies outside its block".to_owned());
        }
        let stored = self.bytes.slice(start..end);
        if crc32fast::hash(&stored) != self.word(4 + ELEMENT_BYTES * number + 16) {
            return Err(format!(
                "the record of revision {} does not match its checksum",
                self.revision(number).0.main
            ));
        }
        Ok(stored)
    }

    fn record(&self, number: usize) -> Result<Record, String> {
        let (_, tombstone) = self.revision(number);
        let kv = KeyValue::decode(self.bytes_of(number)?).map_err(|error| error.to_string())?;
        Ok(Record { kv, tombstone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<(Revision, Record)> {
        (2..9)
            .map(|main| {
                let kv = KeyValue {
                    key: format!("key {main}").into(),
                    value: vec![main as u8; main as usize * 3].into(),
                    mod_revision: main,
                    ..Default::default()
                };
                (
                    Revision::new(main, main as u32 % 3),
                    Record {
                        kv,
                        tombstone: main == 5,
                    },
                )
            })
            .collect()
    }

    #[test]
    fn records_are_found_in_a_block() {
        let block = Block::new(encode(&records())).unwrap();
        for (revision, record) in records() {
            assert_eq!(block.get(revision).unwrap(), Some(record));
        }
        assert_eq!(block.get(Revision::new(4, 0)).unwrap(), None);
        assert_eq!(block.records().map(Result::unwrap).collect::<Vec<_>>(), records());
    }

    #[test]
    fn no_damaged_byte_gives_a_wrong_record() {
        let whole = encode(&records());
        for place in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[place] ^= 0x20;
            let Ok(block) = Block::new(bytes.into()) else {
                continue;
            };
            for (revision, record) in records() {
                if let Ok(Some(found)) = block.get(revision) {
                    // The deletion flag and the revision are covered by the backend's sum of whole blocks.
                    assert_eq!(found.kv, record.kv, "byte {place}");
                }
            }
        }
    }
}
