//! Reads `tables/types.tsv`.
//!
//! `T name [K]` opens a definition (K: it carries `kind` and `apiVersion`); each following line is a field: name,
//! wire number, type, flags, list map keys, merge key, default. `^` stands for `io.k8s.apimachinery.pkg.`, `~` for
//! `io.k8s.api.`. Number `-` adds facts to a field that comes from an inlined message.

use std::collections::HashMap;
use std::sync::LazyLock;

use keelson_machinery::gvk::Name;

use super::{FieldDef, ListType, MapType, Shape, TypeDef, TypeRef, WireField, WireTarget};

struct Table {
    types: Vec<TypeDef>,
    by_name: HashMap<&'static str, u16>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| read(include_str!("../../tables/types.tsv")));

pub(super) fn at(index: u16) -> &'static TypeDef {
    &TABLE.types[index as usize]
}

pub(super) fn by_name(name: &str) -> Option<&'static TypeDef> {
    TABLE.by_name.get(name).map(|index| at(*index))
}

pub(super) fn all() -> impl Iterator<Item = &'static TypeDef> {
    TABLE.types.iter()
}

/// One definition as the text gives it.
struct Block {
    name: &'static str,
    has_kind: bool,
    lines: Vec<[&'static str; 7]>,
}

fn read(text: &'static str) -> Table {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines() {
        let mut columns = [""; 7];
        for (column, value) in columns.iter_mut().zip(line.split('\t')) {
            *column = value;
        }
        match columns[0] {
            "T" => blocks.push(Block {
                name: full(columns[1]),
                has_kind: columns[2] == "K",
                lines: Vec::new(),
            }),
            _ => blocks
                .last_mut()
                .expect("tables/types.tsv opens with a definition")
                .lines
                .push(columns),
        }
    }
    let index = |(index, block): (usize, &Block)| (block.name, index as u16);
    let by_name: HashMap<&'static str, u16> = blocks.iter().enumerate().map(index).collect();
    let types = blocks
        .iter()
        .map(|block| definition(block, &blocks, &by_name))
        .collect();
    Table { types, by_name }
}

fn full(name: &'static str) -> &'static str {
    match name.as_bytes().first() {
        Some(b'^') => format!("io.k8s.apimachinery.pkg.{}", &name[1..]).leak(),
        Some(b'~') => format!("io.k8s.api.{}", &name[1..]).leak(),
        _ => name,
    }
}

fn definition(block: &Block, blocks: &[Block], by_name: &HashMap<&'static str, u16>) -> TypeDef {
    let mut fields = Vec::new();
    if block.has_kind {
        fields.push(FieldDef::new("kind", Shape::String));
        fields.push(FieldDef::new("apiVersion", Shape::String));
    }
    let mut wire = Vec::new();
    for line in &block.lines {
        let [name, number, kind, flags, ..] = *line;
        if number == "-" {
            let inlined = fields.iter_mut().find(|field: &&mut FieldDef| field.name == name);
            add_facts(
                inlined.expect("facts follow the inlined field they are about"),
                line,
            );
        } else if flags.contains('n') && kind.contains('.') {
            let index = find(kind, by_name);
            let inlined = definition(&blocks[index as usize], blocks, by_name);
            fields.extend(inlined.fields);
            wire.push(WireField {
                number: parse(number),
                target: WireTarget::Inline(TypeRef::Table(index)),
            });
        } else {
            let mut field = FieldDef::new(name, shape(kind, by_name));
            field.omitempty = flags.contains('o');
            field.pointer = flags.contains('p');
            add_facts(&mut field, line);
            if number != "0" {
                let target = WireTarget::Field(fields.len() as u16);
                wire.push(WireField {
                    number: parse(number),
                    target,
                });
            }
            fields.push(field);
        }
    }
    wire.sort_by_key(|field| field.number);
    TypeDef::assembled(block.name.into(), block.has_kind, fields, wire, false)
}

fn parse(number: &str) -> u32 {
    number
        .parse()
        .expect("tables/types.tsv: field numbers are numbers")
}

fn find(kind: &'static str, by_name: &HashMap<&'static str, u16>) -> u16 {
    *by_name
        .get(full(kind))
        .unwrap_or_else(|| panic!("tables/types.tsv: no definition {kind}"))
}

fn add_facts(field: &mut FieldDef, line: &[&'static str; 7]) {
    let [_, _, _, flags, keys, merge_key, default] = *line;
    for flag in flags.chars() {
        match flag {
            'r' => field.required = true,
            'a' => field.list_type = Some(ListType::Atomic),
            's' => field.list_type = Some(ListType::Set),
            'm' => field.list_type = Some(ListType::Map),
            'A' => field.map_type = Some(MapType::Atomic),
            'G' => field.map_type = Some(MapType::Granular),
            'X' => field.item_atomic = true,
            'M' => field.patch_merge = true,
            'R' => field.patch_retain_keys = true,
            'P' => field.patch_replace = true,
            _ => {}
        }
    }
    if !keys.is_empty() {
        field.map_keys = keys.split(',').map(Name::from).collect();
    }
    if !merge_key.is_empty() {
        field.merge_key = Some(merge_key.into());
    }
    if !default.is_empty() {
        field.default = Some(serde_json::from_str(default).expect("tables/types.tsv: defaults are JSON"));
    }
}

fn shape(kind: &'static str, by_name: &HashMap<&'static str, u16>) -> Shape {
    if let Some(item) = kind.strip_prefix("[]") {
        return Shape::List(Box::new(shape(item, by_name)));
    }
    if let Some(item) = kind.strip_prefix("{}") {
        return Shape::Map(Box::new(shape(item, by_name)));
    }
    let schema = || {
        let (package, _) = kind.rsplit_once('.').expect("a schema's name has a package");
        let name = format!("{package}.JSONSchemaProps");
        TypeRef::Table(
            *by_name
                .get(name.as_str())
                .expect("the package has JSONSchemaProps"),
        )
    };
    match kind {
        "s" => Shape::String,
        "b" => Shape::Bool,
        "i" => Shape::Int32,
        "l" => Shape::Int64,
        "d" => Shape::Double,
        "B" => Shape::Bytes,
        "^apis.meta.v1.Time" => Shape::Time,
        "^apis.meta.v1.MicroTime" => Shape::MicroTime,
        "^apis.meta.v1.Duration" => Shape::Duration,
        "^apis.meta.v1.FieldsV1" | "^runtime.RawExtension" => Shape::Any,
        "^apis.meta.v1.Verbs" => Shape::Strings,
        "^api.resource.Quantity" => Shape::Quantity,
        "^util.intstr.IntOrString" => Shape::IntOrString,
        _ => match kind.rsplit('.').next() {
            Some("ExtraValue") => Shape::Strings,
            Some("JSON") => Shape::Any,
            Some("JSONSchemaPropsOrArray") => Shape::SchemaOrArray(schema()),
            Some("JSONSchemaPropsOrBool") => Shape::SchemaOrBool(schema()),
            Some("JSONSchemaPropsOrStringArray") => Shape::SchemaOrStrings(schema()),
            _ => Shape::Object(TypeRef::Table(find(kind, by_name))),
        },
    }
}
