//! The committed tables hold exactly what the specification's tables say. Where the specification lies beside the
//! workspace (`../shared/spec`, or `KEELSON_SPEC`) the tables are made anew and compared; `UPDATE=1` writes them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

type Row = BTreeMap<String, String>;

#[test]
fn tables_say_what_the_specification_says() {
    let Some(spec) = spec() else {
        println!("skipped: no specification tables in ../shared/spec");
        return;
    };
    check("types.tsv", &types(&spec));
    check("resources.tsv", &resources(&spec));
}

fn spec() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    let spec = std::env::var_os("KEELSON_SPEC").map_or(beside, PathBuf::from);
    spec.join("fields.tsv").exists().then_some(spec)
}

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tables").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    for (index, (committed, made)) in committed.lines().zip(made.lines()).enumerate() {
        assert_eq!(committed, made, "{name}:{}", index + 1);
    }
    assert_eq!(committed.lines().count(), made.lines().count(), "{name}");
}

fn rows(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        let values = line.split('\t').map(str::to_owned);
        head.iter().map(|name| (*name).to_owned()).zip(values).collect()
    };
    lines.map(row).collect()
}

/// Kinds that OpenAPI does not define but that travel with `kind` and `apiVersion`.
const KINDS_WITHOUT_DEFINITION: &[&str] = &[
    "AdmissionReview",
    "APIGroupDiscovery",
    "APIGroupDiscoveryList",
    "ConversionReview",
    "List",
    "NodeProxyOptions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
    "PodAttachOptions",
    "PodExecOptions",
    "PodLogOptions",
    "PodPortForwardOptions",
    "PodProxyOptions",
    "PodStatusResult",
    "RangeAllocation",
    "SerializedReference",
    "ServiceProxyOptions",
    "CreateOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "TableOptions",
];

/// Upstream stores CustomResourceDefinitions in this version.
const STORED_BETA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1beta1.CustomResourceDefinition";

fn definition(message: &str) -> String {
    let name = message.strip_prefix("k8s.io.").unwrap();
    let name = name.replace("apiextensions_apiserver", "apiextensions-apiserver");
    format!("io.k8s.{}", name.replace("kube_aggregator", "kube-aggregator"))
}

fn stable(name: &str) -> bool {
    !name.contains("alpha") && !name.contains("beta")
}

/// The name in JSON; the specification leaves it out or does not know it where it is the field's.
fn json_name(row: &Row) -> &str {
    if ["", "?"].contains(&row["json"].as_str()) {
        &row["field"]
    } else {
        &row["json"]
    }
}

fn shape(field: &Row) -> String {
    let plain = |kind: &str| match kind {
        "string" => "s".to_owned(),
        "bool" => "b".to_owned(),
        "int32" => "i".to_owned(),
        "int64" => "l".to_owned(),
        "double" => "d".to_owned(),
        "bytes" => "B".to_owned(),
        message => definition(message),
    };
    let kind = &field["type"];
    if let Some(inner) = kind
        .strip_prefix("map<string,")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        return format!("{{}}{}", plain(inner));
    }
    match field["label"].as_str() {
        "repeated" => format!("[]{}", plain(kind)),
        _ => plain(kind),
    }
}

fn flags(wire: Option<&Row>, facts: Option<&Row>) -> String {
    let mut flags = String::new();
    let mut flag = |set: bool, letter: char| flags.extend(set.then_some(letter));
    if let Some(wire) = wire {
        flag(wire["go_pointer"] == "pointer", 'p');
        flag(wire["omitempty"] == "omitempty", 'o');
        flag(wire["inline"] == "inline" && wire["go_pointer"] != "pointer", 'n');
    } else {
        flag(facts.is_some_and(|facts| facts["required"].is_empty()), 'o');
    }
    if let Some(facts) = facts {
        flag(facts["required"] == "required", 'r');
        flag(facts["list_type"] == "atomic", 'a');
        flag(facts["list_type"] == "set", 's');
        flag(facts["list_type"] == "map", 'm');
        flag(facts["map_type"] == "atomic", 'A');
        flag(facts["map_type"] == "granular", 'G');
        flag(facts["item_map_type"] == "atomic", 'X');
        flag(facts["patch_strategy"].contains("merge"), 'M');
        flag(facts["patch_strategy"].contains("retainKeys"), 'R');
        flag(facts["patch_strategy"].contains("replace"), 'P');
    }
    flags
}

fn field_line(name: &str, number: &str, shape: &str, flags: &str, facts: Option<&Row>) -> String {
    let fact = |column: &str| facts.map_or("", |facts| facts[column].as_str());
    let line = format!(
        "{name}\t{number}\t{shape}\t{flags}\t{}\t{}\t{}",
        fact("list_map_keys"),
        fact("patch_merge_key"),
        fact("default")
    );
    line.trim_end_matches('\t').to_owned()
}

