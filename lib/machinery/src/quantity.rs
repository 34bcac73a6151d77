//! `resource.Quantity`: fixed-point numbers with SI suffixes (`500m`, `1Gi`, `2e3`), canonical as upstream prints them.
//!
//! Values are kept in nano-units of 128 bits: exact for every quantity upstream can express, which rounds up
//! (away from zero) below one nano and caps what passes 128 bits.

use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;

/// How a quantity was written, and so is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A parsed quantity. Equality and order are of the value, not of its form.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

const WRONG_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const WRONG_SUFFIX: &str = "unable to parse quantity's suffix";

impl Quantity {
    /// Zero, decimal.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::DecimalSi,
    };

    /// Reads a quantity.
    ///
    /// # Errors
    /// Upstream's text for a wrong form or an unknown suffix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_len = body
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(body.len());
        let (number, suffix) = body.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || !suffix_shaped(suffix) {
            return Err(WRONG_FORMAT.to_owned());
        }
        let (base, exponent, format) = interpret(suffix).ok_or(WRONG_SUFFIX)?;
        let nano = scaled(whole, fraction, base, exponent);
        let nano = if negative { -nano } else { nano };
        let below_one = format == Format::BinarySi && nano > 0 && nano < NANO;
        let format = if below_one { Format::DecimalSi } else { format };
        Ok(Self { nano, format })
    }

    /// A whole number, decimal.
    pub fn from_i64(value: i64) -> Self {
        Self {
            nano: i128::from(value) * NANO,
            format: Format::DecimalSi,
        }
    }

    /// A whole number of bytes, printed with binary suffixes.
    pub fn from_bytes(value: i64) -> Self {
        Self {
            nano: i128::from(value) * NANO,
            format: Format::BinarySi,
        }
    }

    /// Thousandths, decimal.
    pub fn from_milli(value: i64) -> Self {
        Self {
            nano: i128::from(value) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// The whole number, `None` where it has a fraction or does not fit.
    pub fn as_i64(&self) -> Option<i64> {
        if self.nano % NANO == 0 {
            i64::try_from(self.nano / NANO).ok()
        } else {
            None
        }
    }

    /// Rounded up (away from zero) to a whole number, saturating.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nano, NANO))
    }

    /// Rounded up (away from zero) to thousandths, saturating.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nano, NANO / 1000))
    }

    /// As a float, for ratios.
    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// The form it is printed in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The sum; a zero takes the other's format, as upstream's.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self {
            nano: self.nano.saturating_add(other.nano),
            format,
        }
    }

    /// The difference; a zero takes the other's format, as upstream's.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self {
            nano: self.nano.saturating_sub(other.nano),
            format,
        }
    }

    /// The negative.
    #[must_use]
    pub fn neg(&self) -> Self {
        Self {
            nano: self.nano.saturating_neg(),
            format: self.format,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nano.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => self.fmt_binary(f),
            Format::DecimalExponent => self.fmt_decimal(f, true),
            _ => self.fmt_decimal(f, false),
        }
    }
}

impl Quantity {
    fn fmt_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut amount = divide_up(self.nano, NANO);
        let mut times = 0;
        while times < 6 && amount % 1024 == 0 {
            amount /= 1024;
            times += 1;
        }
        write!(f, "{amount}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][times])
    }

    fn fmt_decimal(&self, f: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let (mut amount, mut exponent) = (self.nano, -9);
        while amount % 1000 == 0 && (exponent_form || exponent < 18) {
            amount /= 1000;
            exponent += 3;
        }
        if exponent == 0 {
            write!(f, "{amount}")
        } else if exponent_form {
            write!(f, "{amount}e{exponent}")
        } else {
            let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][(exponent / 3 + 3) as usize];
            write!(f, "{amount}{suffix}")
        }
    }
}

fn saturate(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Division rounding away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

/// Letters, then an optional sign and digits: what the regular expression lets through.
fn suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    rest.strip_prefix(['-', '+'])
        .unwrap_or(rest)
        .bytes()
        .all(|b| b.is_ascii_digit())
}

/// Base, exponent and format of a suffix.
fn interpret(suffix: &str) -> Option<(i128, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// `whole.fraction * base^exponent` in nano-units, rounded up, saturating.
fn scaled(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    const CAP: i128 = i128::MAX / 2;
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let Some(next) = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
        else {
            return CAP;
        };
        value = next;
    }
    let mut ten = 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX / 2);
    if base == 2 {
        let Some(next) = value.checked_mul(1 << exponent) else {
            return CAP;
        };
        value = next;
    } else {
        ten += i64::from(exponent);
    }
    while ten > 0 && value != 0 {
        let Some(next) = value.checked_mul(10) else {
            return CAP;
        };
        value = next;
        ten -= 1;
    }
    let mut inexact = false;
    while ten < 0 && value != 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        ten += 1;
    }
    value + i128::from(inexact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_canonically() {
        let table = [
            ("0", "0"),
            ("0Mi", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1023Ki", "1023Ki"),
            ("512", "512"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("3000000", "3M"),
            ("123450", "123450"),
            ("10E", "10E"),
            ("0.0000000001", "1n"),
            ("-1Gi", "-1Gi"),
            ("+5", "5"),
            (".5", "500m"),
            ("1.", "1"),
            ("7Ei", "7Ei"),
        ];
        for (text, canonical) in table {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn wrong_forms_are_told_apart() {
        for text in ["", "a", "-", "1.1.1", "1 ", ".", "1Gi2x", "1%"] {
            assert_eq!(Quantity::parse(text).unwrap_err(), WRONG_FORMAT, "{text}");
        }
        for text in ["1i", "1mm", "1e", "1mi"] {
            assert_eq!(Quantity::parse(text).unwrap_err(), WRONG_SUFFIX, "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let quantity = Quantity::parse("1500m").unwrap();
        assert_eq!(
            (quantity.value(), quantity.milli_value(), quantity.as_i64()),
            (2, 1500, None)
        );
        assert_eq!(Quantity::parse("1n").unwrap().milli_value(), 1);
        assert_eq!(
            Quantity::parse("99999999999999999999999999999999999999999E")
                .unwrap()
                .value(),
            i64::MAX
        );
        assert_eq!(
            Quantity::parse("1Gi")
                .unwrap()
                .add(&Quantity::parse("1Gi").unwrap())
                .to_string(),
            "2Gi"
        );
        assert!(Quantity::parse("1").unwrap() > Quantity::parse("999m").unwrap());
    }
}
