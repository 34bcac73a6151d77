//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// An absolute number, or a percentage of `total` rounded up or down.
pub fn absolute(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent * i64::from(total);
            let rounded = if up {
                (hundredths + 99) / 100
            } else {
                hundredths / 100
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_told() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(absolute(Some(&quarter), 10, true), 3);
        assert_eq!(absolute(Some(&quarter), 10, false), 2);
        assert_eq!(absolute(Some(&IntOrString::Int(4)), 10, false), 4);
        assert_eq!(absolute(None, 10, false), 0);
    }
}
