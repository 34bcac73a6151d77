//! Labels and the selectors over them: label selectors and node selector terms.
//!
//! Both kinds of selector share one requirement type; they differ only in which operators the API lets through.
//! An empty selector matches everything; a selector that cannot be read matches nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of one object, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The labels of an object's metadata.
    pub fn new(map: Option<&BTreeMap<String, String>>) -> Self {
        let pairs = map.into_iter().flatten();
        Self(
            pairs
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect(),
        )
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }
}

/// Operators of `matchExpressions`; `Gt` and `Lt` only in node selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            _ => return None,
        })
    }
}

/// One expression over one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Box<[Box<str>]>,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Option<Self> {
        let operator = Operator::parse(operator)?;
        let values = values.into_iter().flatten().map(|v| v.as_str().into()).collect();
        Some(Self {
            key: key.into(),
            operator,
            values,
        })
    }

    fn equals(key: &str, value: &str) -> Self {
        Self {
            key: key.into(),
            operator: Operator::In,
            values: [value.into()].into(),
        }
    }

    fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| &**x == v);
        let number = |v: &str| v.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => value.and_then(number).zip(bound()).is_some_and(|(v, b)| v > b),
            Operator::Lt => value.and_then(number).zip(bound()).is_some_and(|(v, b)| v < b),
        }
    }
}

/// All requirements must hold; `None` is the selector that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector(Option<Box<[Requirement]>>);

impl Selector {
    /// From the API's form: absent matches nothing, empty matches everything.
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let equal = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(k, v)| Some(Requirement::equals(k, v)));
        let expressions = selector.match_expressions.iter().flatten();
        let expressions = expressions.map(|e| Requirement::new(&e.key, &e.operator, e.values.as_ref()));
        Self(
            equal
                .chain(expressions)
                .collect::<Option<Vec<_>>>()
                .map(Into::into),
        )
    }

    /// From a Service's or ReplicationController's map; an empty or absent one matches nothing.
    pub fn from_map(map: Option<&BTreeMap<String, String>>) -> Self {
        match map {
            Some(map) if !map.is_empty() => {
                Self(Some(map.iter().map(|(k, v)| Requirement::equals(k, v)).collect()))
            }
            _ => Self::nothing(),
        }
    }

    /// Matches no labels at all.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// Whether no labels can match.
    pub fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Both this selector and the other.
    pub fn and(self, other: &Self) -> Self {
        match (self.0, &other.0) {
            (Some(own), Some(other)) => Self(Some(own.into_iter().chain(other.iter().cloned()).collect())),
            _ => Self::nothing(),
        }
    }

    /// This selector, and the same value as `labels` has for each of `keys` (absent keys are left out).
    pub fn and_same(self, keys: Option<&Vec<String>>, labels: &Labels) -> Self {
        let same = keys
            .into_iter()
            .flatten()
            .filter_map(|k| labels.get(k).map(|v| Requirement::equals(k, v)));
        let same = Self(Some(same.collect()));
        self.and(&same)
    }

    /// Whether the labels satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .as_ref()
            .is_some_and(|all| all.iter().all(|r| r.matches_value(labels.get(&r.key))))
    }
}

/// One term of a node selector; terms are alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    /// `None` when the term cannot be read, which then matches no node.
    expressions: Option<Box<[Requirement]>>,
    fields: Option<Box<[Requirement]>>,
}

impl NodeTerm {
    /// From the API's form.
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let read = |list: Option<&Vec<NodeSelectorRequirement>>| {
            let list = list.into_iter().flatten();
            list.map(|r| Requirement::new(&r.key, &r.operator, r.values.as_ref()))
                .collect::<Option<Box<[_]>>>()
        };
        Self {
            expressions: read(term.match_expressions.as_ref()),
            fields: read(term.match_fields.as_ref()),
        }
    }

    /// Whether a node of this name and these labels satisfies the term. An empty term matches no node.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let (Some(expressions), Some(fields)) = (&self.expressions, &self.fields) else {
            return false;
        };
        if expressions.is_empty() && fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(name);
        expressions.iter().all(|r| r.matches_value(labels.get(&r.key)))
            && fields.iter().all(|r| r.matches_value(field(&r.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(Some(
            &pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        ))
    }

    #[test]
    fn selectors_match() {
        let web = labels(&[("app", "web"), ("cores", "8")]);
        let cases = [
            (r#"{}"#, true),
            (r#"{"matchLabels":{"app":"web"}}"#, true),
            (r#"{"matchLabels":{"app":"db"}}"#, false),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"In","values":["db","web"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"Exists"}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]}"#,
                false,
            ),
            (r#"{"matchExpressions":[{"key":"app","operator":"Like"}]}"#, false),
        ];
        for (text, expected) in cases {
            let selector = Selector::new(Some(&serde_json::from_str(text).unwrap()));
            assert_eq!(selector.matches(&web), expected, "{text}");
        }
        assert!(!Selector::new(None).matches(&web));
        assert!(!Selector::from_map(Some(&BTreeMap::new())).matches(&web));
    }

    #[test]
    fn node_terms_match() {
        let node = labels(&[("zone", "a"), ("cores", "8")]);
        let cases = [
            (r#"{}"#, false),
            (
                r#"{"matchExpressions":[{"key":"cores","operator":"Gt","values":["4"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"cores","operator":"Lt","values":["8"]}]}"#,
                false,
            ),
            (
                r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}"#,
                true,
            ),
            (
                r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n2"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"In","values":["a"]}],
                    "matchFields":[{"key":"metadata.name","operator":"NotIn","values":["n1"]}]}"#,
                false,
            ),
        ];
        for (text, expected) in cases {
            let term = NodeTerm::new(&serde_json::from_str(text).unwrap());
            assert_eq!(term.matches("n1", &node), expected, "{text}");
        }
    }

    #[test]
    fn same_value_narrows_a_selector() {
        let v1 = labels(&[("app", "web"), ("rev", "1")]);
        let v2 = labels(&[("app", "web"), ("rev", "2")]);
        let app: LabelSelector = serde_json::from_str(r#"{"matchLabels":{"app":"web"}}"#).unwrap();
        let selector = Selector::new(Some(&app)).and_same(Some(&vec!["rev".into(), "absent".into()]), &v1);
        assert!(selector.matches(&v1));
        assert!(!selector.matches(&v2));
    }
}
