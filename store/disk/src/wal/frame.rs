//! The bytes of a frame and of the records in it. Pure.
//!
//! Frame: magic (4), length of the records (4), sequence number (8), CRC-32 of the preceding 16 bytes' length and number
//! and the records (4), records. Record: kind (1), length (4), payload. All numbers little-endian.

use bytes::Bytes;

const MAGIC: [u8; 4] = *b"KSF1";
/// Bytes before the records.
pub const HEADER_BYTES: usize = 20;
const KIND_HEAD: u8 = 1;
const KIND_STATE: u8 = 2;
const KIND_ENTRY: u8 = 3;
const RECORD_HEADER_BYTES: usize = 5;

/// One record, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// First of each segment: what the log was when the segment began.
    Head {
        first_index: u64,
        last_index: u64,
        genesis: Bytes,
    },
    /// Hard state.
    State(Bytes),
    /// One entry.
    Entry { index: u64, data: Bytes },
}

/// A frame whose checksum holds.
#[derive(Debug)]
pub struct Frame {
    pub number: u64,
    pub records: Bytes,
    /// Whole length, header included.
    pub length: usize,
}

pub fn put_head(records: &mut Vec<u8>, first_index: u64, last_index: u64, genesis: &[u8]) {
    start(records, KIND_HEAD, 16 + genesis.len());
    records.extend_from_slice(&first_index.to_le_bytes());
    records.extend_from_slice(&last_index.to_le_bytes());
    records.extend_from_slice(genesis);
}

pub fn put_state(records: &mut Vec<u8>, state: &[u8]) {
    start(records, KIND_STATE, state.len());
    records.extend_from_slice(state);
}

pub fn put_entry(records: &mut Vec<u8>, index: u64, encoded_len: usize, encode: impl FnOnce(&mut Vec<u8>)) {
    start(records, KIND_ENTRY, 8 + encoded_len);
    records.extend_from_slice(&index.to_le_bytes());
    let before = records.len();
    encode(records);
    assert_eq!(
        records.len() - before,
        encoded_len,
        "an entry's encoder must write the length it announced"
    );
}

fn start(records: &mut Vec<u8>, kind: u8, length: usize) {
    records.reserve(RECORD_HEADER_BYTES + length);
    records.push(kind);
    let length = u32::try_from(length).expect("records are bounded by the request size limit");
    records.extend_from_slice(&length.to_le_bytes());
}

/// Appends a whole frame to `buffer`.
pub fn seal(buffer: &mut Vec<u8>, number: u64, records: &[u8]) {
    let length = u32::try_from(records.len()).expect("frames are bounded by FRAME_BYTES_MAX");
    buffer.reserve(HEADER_BYTES + records.len());
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    buffer.extend_from_slice(&checksum(length, number, records).to_le_bytes());
    buffer.extend_from_slice(records);
}

fn checksum(length: u32, number: u64, records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(records);
    hasher.finalize()
}

/// Reads the frame at the start of `bytes`, or says why there is none.
pub fn check(bytes: &Bytes) -> Result<Frame, String> {
    if bytes.len() < HEADER_BYTES {
        return Err("a frame header is incomplete".to_owned());
    }
    if bytes[..4] != MAGIC {
        return Err("no frame starts here".to_owned());
    }
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let length = word(4);
    let number = u64::from(word(8)) | u64::from(word(12)) << 32;
    let end = HEADER_BYTES + length as usize;
    if length as usize > super::FRAME_BYTES_MAX || end > bytes.len() {
        return Err(format!("a frame of {length} bytes is incomplete"));
    }
    let records = bytes.slice(HEADER_BYTES..end);
    if checksum(length, number, &records) != word(16) {
        return Err("a frame's checksum does not match".to_owned());
    }
    Ok(Frame {
        number,
        records,
        length: end,
    })
}

/// The records of a checked frame.
pub fn records(records: &Bytes) -> impl Iterator<Item = Result<Record, String>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == records.len() {
            return None;
        }
        let record = one(&records.slice(at..));
        match record {
            Ok((record, length)) => {
                at += length;
                Some(Ok(record))
            }
            Err(what) => {
                at = records.len();
                Some(Err(what))
            }
        }
    })
}

fn one(bytes: &Bytes) -> Result<(Record, usize), String> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err("a record header is incomplete".to_owned());
    }
    let length = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    let end = RECORD_HEADER_BYTES + length;
    if end > bytes.len() {
        return Err("a record is incomplete".to_owned());
    }
    let payload = bytes.slice(RECORD_HEADER_BYTES..end);
    let number = |at: usize| {
        payload
            .get(at..at + 8)
            .and_then(|part| <[u8; 8]>::try_from(part).ok())
            .map(u64::from_le_bytes)
            .ok_or("a record is too short")
    };
    let record = match bytes[0] {
        KIND_HEAD => Record::Head {
            first_index: number(0)?,
            last_index: number(8)?,
            genesis: payload.slice(16..),
        },
        KIND_STATE => Record::State(payload),
        KIND_ENTRY => Record::Entry {
            index: number(0)?,
            data: payload.slice(8..),
        },
        kind => return Err(format!("a record has the unknown kind {kind}")),
    };
    Ok((record, end))
}
