//! bbolt database files, the format of etcd's backend and of its snapshots: a bulk writer and a reader.
//!
//! The writer takes buckets one after another with keys in order and lays pages out sequentially, so a snapshot of any
//! size needs memory for one page per tree level. The reader walks pages in place. Nothing is ever changed in a file.
//! Left out: nested buckets (etcd has none), free pages (a fresh file has none).

mod page;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// Page size of files we write; any power of two is read.
pub const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::{Disk, RealDisk};

    fn write(path: &std::path::Path, buckets: &BTreeMap<&str, BTreeMap<Vec<u8>, Vec<u8>>>) {
        let file = RealDisk.open(path, true).unwrap();
        let mut writer = Writer::new(file, path).unwrap();
        for (name, pairs) in buckets {
            writer.bucket(name.as_bytes()).unwrap();
            for (key, value) in pairs {
                writer.put(key, value).unwrap();
            }
        }
        writer.finish().unwrap();
    }

    #[test]
    fn what_is_written_is_read_back_from_many_levels_and_long_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut buckets = BTreeMap::new();
        buckets.insert("empty", BTreeMap::new());
        buckets.insert("meta", BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]));
        let many: BTreeMap<_, _> = (0u32..40_000)
            .map(|number| {
                let length = if number % 5000 == 0 {
                    70_000
                } else {
                    number as usize % 97
                };
                (number.to_be_bytes().to_vec(), vec![number as u8; length])
            })
            .collect();
        buckets.insert("key", many);
        write(&path, &buckets);
        assert_eq!(std::fs::metadata(&path).unwrap().len() % PAGE_BYTES as u64, 0);
        let reader = Reader::open(&RealDisk, &path).unwrap();
        let names: Vec<_> = reader.buckets().unwrap();
        assert_eq!(
            names,
            ["empty", "key", "meta"].map(|name| name.as_bytes().to_vec())
        );
        for (name, pairs) in &buckets {
            let mut seen = BTreeMap::new();
            let mut last: Option<Vec<u8>> = None;
            reader
                .scan(name.as_bytes(), &mut |key, value| {
                    assert!(last.as_deref().is_none_or(|last| last < key));
                    last = Some(key.to_vec());
                    seen.insert(key.to_vec(), value.to_vec());
                    Ok(())
                })
                .unwrap();
            assert!(&seen == pairs, "bucket {name}");
        }
        assert!(reader.scan(b"nosuch", &mut |_, _| panic!("no keys")).is_ok());
        let _: Arc<dyn Disk> = Arc::new(RealDisk);
    }

    #[test]
    fn a_damaged_file_is_refused_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let pairs = (0u32..300)
            .map(|number| (number.to_be_bytes().to_vec(), vec![1; 50]))
            .collect();
        write(&path, &BTreeMap::from([("key", pairs)]));
        let whole = std::fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            // Content is protected by the trailer's hash; here the reader must only end, without panic or endless loop.
            if let Ok(reader) = Reader::open(&RealDisk, &path) {
                let _ = reader.scan(b"key", &mut |_, _| Ok(()));
            }
        }
    }
}
