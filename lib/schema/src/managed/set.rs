//! Sets of field paths, in memory and as `FieldsV1`.
//!
//! A path element is kept as `FieldsV1` writes it: `f:name`, `k:{"name":"a"}`, `v:"x"`, `i:0`. Keys and values within are
//! canonical JSON, so equal elements are equal strings.
//!
//! `{"f:spec": {"f:replicas": {}, "f:template": {".": {}, "f:x": {}}}}` holds spec.replicas, spec.template, spec.template.x.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::decode::DEPTH_MAX;

/// A node of the tree of paths: whether its own path is in the set, and what is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub member: bool,
    pub children: BTreeMap<String, Set>,
}

impl Set {
    /// The node of a path in the set, without others.
    pub fn leaf() -> Self {
        Self {
            member: true,
            children: BTreeMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Puts a subtree at an element, unless it is empty.
    pub fn put(&mut self, element: String, child: Set) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let mut merged = self.clone();
        merged.add(other);
        merged
    }

    pub fn add(&mut self, other: &Set) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().add(child);
        }
    }

    /// Takes the paths of `other` away, each path for itself: what [`Set::difference`] would be, in place.
    pub fn subtract(&mut self, other: &Set) {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(element) {
                mine.subtract(theirs);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| mine && theirs)
    }

    /// The paths of this set that `other` does not have, each path for itself.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| mine && !theirs)
    }

    fn combine(&self, other: &Set, keep: fn(bool, bool) -> bool) -> Set {
        static EMPTY: Set = Set {
            member: false,
            children: BTreeMap::new(),
        };
        let mut combined = Set {
            member: keep(self.member, other.member),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            let theirs = other.children.get(element).unwrap_or(&EMPTY);
            combined.put(element.clone(), child.combine(theirs, keep));
        }
        combined
    }

    /// Drops a path and all below it.
    pub fn remove_tree(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove_tree(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// Drops one path, keeping what is below it.
    pub fn remove_member(&mut self, path: &[&str]) {
        match path {
            [] => self.member = false,
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove_member(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// Calls `each` with every path, printed as upstream prints paths: `.spec.containers[name="a"].image`.
    pub fn each_path(&self, each: &mut impl FnMut(&str)) {
        self.each_below(&mut String::new(), each);
    }

    fn each_below(&self, path: &mut String, each: &mut impl FnMut(&str)) {
        if self.member {
            each(path);
        }
        for (element, child) in &self.children {
            let length = path.len();
            push_element(path, element);
            child.each_below(path, each);
            path.truncate(length);
        }
    }

    /// `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_value());
        }
        Value::Object(map)
    }

    /// Reads `FieldsV1`; `None` where it is malformed.
    pub fn from_value(value: &Value) -> Option<Set> {
        let mut set = Self::node(value, DEPTH_MAX)?;
        set.member = value.get(".").is_some();
        Some(set)
    }

    fn node(value: &Value, depth: usize) -> Option<Set> {
        let map = value.as_object()?;
        let depth = depth.checked_sub(1)?;
        let mut set = Set {
            member: map.is_empty() || map.contains_key("."),
            children: BTreeMap::new(),
        };
        for (element, child) in map.iter().filter(|(element, _)| *element != ".") {
            set.children
                .insert(canonical(element)?, Self::node(child, depth)?);
        }
        Some(set)
    }
}

/// The element of a field or map key.
pub(crate) fn field_element(name: &str) -> String {
    format!("f:{name}")
}

/// The element of an item of a set.
pub(crate) fn value_element(value: &Value) -> String {
    format!("v:{value}")
}

/// The element of an item of a list of type map.
pub(crate) fn key_element(keys: Map<String, Value>) -> String {
    format!("k:{}", Value::Object(keys))
}

/// An element with its JSON rewritten in canonical form.
fn canonical(element: &str) -> Option<String> {
    let (kind, rest) = element.split_once(':')?;
    if kind == "k" && is_plain_key(rest) {
        return Some(element.to_owned());
    }
    match kind {
        "f" => Some(element.to_owned()),
        "v" => serde_json::from_str(rest).ok().map(|value| value_element(&value)),
        "k" => serde_json::from_str(rest).ok().map(key_element),
        "i" => rest.parse::<i64>().ok().map(|index| format!("i:{index}")),
        _ => None,
    }
}

/// One key with a string, as most are: `{"name":"a"}` is canonical as it stands.
fn is_plain_key(text: &str) -> bool {
    let inner = text.strip_prefix("{\"").and_then(|rest| rest.strip_suffix("\"}"));
    let Some((key, value)) = inner.and_then(|inner| inner.split_once("\":\"")) else {
        return false;
    };
    let plain = |part: &str| {
        part.bytes()
            .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    };
    plain(key) && plain(value)
}

fn push_element(path: &mut String, element: &str) {
    use std::fmt::Write as _;
    let (kind, rest) = element.split_at(2.min(element.len()));
    let written = match kind {
        "f:" => write!(path, ".{rest}"),
        "v:" => write!(path, "[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let listed: Vec<String> = keys
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            write!(path, "[{}]", listed.join(","))
        }
        _ => write!(path, "[{rest}]"),
    };
    written.expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_v1_reads_and_writes() {
        let text = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"x\":1,\"y\":\"z\"}": {".": {}, "f:d": {}}}, "f:e": {"v:\"w\"": {}}});
        let set = Set::from_value(&text).unwrap();
        assert_eq!(set.to_value(), text);
        let mut paths = Vec::new();
        set.each_path(&mut |path| paths.push(path.to_owned()));
        assert_eq!(
            paths,
            [".a", ".a.b", ".c[x=1,y=\"z\"]", ".c[x=1,y=\"z\"].d", ".e[=\"w\"]"]
        );
        let unordered = json!({"f:c": {"k:{\"y\": \"z\", \"x\": 1}": {}}});
        assert!(
            Set::from_value(&unordered).unwrap().children["f:c"]
                .children
                .contains_key("k:{\"x\":1,\"y\":\"z\"}")
        );
        for bad in [json!([]), json!({"x": {}}), json!({"k:1": {}}), json!({"v:": {}})] {
            assert_eq!(Set::from_value(&bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_keys_are_those_that_a_parser_leaves_alone() {
        for (text, plain) in [
            (r#"{"name":"a"}"#, true),
            (r#"{"name":""}"#, true),
            (r#"{"name": "a"}"#, false),
            (r#"{"name":"a","x":"b"}"#, false),
            (r#"{"name":"a\u0041"}"#, false),
            (r#"{"port":1}"#, false),
            (r#"{"a":"b":"c"}"#, false),
        ] {
            assert_eq!(is_plain_key(text), plain, "{text}");
            if plain {
                let parsed: Map<String, Value> = serde_json::from_str(text).unwrap();
                assert_eq!(key_element(parsed), format!("k:{text}"));
            }
        }
    }

    #[test]
    fn subtracting_is_the_difference() {
        let texts = [
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {"f:e": {"f:f": {}}}}),
            json!({"f:a": {"f:b": {}}, "f:d": {"f:e": {"f:f": {}, "f:g": {}}}}),
            json!({"f:a": {}, "f:x": {}}),
            json!({"f:d": {}}),
        ];
        for left in &texts {
            for right in &texts {
                let (left, right) = (Set::from_value(left).unwrap(), Set::from_value(right).unwrap());
                let mut subtracted = left.clone();
                subtracted.subtract(&right);
                assert_eq!(subtracted, left.difference(&right));
            }
        }
    }

    #[test]
    fn sets_combine_path_by_path() {
        let left = Set::from_value(&json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}})).unwrap();
        let right = Set::from_value(&json!({"f:a": {"f:b": {}}, "f:d": {}})).unwrap();
        assert_eq!(left.intersection(&right).to_value(), json!({"f:a": {"f:b": {}}}));
        assert_eq!(left.difference(&right).to_value(), json!({"f:a": {}, "f:c": {}}));
        assert_eq!(
            left.union(&right).to_value(),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}})
        );
    }
}
