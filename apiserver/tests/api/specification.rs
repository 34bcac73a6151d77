//! The tables of facts beside the workspace (`../shared/spec`, or `KEELSON_SPEC`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One line of a table, by the names of its columns.
pub type Row = BTreeMap<String, String>;

/// Where they lie; `None`, with a message, where they are absent.
pub fn directory() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/spec");
    let spec = std::env::var_os("KEELSON_SPEC").map_or(beside, PathBuf::from);
    if !spec.join("fixtures").exists() {
        println!("skipped: no specification in ../shared/spec");
        return None;
    }
    Some(spec)
}

/// A table's lines.
pub fn rows(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        let values = line.split('\t').map(str::to_owned);
        head.iter().map(|name| (*name).to_owned()).zip(values).collect()
    };
    lines.map(row).collect()
}

/// A JSON fixture and its protobuf twin.
pub fn fixture(spec: &Path, group: &str, version: &str, kind: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let group = if group.is_empty() { "core" } else { group };
    let read = |extension: &str| {
        let name = format!("{group}.{version}.{kind}.{extension}");
        std::fs::read(spec.join("fixtures").join(name)).ok()
    };
    Some((read("json")?, read("pb")?))
}
