//! Checks a cron schedule as robfig/cron's standard parser does, with its texts.

const MACROS: &[&str] = &[
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The parser's error, if any.
pub fn check(schedule: &str) -> Result<(), String> {
    if let Some(rest) = schedule.strip_prefix("@every ") {
        return match keelson_machinery::time::parse_duration(rest) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("failed to parse duration {schedule}: {error}")),
        };
    }
    if schedule.starts_with('@') {
        return match MACROS.contains(&schedule) {
            true => Ok(()),
            false => Err(format!("unrecognized descriptor: {schedule}")),
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    let bounds: [(i64, i64, &[&str], i64); 5] = [
        (0, 59, &[], 0),
        (0, 23, &[], 0),
        (1, 31, &[], 0),
        (1, 12, MONTHS, 1),
        (0, 6, DAYS, 0),
    ];
    for (field, bound) in fields.iter().zip(bounds) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            range(part, bound)?;
        }
    }
    Ok(())
}

fn range(text: &str, (min, max, names, first): (i64, i64, &[&str], i64)) -> Result<(), String> {
    let (span, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {text}")),
        Some((span, step)) => (span, Some(number(step)?)),
        None => (text, None),
    };
    let value = |text: &str| {
        let known = names.iter().position(|name| *name == text.to_lowercase());
        known.map_or_else(|| number(text), |index| Ok(index as i64 + first))
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (min, max),
        Some((_, high)) if high.contains('-') => return Err(format!("too many hyphens: {text}")),
        Some((low, high)) => (value(low)?, value(high)?),
        None => {
            let low = value(span)?;
            (low, if step.is_some() { max } else { low })
        }
    };
    if low < min {
        return Err(format!(
            "beginning of range ({low}) below minimum ({min}): {text}"
        ));
    }
    if high > max {
        return Err(format!("end of range ({high}) above maximum ({max}): {text}"));
    }
    if low > high {
        return Err(format!(
            "beginning of range ({low}) beyond end of range ({high}): {text}"
        ));
    }
    match step {
        Some(0) => Err(format!("step of range should be a positive number: {text}")),
        _ => Ok(()),
    }
}

fn number(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(value) if value < 0 => Err(format!("negative number ({value}) not allowed: {text}")),
        Ok(value) => Ok(value),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules() {
        for (schedule, expected) in [
            ("*/5 * * * *", Ok(())),
            ("0 0 1,15 jan-mar MON", Ok(())),
            ("@hourly", Ok(())),
            ("@every 1h30m", Ok(())),
            ("@never", Err("unrecognized descriptor: @never")),
            ("* * *", Err("expected exactly 5 fields, found 3: [* * *]")),
            ("60 * * * *", Err("end of range (60) above maximum (59): 60")),
            (
                "x * * * *",
                Err("failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ),
        ] {
            assert_eq!(check(schedule), expected.map_err(str::to_owned), "{schedule}");
        }
    }
}
