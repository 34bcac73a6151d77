//! Times and durations as Kubernetes writes them; no clock is read here.

use jiff::Timestamp;

/// `metav1.Time`: RFC 3339 in UTC with whole seconds, e.g. `2026-01-02T15:04:05Z`.
pub fn format_rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 in UTC with six digits of a second, e.g. `2026-01-02T15:04:05.000000Z`.
pub fn format_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads an RFC 3339 time of any offset and precision.
///
/// # Errors
/// Go's text: `parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse ...`.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let refused = || {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    };
    let bytes = text.as_bytes();
    // Go accepts only the strict form: four-digit year, upper-case T, seconds, Z or an offset.
    let strict = bytes.len() >= 20
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[16] == b':';
    if !strict {
        return Err(refused());
    }
    text.parse::<Timestamp>().map_err(|_| refused())
}

/// kubectl's AGE form of a span in seconds: `45s`, `5m3s`, `3d4h`, `2y10d`.
pub fn human_duration(seconds: i64) -> String {
    let pair = |big: i64, big_unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => pair(days, 'd', hours % 24, 'h'),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// Reads Go's duration form (`1h30m`, `500ms`, `-1.5s`, `0`) as nanoseconds, for `metav1.Duration`.
///
/// # Errors
/// Go's text: `time: invalid duration "x"`, with the missing or unknown unit named.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: f64 = 0.0;
    let mut exact: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        exact = whole
            .checked_mul(scale)
            .and_then(|add| exact.checked_add(add))
            .ok_or_else(invalid)?;
        if !fraction.is_empty() {
            total += format!("0.{fraction}").parse::<f64>().map_err(|_| invalid())? * scale as f64;
        }
        rest = next;
    }
    let nanos = exact.checked_add(total as i128).ok_or_else(invalid)?;
    i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| invalid())
}

/// Go's `time.Duration.String()` of nanoseconds: `1h0m0s`, `1.5s`, `500ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", value % unit);
        match rest.trim_end_matches('0') {
            "" => format!("{}{name}", value / unit),
            rest => format!("{}.{rest}{name}", value / unit),
        }
    };
    let text = match n {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{n}ns"),
        1_000..1_000_000 => fraction(n, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(n, 1_000_000, "ms"),
        _ => {
            let minutes = n / 60_000_000_000;
            let seconds = fraction(n % 60_000_000_000, 1_000_000_000, "s");
            match minutes {
                0 => seconds,
                1..60 => format!("{minutes}m{seconds}"),
                _ => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_print() {
        let at = parse("2026-01-02T16:04:05.25+01:00").unwrap();
        assert_eq!(format_rfc3339(at), "2026-01-02T15:04:05Z");
        assert_eq!(format_micro(at), "2026-01-02T15:04:05.250000Z");
        for bad in [
            "",
            "now",
            "2026-01-02",
            "2026-01-02 15:04:05Z",
            "2026-01-02T15:04:05",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_are_kubectls() {
        let table = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (3600, "60m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (76 * 3600, "3d4h"),
            (9 * 86_400, "9d"),
            (740 * 86_400, "2y10d"),
            (9 * 365 * 86_400, "9y"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanos, printed) in [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("-2m", -120_000_000_000, "-2m0s"),
            ("500ms", 500_000_000, "500ms"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text).unwrap(), nanos);
            assert_eq!(format_duration(nanos), printed);
        }
        assert_eq!(
            parse_duration("5").unwrap_err(),
            "time: missing unit in duration \"5\""
        );
        assert_eq!(
            parse_duration("5d").unwrap_err(),
            "time: unknown unit \"d\" in duration \"5d\""
        );
    }
}
