//! Cron schedules: five fields (minute, hour, day of month, month, day of week) or `@hourly`, `@every 5m` and the
//! like, in a time zone. Pure.
//!
//! A day matches when both day fields do, or either of them where both are restricted, as cron has it. Times that a
//! change to summer time leaves out do not occur.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::duration;

/// No schedule is searched further than this: one that names the 30th of February never matches.
const YEARS_MAX: i16 = 5;

/// When a job is due.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Schedule {
    /// At all minutes that match.
    Fields(Box<Fields>),
    /// Again and again after this pause, of whole seconds.
    Every(Duration),
}

/// The minutes that match, as sets of bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either day field was `*`: then both must match.
    any_day: bool,
    zone: TimeZone,
}

/// Name, smallest and largest value of a field, and words for its values.
struct Kind {
    name: &'static str,
    min: u32,
    max: u32,
    words: &'static [&'static str],
}

const MINUTE: Kind = Kind {
    name: "minute",
    min: 0,
    max: 59,
    words: &[],
};
const HOUR: Kind = Kind {
    name: "hour",
    min: 0,
    max: 23,
    words: &[],
};
const DAY: Kind = Kind {
    name: "day of month",
    min: 1,
    max: 31,
    words: &[],
};
const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    words: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAY: Kind = Kind {
    name: "day of week",
    min: 0,
    max: 6,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// Parses a schedule; `zone` is the name of a time zone, the machine's own where there is none.
pub(super) fn parse(text: &str, zone: Option<&str>) -> Result<Schedule, String> {
    let zone = match zone {
        Some(name) => TimeZone::get(name).map_err(|error| format!("unknown time zone {name}: {error}"))?,
        None => TimeZone::system(),
    };
    let fields = match text.trim() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => match other.strip_prefix("@every ") {
            Some(pause) => {
                let pause = duration::parse(pause.trim())?.as_secs().max(1);
                return Ok(Schedule::Every(Duration::from_secs(pause)));
            }
            None => other,
        },
    };
    let parts: Vec<&str> = fields.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        let found = parts.len();
        return Err(format!("expected exactly 5 fields, found {found}: {text:?}"));
    };
    Ok(Schedule::Fields(Box::new(Fields {
        minutes: field(minute, &MINUTE)?,
        hours: field(hour, &HOUR)?,
        days: field(day, &DAY)?,
        months: field(month, &MONTH)?,
        weekdays: field(weekday, &WEEKDAY)?,
        any_day: [day, weekday].into_iter().any(is_any),
        zone,
    })))
}

/// Whether a field restricts nothing; `*/2` does.
fn is_any(text: &str) -> bool {
    text.split(',')
        .any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"))
}

/// A list of values, ranges and steps: `*`, `5`, `1-5`, `*/15`, `mon-fri`, `1,2,3`.
fn field(text: &str, kind: &Kind) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= range(part, kind)?;
    }
    Ok(bits)
}

fn range(text: &str, kind: &Kind) -> Result<u64, String> {
    let bad = |why: &str| format!("{why} in the {} field: {text:?}", kind.name);
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (text, None),
    };
    let (first, last) = match span {
        "*" | "?" => (kind.min, kind.max),
        _ => match span.split_once('-') {
            Some((first, last)) => (value(first, kind)?, value(last, kind)?),
            // `5/15` means from 5 on.
            None if step.is_some() => (value(span, kind)?, kind.max),
            None => (value(span, kind)?, value(span, kind)?),
        },
    };
    let step = match step {
        Some(step) => step.parse::<u32>().map_err(|_| bad("not a step"))?,
        None => 1,
    };
    if step == 0 {
        return Err(bad("a step of 0"));
    }
    if first > last {
        return Err(bad("a range that ends before it begins"));
    }
    if first < kind.min || last > kind.max {
        return Err(bad("a value out of range"));
    }
    let mut bits = 0;
    for value in (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        bits |= 1 << value;
    }
    Ok(bits)
}

