//! The style of the tree, as tests: what CONTRIBUTING.md asks and a machine can see.
//!
//! Sizes work as a ratchet: a file named in `OVERSIZED` may not grow past its entry, and no other may be added
//! without a reason beside it.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Lines of a file before its inline tests.
const FILE_LINES_MAX: usize = 600;

/// Files that are longer, with the length they may not pass.
const OVERSIZED: &[(&str, usize)] = &[];

/// Names that say nothing about what is inside.
const BANNED_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "manager"];

/// Crates of pure logic: none may reach the async runtime. The wire definitions do not count: their generated
/// services name it, and these crates use only the messages.
const PURE: &[&str] = &[
    "keelson-machinery",
    "keelson-schema",
    "keelson-kinds",
    "keelson-auth",
    "keelson-admission",
    "keelson-store-raft",
    "keelson-store-mvcc",
];

/// Programs: none may depend on another.
const PROGRAMS: &[&str] = &[
    "kube-store",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "kubelet",
    "kube-proxy",
    "cluster-dns",
    "keelson-network",
    "kubeadm",
    "keelson-supervisor",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source file, as path below the root and text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut stack = vec![root()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    stack.push(path);
                }
            } else if name.ends_with(".rs") {
                let short = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((short, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

fn report(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_small() {
    let allowed: BTreeMap<&str, usize> = OVERSIZED.iter().copied().collect();
    let wrong: Vec<String> = sources()
        .iter()
        .filter_map(|(path, text)| {
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .count();
            let limit = allowed.get(path.as_str()).copied().unwrap_or(FILE_LINES_MAX);
            (lines > limit)
                .then(|| format!("{path}: {lines} lines, at most {limit}: split it by what it holds"))
        })
        .collect();
    report("files too long", &wrong);
}

#[test]
fn files_say_what_they_are_for() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.clone())
        .collect();
    report("files that do not open with //!", &wrong);
}

#[test]
fn names_say_what_is_inside() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| {
            path.split('/')
                .any(|part| BANNED_NAMES.contains(&part.trim_end_matches(".rs")))
        })
        .map(|(path, _)| path.clone())
        .collect();
    report("names that say nothing", &wrong);
}

#[test]
fn nothing_is_left_for_later_or_left_out() {
    // Put together here, so that this file does not find itself.
    let banned = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ig", "nore"].concat(),
        ["dbg", "!("].concat(),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            if banned.iter().any(|word| line.contains(word.as_str())) {
                wrong.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    report("left for later, or left out of the tests", &wrong);
}

/// Direct dependencies (not those of tests) by package, of the whole graph.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let from = edges
            .entry(name_of[node["id"].as_str().unwrap()].to_owned())
            .or_default();
        for dep in node["deps"].as_array().unwrap() {
            let normal = dep["dep_kinds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind["kind"].is_null());
            if normal {
                from.insert(name_of[dep["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    edges
}

/// Whether `from` reaches `to`, by any way.
fn reaches(edges: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut stack = vec![from];
    while let Some(one) = stack.pop() {
        if one == to {
            return true;
        }
        if one != "keelson-proto" && seen.insert(one) {
            stack.extend(edges.get(one).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

#[test]
fn pure_crates_do_not_reach_the_runtime() {
    let edges = dependencies();
    let wrong: Vec<&str> = PURE
        .iter()
        .copied()
        .filter(|name| reaches(&edges, name, "tokio"))
        .collect();
    assert!(wrong.is_empty(), "these reach tokio: {wrong:?}");
    assert!(
        reaches(&edges, "keelson-base", "tokio"),
        "the check itself finds nothing"
    );
}

#[test]
fn programs_do_not_depend_on_each_other() {
    let edges = dependencies();
    for program in PROGRAMS {
        let direct = edges
            .get(*program)
            .unwrap_or_else(|| panic!("no package {program}"));
        let others: Vec<&String> = direct
            .iter()
            .filter(|name| PROGRAMS.contains(&name.as_str()))
            .collect();
        assert!(others.is_empty(), "{program} depends on {others:?}");
    }
}

#[test]
fn only_the_server_and_the_store_know_the_store_protocol() {
    for (path, text) in sources() {
        let outside = !["store/", "apiserver/", "proto/", "tests/"]
            .iter()
            .any(|dir| path.starts_with(dir));
        assert!(
            !(outside && text.contains("proto::etcd")),
            "{path} speaks to the store; only the API server may"
        );
    }
}
