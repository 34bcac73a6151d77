//! Ranges of keys a user may read and write. Pure.

use keelson_proto::etcd::authpb::{Permission, permission::Type};

/// Merged ranges, for reading and for writing. An end of `None` is open.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Permissions {
    read: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    write: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Permissions {
    /// Merges what several roles grant.
    pub fn new<'a>(granted: impl Iterator<Item = &'a Permission>) -> Self {
        let mut read = Vec::new();
        let mut write = Vec::new();
        for permission in granted {
            let range = range(&permission.key, &permission.range_end);
            let kind = permission.perm_type();
            if matches!(kind, Type::Read | Type::Readwrite) {
                read.push(range.clone());
            }
            if matches!(kind, Type::Write | Type::Readwrite) {
                write.push(range);
            }
        }
        Self {
            read: merge(read),
            write: merge(write),
        }
    }

    /// Whether a whole range may be read or written.
    pub fn allow(&self, key: &[u8], range_end: &[u8], need: Type) -> bool {
        let wanted = range(key, range_end);
        let inside = |ranges: &[(Vec<u8>, Option<Vec<u8>>)]| {
            ranges.iter().any(|(from, to)| {
                *from <= wanted.0
                    && match (to, &wanted.1) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(to), Some(end)) => end <= to,
                    }
            })
        };
        match need {
            Type::Read => inside(&self.read),
            Type::Write => inside(&self.write),
            Type::Readwrite => inside(&self.read) && inside(&self.write),
        }
    }
}

fn range(key: &[u8], range_end: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = match range_end {
        [] => {
            let mut next = key.to_vec();
            next.push(0);
            Some(next)
        }
        [0] => None,
        end => Some(end.to_vec()),
    };
    (key.to_vec(), end)
}

fn merge(mut ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    ranges.sort();
    let mut merged: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, None)) => {}
            Some((_, Some(last))) if from <= *last => match to {
                None => merged.last_mut().expect("matched above").1 = None,
                Some(to) if to > *last => *last = to,
                Some(_) => {}
            },
            _ => merged.push((from, to)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_count_as_one() {
        let grant = |key: &'static str, end: &'static str, kind: Type| Permission {
            perm_type: kind as i32,
            key: key.into(),
            range_end: end.into(),
        };
        let granted = [
            grant("a", "c", Type::Read),
            grant("c", "e", Type::Readwrite),
            grant("x", "\0", Type::Write),
            grant("k", "", Type::Read),
        ];
        let permissions = Permissions::new(granted.iter());
        for (key, end, need, expect) in [
            ("a", "e", Type::Read, true),
            ("a", "e", Type::Write, false),
            ("c", "d", Type::Write, true),
            ("a", "f", Type::Read, false),
            ("y", "\0", Type::Write, true),
            ("w", "\0", Type::Write, false),
            ("k", "", Type::Read, true),
            ("k1", "", Type::Read, false),
        ] {
            let allowed = permissions.allow(key.as_bytes(), end.as_bytes(), need);
            assert_eq!(allowed, expect, "{key} {end:?} {need:?}");
        }
    }
}