fn value(text: &str, kind: &Kind) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = kind.words.iter().position(|word| *word == lower) {
        return Ok(kind.min + u32::try_from(at).unwrap_or(0));
    }
    text.parse()
        .map_err(|_| format!("not a value in the {} field: {text:?}", kind.name))
}

fn has(bits: u64, value: impl Into<i64>) -> bool {
    bits >> value.into() & 1 == 1
}

impl Schedule {
    /// The first time it is due after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Schedule::Fields(fields) => fields.next(after),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = after.to_zoned(self.zone.clone());
        let mut date = local.date();
        let last_year = date.year().saturating_add(YEARS_MAX);
        while date.year() <= last_year {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.is_day(date)
                && let Some(due) = self.on(date, after)
            {
                return Some(due);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let in_month = has(self.days, date.day());
        let in_week = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day {
            in_month && in_week
        } else {
            in_month || in_week
        }
    }

    /// The first matching time of a day after `after`. Hours are walked in real time, so that those of a day that
    /// has 23 or 25 come in order.
    fn on(&self, date: Date, after: Timestamp) -> Option<Timestamp> {
        let midnight = self.zone.to_zoned(date.to_datetime(Time::midnight())).ok()?;
        let mut hour = midnight.clone();
        while hour.date() == date {
            if has(self.hours, hour.hour()) {
                let minutes = (0..60_i8).filter(|minute| has(self.minutes, *minute));
                let times = minutes.filter_map(|minute| hour.checked_add(i64::from(minute).minutes()).ok());
                let mut due = times.map(|time| time.timestamp()).filter(|time| *time > after);
                if let Some(due) = due.next() {
                    return Some(due);
                }
            }
            hour = hour.checked_add(1.hour()).ok()?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> Option<String> {
        let schedule = parse(schedule, Some(zone)).unwrap();
        schedule.next(after.parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn the_next_time() {
        let table = [
            ("* * * * *", "UTC", "2026-01-31T23:59:00Z", "2026-02-01T00:00:00Z"),
            (
                "*/15 * * * *",
                "UTC",
                "2026-01-01T10:16:01Z",
                "2026-01-01T10:30:00Z",
            ),
            (
                "5/20 3 * * *",
                "UTC",
                "2026-01-01T03:45:00Z",
                "2026-01-02T03:05:00Z",
            ),
            (
                "0 9-17/4 * * mon-fri",
                "UTC",
                "2026-01-02T17:30:00Z",
                "2026-01-05T09:00:00Z",
            ),
            // Both day fields restricted: either will do (the 13th, or a Friday).
            (
                "0 0 13 * 5",
                "UTC",
                "2026-01-10T00:00:00Z",
                "2026-01-13T00:00:00Z",
            ),
            (
                "0 0 29 2 *",
                "UTC",
                "2026-01-01T00:00:00Z",
                "2028-02-29T00:00:00Z",
            ),
            ("@monthly", "UTC", "2026-12-05T00:00:00Z", "2027-01-01T00:00:00Z"),
            (
                "@every 90s",
                "UTC",
                "2026-01-01T00:00:00.5Z",
                "2026-01-01T00:01:30Z",
            ),
            (
                "30 8 * * *",
                "Europe/Berlin",
                "2026-07-01T07:00:00Z",
                "2026-07-02T06:30:00Z",
            ),
            // 02:30 does not exist on the night the clock goes forward.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                "2026-03-30T00:30:00Z",
            ),
        ];
        for (schedule, zone, after, expected) in table {
            assert_eq!(
                next(schedule, zone, after).as_deref(),
                Some(expected),
                "{schedule} in {zone}"
            );
        }
        assert_eq!(next("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("* * * *", "found 4"),
            ("60 * * * *", "out of range"),
            ("* * 0 * *", "out of range"),
            ("5-1 * * * *", "ends before"),
            ("*/0 * * * *", "step of 0"),
            ("a * * * *", "minute"),
            ("@every never", "duration"),
        ];
        for (schedule, expected) in table {
            let error = parse(schedule, Some("UTC")).unwrap_err();
            assert!(error.contains(expected), "{schedule}: {error}");
        }
        assert!(parse("* * * * *", Some("Nowhere/Land")).is_err());
    }
}
