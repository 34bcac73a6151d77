//! A change's place in history.

/// Transaction number and position within the transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// What clients see: one number per transaction that changed something.
    pub main: i64,
    /// Which change of the transaction.
    pub sub: u32,
}

impl Revision {
    /// A revision.
    pub const fn new(main: i64, sub: u32) -> Self {
        Self { main, sub }
    }

    /// 12 bytes that sort as revisions do.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The reverse of `to_bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (main, sub) = (bytes.get(..8)?, bytes.get(8..12)?);
        Some(Self {
            main: i64::from_be_bytes(main.try_into().ok()?),
            sub: u32::from_be_bytes(sub.try_into().ok()?),
        })
    }

    /// etcd's form in its backend: main, underscore, sub, and a `t` for a deletion.
    pub fn to_etcd_bytes(self, tombstone: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&i64::from(self.sub).to_be_bytes());
        if tombstone {
            bytes.push(b't');
        }
        bytes
    }

    /// The reverse of `to_etcd_bytes`.
    pub fn from_etcd_bytes(bytes: &[u8]) -> Option<(Self, bool)> {
        let tombstone = match bytes.len() {
            17 => false,
            18 if bytes[17] == b't' => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..17].try_into().ok()?);
        Some((Self::new(main, u32::try_from(sub).ok()?), tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_and_sort() {
        let low = Revision::new(255, 9);
        let high = Revision::new(256, 0);
        assert!(low < high && low.to_bytes() < high.to_bytes());
        assert_eq!(Revision::from_bytes(&low.to_bytes()), Some(low));
        for tombstone in [false, true] {
            let bytes = low.to_etcd_bytes(tombstone);
            assert_eq!(Revision::from_etcd_bytes(&bytes), Some((low, tombstone)));
        }
        assert_eq!(Revision::from_etcd_bytes(b"short"), None);
    }
}
