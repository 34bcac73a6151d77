//! Table rows that are kept: the cells' text, with the object's age left open.
//!
//! Cells are functions of the object and of the time. What stays the same however late it gets is kept as text; what is
//! the age of the object is counted anew for each answer; a row with any other cell that moves (a last restart, a running
//! duration) is not kept at all. Ages only ever grow through distinct texts, so a cell that is the same now and a hundred
//! years from now does not move in between.

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};
use keelson_machinery::{Value, meta, time};

/// Far enough away for every text of a time span to have changed.
const LATER: SignedDuration = SignedDuration::from_hours(100 * 365 * 24);

/// The cells of a row: `"a","0/1",`, the age, `,"b"`.
#[derive(Debug, PartialEq)]
pub struct Row {
    text: Box<str>,
    /// Where ages stand in the text, in order.
    ages: Box<[u32]>,
    /// Since when they are counted, in Unix seconds.
    created_s: i64,
}

impl Row {
    /// The row, where it can be kept: `cells` are those of `object` at a time.
    pub fn keepable(object: &Value, now: Timestamp, cells: impl Fn(Timestamp) -> Vec<Value>) -> Option<Self> {
        let later = now.checked_add(LATER).ok()?;
        let created = meta::creation_timestamp(object).and_then(|text| text.parse::<Timestamp>().ok());
        let created_s = created.map_or(0, Timestamp::as_second);
        let age = |at: Timestamp| time::human_duration(at.as_second() - created_s);
        let (mut text, mut ages) = (String::new(), Vec::new());
        for (index, (present, future)) in cells(now).iter().zip(cells(later)).enumerate() {
            if index > 0 {
                text.push(',');
            }
            if *present == future {
                text.push_str(&present.to_string());
            } else if created.is_some() && *present == age(now) && future == age(later) {
                ages.push(u32::try_from(text.len()).ok()?);
            } else {
                return None;
            }
        }
        Some(Self {
            text: text.into(),
            ages: ages.into(),
            created_s,
        })
    }

    /// Appends the cells as they are at `now`.
    pub fn write(&self, now: Timestamp, out: &mut BytesMut) {
        let mut written = 0;
        for at in &self.ages {
            let at = *at as usize;
            out.extend_from_slice(&self.text.as_bytes()[written..at]);
            written = at;
            let age = time::human_duration(now.as_second() - self.created_s);
            out.extend_from_slice(b"\"");
            out.extend_from_slice(age.as_bytes());
            out.extend_from_slice(b"\"");
        }
        out.extend_from_slice(&self.text.as_bytes()[written..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pod(restarts: i64) -> Value {
        json!({
            "metadata": {"name": "p \"q\"", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "a", "ready": true, "restartCount": restarts, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:00Z"}},
            }]},
        })
    }

    #[test]
    fn a_kept_row_reads_as_one_made_anew() {
        let pod = pod(0);
        let kind = keelson_kinds::kinds()
            .iter()
            .find(|kind| kind.info().resource == "pods")
            .unwrap();
        let row = Row::keepable(&pod, at("2026-01-01T00:10:00Z"), |now| kind.cells(&pod, now)).unwrap();
        for now in [
            "2026-01-01T00:00:05Z",
            "2026-01-01T00:10:00Z",
            "2026-03-01T00:00:00Z",
        ] {
            let mut out = BytesMut::new();
            row.write(at(now), &mut out);
            let cells = format!("[{}]", std::str::from_utf8(&out).unwrap());
            let cells: Value = serde_json::from_str(&cells).unwrap();
            assert_eq!(cells, json!(kind.cells(&pod, at(now))), "{now}");
        }
    }

    #[test]
    fn a_row_that_moves_by_another_time_is_not_kept() {
        let pod = pod(2);
        let kind = keelson_kinds::kinds()
            .iter()
            .find(|kind| kind.info().resource == "pods")
            .unwrap();
        let row = Row::keepable(&pod, at("2026-01-01T00:10:00Z"), |now| kind.cells(&pod, now));
        assert_eq!(row, None, "the last restart's age moves");
    }

    #[test]
    fn an_object_without_a_time_is_kept_whole() {
        let row = Row::keepable(&json!({}), Timestamp::UNIX_EPOCH, |_| vec![json!("a"), json!(1)]).unwrap();
        let mut out = BytesMut::new();
        row.write(Timestamp::UNIX_EPOCH, &mut out);
        assert_eq!(&out[..], b"\"a\",1");
    }
}
