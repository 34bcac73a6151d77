//! Label selectors, from text (`app=a,tier in (x,y),!gone`) and from `metav1.LabelSelector`.
//!
//! Texts of refusals are upstream's (`k8s.io/apimachinery/pkg/labels`). The lexer is in `labels/lexer.rs`.

mod lexer;

use std::fmt;

use serde_json::Value;

use crate::names;
use lexer::{Context, Lexer, Token};

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One comparison of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted and unique.
    pub values: Vec<String>,
}

/// All of its requirements must hold, ordered by key; `None` within selects nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Option<Vec<Requirement>>);

impl Selector {
    /// Selects all.
    pub fn everything() -> Self {
        Self(Some(Vec::new()))
    }

    /// Selects none.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// Reads the text form of the `labelSelector` parameter.
    ///
    /// # Errors
    /// Upstream's text with what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lexer = Lexer::new(text);
        let mut requirements = Vec::new();
        loop {
            match lexer.peek(Context::Values) {
                (Token::Identifier | Token::DoesNotExist, _) => {
                    let one = parse_requirement(&mut lexer)
                        .map_err(|why| format!("unable to parse requirement: {why}"))?;
                    requirements.push(one);
                    match lexer.next(Context::Values) {
                        (Token::End, _) => break,
                        (Token::Comma, _) => match lexer.peek(Context::Values) {
                            (Token::Identifier | Token::DoesNotExist, _) => {}
                            (_, found) => {
                                return Err(format!("found '{found}', expected: identifier after ','"));
                            }
                        },
                        (_, found) => {
                            return Err(format!("found '{found}', expected: ',' or 'end of string'"));
                        }
                    }
                }
                (Token::End, _) => break,
                (_, found) => {
                    return Err(format!(
                        "found '{found}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
        }
        Ok(Self::of(requirements))
    }

    /// A `metav1.LabelSelector`; null selects nothing, an empty one everything.
    ///
    /// # Errors
    /// Upstream's text for an unknown operator or an invalid key or value.
    pub fn from_label_selector(selector: &Value) -> Result<Self, String> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let values = vec![value.as_str().unwrap_or("").to_owned()];
            requirements.push(Requirement::new(key, Operator::Equals, values)?);
        }
        for one in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or("");
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = one.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    /// A map of labels that must all be equal (ReplicationController and Service selectors); null or empty selects
    /// everything.
    pub fn from_map(labels: &Value) -> Self {
        let entries = labels.as_object().into_iter().flatten();
        let equals = entries.map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or("").to_owned()],
        });
        Self::of(equals.collect())
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self(Some(requirements))
    }

    /// Whether a labels map (or null) is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        self.matches_by(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether labels that `label` looks up are selected.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match &self.0 {
            None => false,
            Some(requirements) => requirements.iter().all(|one| one.matches(label(&one.key))),
        }
    }

    /// The comparisons; `None` where it selects nothing.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.0.as_deref()
    }

    /// Selects everything.
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }
}

