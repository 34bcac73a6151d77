//! Reads resource quantities as the numbers cgroups and the scheduler's arithmetic need.
//!
//! Only reading: the kubelet never rewrites a quantity a user wrote. Unreadable text counts as zero, because the API
//! server has refused it long before.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The value in thousandths, rounded up.
pub fn milli(q: &Quantity) -> i64 {
    scaled(&q.0, 1000)
}

/// The value, rounded up.
pub fn value(q: &Quantity) -> i64 {
    scaled(&q.0, 1)
}

/// The named amount of a resource list.
pub fn get<'a>(list: &'a Option<BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list.as_ref()?.get(name)
}

fn scaled(text: &str, scale: i128) -> i64 {
    parse(text, scale)
        .unwrap_or(0)
        .clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn parse(text: &str, scale: i128) -> Option<i128> {
    let text = text.trim();
    let end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (multiply, divide) = suffix_factor(suffix)?;
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(9)];
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divide = divide.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let total = digits.checked_mul(multiply)?.checked_mul(scale)?;
    let rounded = (total + divide - 1) / divide;
    Some(if negative { -rounded } else { rounded })
}

/// What a suffix multiplies and divides by.
fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_numbers() {
        for (text, v, m) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1.5", 2, 1500),
            ("128Mi", 134_217_728, 134_217_728_000),
            ("1e3", 1000, 1_000_000),
            ("0.5Gi", 536_870_912, 536_870_912_000),
            ("5k", 5000, 5_000_000),
            ("bad", 0, 0),
        ] {
            assert_eq!(
                (value(&Quantity(text.into())), milli(&Quantity(text.into()))),
                (v, m),
                "{text}"
            );
        }
    }
}