fn types(spec: &Path) -> String {
    let mut messages: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows(&spec.join("protobuf.tsv")) {
        messages.entry(definition(&row["message"])).or_default().push(row);
    }
    let mut facts: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows(&spec.join("fields.tsv")) {
        facts.entry(row["definition"].clone()).or_default().push(row);
    }
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut queue: Vec<String> = facts.keys().cloned().collect();
    queue.extend(messages.keys().filter(|name| stable(name)).cloned());
    queue.push(STORED_BETA.to_owned());
    while let Some(name) = queue.pop() {
        if wanted.insert(name.clone()) {
            let shapes = messages.get(&name).into_iter().flatten().map(shape);
            queue.extend(shapes.map(|shape| shape.trim_matches(['[', ']', '{', '}']).to_owned()));
            queue.retain(|name| name.contains('.'));
        }
    }
    let mut text = String::new();
    for name in &wanted {
        let none = Vec::new();
        let (wire, facts) = (
            messages.get(name).unwrap_or(&none),
            facts.get(name).unwrap_or(&none),
        );
        type_block(&mut text, name, wire, facts);
    }
    text.replace("io.k8s.apimachinery.pkg.", "^")
        .replace("io.k8s.api.", "~")
}

fn type_block(text: &mut String, name: &str, wire: &[Row], facts: &[Row]) {
    let has = |column: &str| {
        facts.iter().any(|row| row["field"] == column) && !wire.iter().any(|row| row["json"] == column)
    };
    let short = name.rsplit('.').next().unwrap();
    let listed = facts.is_empty() && (KINDS_WITHOUT_DEFINITION.contains(&short) || name == STORED_BETA);
    let kind = (has("kind") && has("apiVersion")) || listed;
    writeln!(text, "T\t{name}{}", if kind { "\tK" } else { "" }).unwrap();
    if wire.is_empty() {
        for row in facts {
            writeln!(
                text,
                "{}",
                field_line(&row["field"], "0", "s", &flags(None, Some(row)), Some(row))
            )
            .unwrap();
        }
    }
    for row in wire {
        let facts = facts.iter().find(|facts| facts["field"] == row["json"]);
        let json = if ["", "?"].contains(&row["json"].as_str()) {
            &row["field"]
        } else {
            &row["json"]
        };
        let line = field_line(json, &row["number"], &shape(row), &flags(Some(row), facts), facts);
        writeln!(text, "{line}").unwrap();
    }
    // What the specification says of fields that come from inlined messages: number "-", no type.
    for facts in facts.iter().filter(|_| !wire.is_empty()) {
        let name = &facts["field"];
        let line = field_line(
            name,
            "-",
            "",
            &flags(
                Some(&Row::from_iter([
                    ("go_pointer".to_owned(), String::new()),
                    ("omitempty".to_owned(), String::new()),
                    ("inline".to_owned(), String::new()),
                ])),
                Some(facts),
            ),
            Some(facts),
        );
        let own = wire.iter().any(|row| json_name(row) == name)
            || (kind && (name == "kind" || name == "apiVersion"));
        if !own && line.trim_end() != format!("{name}\t-") {
            writeln!(text, "{line}").unwrap();
        }
    }
}

fn resources(spec: &Path) -> String {
    let stored: BTreeMap<(String, String, String), Row> = rows(&spec.join("storage-keys.tsv"))
        .into_iter()
        .map(|row| {
            (
                (
                    row["group"].clone(),
                    row["version"].clone(),
                    row["resource"].clone(),
                ),
                row,
            )
        })
        .collect();
    let mut text = String::new();
    for row in rows(&spec.join("resources.tsv")) {
        let key = (
            row["group"].clone(),
            row["version"].clone(),
            row["resource"].clone(),
        );
        let (mut prefix, mut version) = (String::new(), String::new());
        if let Some(stored) = stored.get(&key) {
            let path = stored["example_key"].strip_prefix("/registry/").unwrap();
            let (parent, _) = path.rsplit_once('/').unwrap();
            prefix = parent.strip_suffix("/<namespace>").unwrap_or(parent).to_owned();
            let other = stored["stored_as_if_other"].trim_start_matches('/');
            version = match (other.rsplit_once('/'), row["group"].as_str()) {
                (Some((other, _)), _) => other.to_owned(),
                (None, "") => row["version"].clone(),
                (None, group) => format!("{group}/{}", row["version"]),
            };
        }
        let columns = [
            "group",
            "version",
            "kind",
            "resource",
            "singular",
            "scope",
            "short_names",
            "categories",
            "verbs",
            "subresources(group/version.Kind:verbs)",
            "by_default",
        ];
        for column in columns {
            write!(text, "{}\t", row[column]).unwrap();
        }
        writeln!(text, "{prefix}\t{version}").unwrap();
    }
    text
}