impl Requirement {
    /// A requirement with its key, number of values and values checked.
    ///
    /// # Errors
    /// Upstream's field error, joined.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        let mut errors = Vec::new();
        for why in names::is_qualified_name(key) {
            errors.push(format!("key: Invalid value: {key:?}: {why}"));
        }
        let listed = || serde_json::to_string(&values).expect("strings serialize");
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(why) = wrong_count {
            errors.push(format!("values: Invalid value: {}: {why}", listed()));
        }
        let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        for (index, value) in values.iter().enumerate() {
            if ordered && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(format!("values[{index}]: Invalid value: {value:?}: {why}"));
            }
            for why in names::is_valid_label_value(value) {
                errors.push(format!("values[{index}][{key}]: Invalid value: {value:?}: {why}"));
            }
        }
        match errors.as_slice() {
            [] => {}
            [one] => return Err(one.clone()),
            many => return Err(format!("[{}]", many.join(", "))),
        }
        values.sort();
        values.dedup();
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// Whether the label's value (or its absence) satisfies this.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value, |label, bound| label > bound),
            Operator::LessThan => self.compare(value, |label, bound| label < bound),
        }
    }

    fn compare(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (
            value.and_then(number),
            self.values.first().and_then(|text| number(text)),
        ) {
            (Some(label), Some(bound)) => holds(label, bound),
            _ => false,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().flatten().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            one.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

fn parse_requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let mut negated = false;
    let mut key = lexer.next(Context::Values);
    if key.0 == Token::DoesNotExist {
        negated = true;
        key = lexer.next(Context::Values);
    }
    if key.0 != Token::Identifier {
        return Err(format!("found '{}', expected: identifier", key.1));
    }
    if let Some(why) = names::is_qualified_name(key.1).into_iter().next() {
        return Err(format!("key: Invalid value: {:?}: {why}", key.1));
    }
    if negated {
        return Requirement::new(key.1, Operator::DoesNotExist, Vec::new());
    }
    if matches!(lexer.peek(Context::Values).0, Token::End | Token::Comma) {
        return Requirement::new(key.1, Operator::Exists, Vec::new());
    }
    let operator = match lexer.next(Context::KeyAndOperator) {
        (Token::In, _) => Operator::In,
        (Token::NotIn, _) => Operator::NotIn,
        (Token::Equals, _) => Operator::Equals,
        (Token::DoubleEquals, _) => Operator::DoubleEquals,
        (Token::NotEquals, _) => Operator::NotEquals,
        (Token::GreaterThan, _) => Operator::GreaterThan,
        (Token::LessThan, _) => Operator::LessThan,
        (_, found) => return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    let values = match operator {
        Operator::In | Operator::NotIn => parse_values(lexer)?,
        _ => vec![parse_exact_value(lexer)?],
    };
    Requirement::new(key.1, operator, values)
}

fn parse_exact_value(lexer: &mut Lexer<'_>) -> Result<String, String> {
    if matches!(lexer.peek(Context::Values).0, Token::End | Token::Comma) {
        return Ok(String::new());
    }
    match lexer.next(Context::Values) {
        (Token::Identifier, value) => Ok(value.to_owned()),
        (_, found) => Err(format!("found '{found}', expected: identifier")),
    }
}

fn parse_values(lexer: &mut Lexer<'_>) -> Result<Vec<String>, String> {
    let (token, found) = lexer.next(Context::Values);
    if token != Token::OpenParenthesis {
        return Err(format!("found '{found}' expected: '('"));
    }
    match lexer.peek(Context::Values) {
        (Token::Identifier | Token::Comma, _) => {}
        (Token::CloseParenthesis, _) => {
            lexer.next(Context::Values);
            return Ok(Vec::new());
        }
        (_, found) => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
    }
    let mut values = Vec::new();
    loop {
        match lexer.next(Context::Values) {
            (Token::Identifier, value) => {
                values.push(value.to_owned());
                match lexer.peek(Context::Values) {
                    (Token::Comma, _) => {}
                    (Token::CloseParenthesis, _) => break,
                    (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                }
            }
            (Token::Comma, _) => {
                if values.is_empty() {
                    values.push(String::new());
                }
                match lexer.peek(Context::Values).0 {
                    Token::CloseParenthesis => {
                        values.push(String::new());
                        break;
                    }
                    Token::Comma => {
                        lexer.next(Context::Values);
                        values.push(String::new());
                    }
                    _ => {}
                }
            }
            (_, found) => return Err(format!("found '{found}', expected: ',', or identifier")),
        }
    }
    match lexer.next(Context::Values) {
        (Token::CloseParenthesis, _) => Ok(values),
        (_, found) => Err(format!("found '{found}', expected: ')'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_print_what_they_read() {
        for (text, printed) in [
            ("", ""),
            ("a=b", "a=b"),
            ("b==c,a!=d", "a!=d,b==c"),
            ("x in (b, a ,b)", "x in (a,b)"),
            ("x notin (a,)", "x notin (,a)"),
            ("!x/y, z", "z,!x/y"),
            ("in in (in)", "in in (in)"),
            ("n>5,m<6", "m<6,n>5"),
            ("a=", "a="),
        ] {
            let selector = Selector::parse(text).unwrap();
            let mut expected: Vec<&str> = printed.split(',').collect();
            expected.sort_unstable();
            let shown = selector.to_string();
            let mut shown: Vec<&str> = shown.split(',').collect();
            shown.sort_unstable();
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn selection() {
        let labels = json!({"app": "web", "tier": "front", "n": "7"});
        for (text, selected) in [
            ("", true),
            ("app=web", true),
            ("app!=web", false),
            ("gone!=x", true),
            ("gone notin (x)", true),
            ("app in (api,web),tier", true),
            ("!tier", false),
            ("n>6,n<8", true),
            ("n>7", false),
            ("gone>1", false),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&labels),
                selected,
                "{text}"
            );
        }
        assert!(Selector::parse("").unwrap().matches(&Value::Null));
    }

    #[test]
    fn refusals_are_upstreams() {
        for (text, why) in [
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err(), why, "{text}");
        }
        assert!(Selector::parse("a in ()").is_err());
        assert!(
            Selector::parse("-a=b")
                .unwrap_err()
                .contains("name part must consist of")
        );
    }

    #[test]
    fn label_selectors_of_objects() {
        let selector =
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]});
        let selector = Selector::from_label_selector(&selector).unwrap();
        assert_eq!(selector.to_string(), "a=b,c");
        assert!(
            !Selector::from_label_selector(&Value::Null)
                .unwrap()
                .matches(&Value::Null)
        );
        assert!(Selector::from_label_selector(&json!({})).unwrap().is_everything());
        let bad = json!({"matchExpressions": [{"key": "c", "operator": "Is"}]});
        assert_eq!(
            Selector::from_label_selector(&bad).unwrap_err(),
            "\"Is\" is not a valid label selector operator"
        );
    }
}
