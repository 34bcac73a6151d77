//! Names made from hashes, and ControllerRevisions (`history`). Pure.

/// Letters upstream uses for generated names: no vowels, nothing that looks like another.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for `data`; `collisions` changes it when two values met in one name.
///
/// The number is FNV-1a (32 bits), written in decimal with each digit replaced, as upstream's SafeEncodeString does.
pub fn hash_name(data: &[u8], collisions: Option<i32>) -> String {
    let mut hash = fnv(0x811c_9dc5, data);
    if let Some(collisions) = collisions {
        hash = fnv(hash, &collisions.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()]))
        .collect()
}

fn fnv(start: u32, data: &[u8]) -> u32 {
    data.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_change_with_collisions() {
        assert_eq!(fnv(0x811c_9dc5, b"a"), 0xe40c_292c);
        let name = hash_name(b"{}", None);
        assert_eq!(name, hash_name(b"{}", None));
        assert_ne!(name, hash_name(b"{}", Some(1)));
        assert!(name.bytes().all(|b| SAFE.contains(&b)));
    }
}
