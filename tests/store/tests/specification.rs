//! The wire definitions and the error table against the tables of etcd's interface in the specification.
//!
//! The specification lies beside the workspace (`../shared/spec`, or `KEELSON_SPEC`); without it the comparison is
//! skipped with a message.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keelson_store_mvcc::ApiError;

fn table(name: &str) -> Option<String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    let spec = std::env::var_os("KEELSON_SPEC").map_or(beside, PathBuf::from);
    let text = std::fs::read_to_string(spec.join(name)).ok();
    if text.is_none() {
        println!("skipped: no {name} in ../shared/spec");
    }
    text
}

/// Type names as the last part: files of one package name each other's messages with or without it.
fn short(text: &str) -> String {
    let words = text
        .split(' ')
        .map(|word| word.rsplit('.').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ")
}

/// The rows of one .proto file: what, owner, member, number, type.
fn rows(text: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut package = String::new();
    // Kind and name of each open block.
    let mut open: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim().trim_end_matches(';');
        let line = line.split(" [").next().unwrap_or(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let owner = || {
            let names: Vec<&str> = open
                .iter()
                .filter(|(kind, _)| *kind != "oneof")
                .map(|(_, name)| name.as_str())
                .collect();
            format!("{package}.{}", names.join("."))
        };
        match words[..] {
            ["package", name] => package = name.to_owned(),
            [kind @ ("message" | "enum" | "service" | "oneof"), name, ..] => {
                let whole = format!("{}.{name}", owner().trim_end_matches('.'));
                // One line may open and close: `message Empty {}`.
                if kind == "message" {
                    rows.push(format!("message\t{whole}"));
                }
                if !line.ends_with('}') {
                    open.push((kind, name.to_owned()));
                }
            }
            ["}"] => {
                open.pop();
            }
            ["rpc", ..] => {
                let text = line.replace("rpc ", "").replace(") returns (", " -> ");
                let text = text.trim_end_matches(['{', '}', ' ']).replace(')', "");
                let (name, types) = text.split_once('(').expect("an rpc has a request");
                rows.push(format!("service\t{}\t{name}\t\t{}", owner(), short(types)));
            }
            [name, "=", number] if open.last().is_some_and(|(kind, _)| *kind == "enum") => {
                rows.push(format!("enum\t{}\t{name}\t{number}\t", owner()));
            }
            [.., name, "=", number] if !open.is_empty() => {
                let mut kind = words[..words.len() - 3].join(" ");
                if let Some(("oneof", group)) = open.last().map(|(kind, name)| (*kind, name)) {
                    kind = format!("oneof {group} {kind}");
                }
                rows.push(format!(
                    "message\t{}\t{name}\t{number}\t{}",
                    owner(),
                    short(&kind)
                ));
            }
            _ => {}
        }
    }
    rows
}

#[test]
fn every_message_field_and_number_is_etcds() {
    let Some(table) = table("etcd.tsv") else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/proto/etcd");
    let mut ours = BTreeSet::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        ours.extend(rows(&text));
    }
    let mut missing = Vec::new();
    let mut theirs = BTreeSet::new();
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let row = if cells[0] == "message" && cells.get(2).is_none_or(|member| member.is_empty()) {
            format!("message\t{}", cells[1])
        } else {
            let kind = short(cells.get(4).copied().unwrap_or(""));
            format!("{}\t{}\t{}\t{}\t{kind}", cells[0], cells[1], cells[2], cells[3])
        };
        if !ours.contains(&row) {
            missing.push(row.clone());
        }
        theirs.insert(row);
    }
    let more: Vec<&String> = ours
        .iter()
        .filter(|row| row.split('\t').count() > 2 && !theirs.contains(*row))
        .collect();
    assert!(
        missing.is_empty(),
        "not in proto/: {missing:#?}\nonly there: {more:#?}"
    );
    assert!(more.is_empty(), "not of etcd: {more:#?}");
}

#[test]
fn every_error_has_etcds_code_and_text() {
    let Some(table) = table("etcd-errors.tsv") else {
        return;
    };
    let theirs: BTreeSet<String> = table.lines().skip(1).map(str::to_owned).collect();
    let ours: BTreeSet<String> = ApiError::ALL
        .iter()
        .map(|error| format!("{}\t{:?}\t{}", error.name(), error.code(), error.text()))
        .collect();
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "not in the table of errors: {missing:#?}");
    // A password for a user without one is told in the words of the layer below.
    let more: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        more.iter().all(|row| row.starts_with("NoPasswordUser\t")),
        "not of etcd: {more:#?}"
    );
}

#[test]
fn the_parser_sees_every_kind_of_row() {
    let text = "package p;\nmessage A {\n  enum E {\n    X = 0;\n  }\n  oneof u {\n    int64 a = 1;\n  }\n  \
                repeated q.B b = 2;\n}\nservice S {\n  rpc M(stream A) returns (stream q.B);\n}\n";
    let expected = [
        "message\tp.A",
        "enum\tp.A.E\tX\t0\t",
        "message\tp.A\ta\t1\toneof u int64",
        "message\tp.A\tb\t2\trepeated B",
        "service\tp.S\tM\t\tstream A -> stream B",
    ];
    assert_eq!(rows(text), expected);
}
