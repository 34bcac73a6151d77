//! Field selectors: `metadata.name=a,status.phase!=Running`.
//!
//! Which fields may be asked for is the kind's matter; this module reads the text and compares.

use std::fmt;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub field: String,
    /// `!=` instead of `=`.
    pub negated: bool,
    pub value: String,
}

/// All of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// Selects all.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads a selector; `\\`, `\,` and `\=` in values stand for themselves.
    ///
    /// # Errors
    /// Upstream's text for a term without operator or a bad escape.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let refused = || format!("invalid selector: '{text}'; can't understand '{term}'");
            let (field, negated, value) = split_term(term).ok_or_else(refused)?;
            requirements.push(Requirement {
                field: field.to_owned(),
                negated,
                value: unescape(value)?,
            });
        }
        requirements.sort_by(|a, b| a.field.cmp(&b.field));
        Ok(Self(requirements))
    }

    /// Compares; a field the object does not have reads as "".
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|one| (field(&one.field).unwrap_or_default() == one.value) != one.negated)
    }

    /// The comparisons, ordered by field.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// The value the field must equal, where the selector asks for one exactly.
    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|one| one.field == field && !one.negated)
            .map(|one| one.value.as_str())
    }

    /// No requirement.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Renames fields or refuses them: upstream's `Transform` by a kind's label conversion.
    ///
    /// # Errors
    /// The first refusal of `convert`.
    pub fn transform(
        mut self,
        convert: impl Fn(&str, &str) -> Result<(String, String), String>,
    ) -> Result<Self, String> {
        for one in &mut self.0 {
            (one.field, one.value) = convert(&one.field, &one.value)?;
        }
        self.0.retain(|one| !one.field.is_empty());
        Ok(self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if one.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", one.field, escape(&one.value))?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits at the first of `!=`, `==`, `=`.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    (0..term.len())
        .filter(|at| term.is_char_boundary(*at))
        .find_map(|at| {
            let (field, rest) = term.split_at(at);
            for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
                if let Some(value) = rest.strip_prefix(operator) {
                    return Some((field, negated, value));
                }
            }
            None
        })
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                Some(next) => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{next}"
                    ));
                }
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {c}"
                ));
            }
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_parse_match_and_print() {
        let selector = Selector::parse("spec.nodeName=n1,metadata.name!=a\\,b,").unwrap();
        assert_eq!(selector.to_string(), "metadata.name!=a\\,b,spec.nodeName=n1");
        let of = |node: &'static str| move |field: &str| (field == "spec.nodeName").then_some(node);
        assert!(selector.matches(of("n1")));
        assert!(!selector.matches(of("n2")));
        assert_eq!(selector.requires_exact_match("spec.nodeName"), Some("n1"));
        assert!(Selector::parse("").unwrap().is_empty());
        assert_eq!(
            Selector::parse("a").unwrap_err(),
            "invalid selector: 'a'; can't understand 'a'"
        );
        assert!(Selector::parse("a=b=c").is_err());
    }
}
