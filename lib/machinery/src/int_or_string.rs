//! `intstr.IntOrString`: a port or a count that may be a name or a percentage.

use serde_json::Value;

/// A value that is an `int32` or a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

impl IntOrString {
    /// Reads a JSON value; `None` where it is neither a whole number of 32 bits nor a string.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::String(text.clone())),
            other => other
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .map(Self::Int),
        }
    }

    /// A percentage of `total` (`50%`), or the number itself.
    ///
    /// # Errors
    /// Upstream's text where the string is no percentage.
    pub fn scaled(&self, total: i64, round_up: bool) -> Result<i64, String> {
        match self {
            Self::Int(number) => Ok(i64::from(*number)),
            Self::String(text) => {
                let percent = percent_of(text)?;
                let product = i128::from(percent) * i128::from(total);
                let quotient = product.div_euclid(100);
                let up = round_up && product.rem_euclid(100) != 0;
                Ok((quotient + i128::from(up)).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
            }
        }
    }
}

/// The number before `%`.
fn percent_of(text: &str) -> Result<i64, String> {
    let invalid = |why: &str| format!("invalid value for IntOrString: {why}");
    let digits = text
        .strip_suffix('%')
        .ok_or_else(|| invalid("invalid type: string is not a percentage"))?;
    digits.parse().map_err(|_| {
        invalid(&format!(
            "invalid value {text:?}: strconv.Atoi: parsing {digits:?}: invalid syntax"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentages_scale() {
        let half = IntOrString::from_value(&json!("25%")).unwrap();
        assert_eq!((half.scaled(10, true), half.scaled(10, false)), (Ok(3), Ok(2)));
        assert_eq!(
            IntOrString::from_value(&json!(7)).unwrap().scaled(10, true),
            Ok(7)
        );
        assert!(IntOrString::String("x".to_owned()).scaled(1, true).is_err());
        assert_eq!(IntOrString::from_value(&json!(1.5)), None);
    }
}
