//! Descriptions of definitions and fields, unpacked for the making of one document.

use std::collections::HashMap;
use std::io::Read as _;

/// What `build.rs` wrote.
pub(crate) const BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.zlib"));

/// By definition, and by definition and field.
#[derive(Default)]
pub(crate) struct Descriptions(HashMap<String, String>);

impl Descriptions {
    /// Unpacks all.
    pub(crate) fn load() -> Self {
        let mut text = String::new();
        let mut reader = flate2::read::ZlibDecoder::new(BLOB);
        reader
            .read_to_string(&mut text)
            .expect("the build wrote a whole blob of text");
        let mut all = HashMap::new();
        let mut definition = "";
        for line in text.lines() {
            let (key, described) = match line.strip_prefix('\t') {
                Some(line) => {
                    let (field, described) = line.split_once('\t').unwrap_or((line, ""));
                    (format!("{definition}\t{field}"), described)
                }
                None => {
                    let described;
                    (definition, described) = line.split_once('\t').unwrap_or((line, ""));
                    (definition.to_owned(), described)
                }
            };
            if !described.is_empty() {
                all.insert(key, described.replace("\\n", "\n").replace("\\\\", "\\"));
            }
        }
        Self(all)
    }

    pub(crate) fn definition(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn field(&self, definition: &str, field: &str) -> Option<&str> {
        self.0.get(&format!("{definition}\t{field}")).map(String::as_str)
    }
}
