//! Numbers and layouts of bbolt's pages. All little-endian.

pub const MAGIC: u32 = 0xED0C_DAED;
pub const VERSION: u32 = 2;
pub const FLAG_BRANCH: u16 = 0x01;
pub const FLAG_LEAF: u16 = 0x02;
pub const FLAG_META: u16 = 0x04;
pub const FLAG_FREELIST: u16 = 0x10;
/// Element flag of a bucket in the root bucket.
pub const ELEMENT_BUCKET: u32 = 0x01;
/// Bytes of a page header: id, flags, count, overflow.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a leaf or branch element.
pub const ELEMENT_BYTES: usize = 16;
/// Bytes of the meta fields its checksum covers.
pub const META_SUMMED_BYTES: usize = 56;

/// FNV-1a, 64 bit: the checksum of a meta page.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A page header.
pub fn header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..10].copy_from_slice(&flags.to_le_bytes());
    bytes[10..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..].copy_from_slice(&overflow.to_le_bytes());
    bytes
}

/// A meta page's content behind its header.
pub fn meta(root: u64, freelist: u64, high_water: u64, transaction: u64, page_bytes: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(META_SUMMED_BYTES + 8);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&page_bytes.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    for number in [root, 0, freelist, high_water, transaction] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let sum = fnv1a(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}
