//! What becomes of an object, given how its owners stand. Pure.

use super::graph::{FOREGROUND, ORPHAN};

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There, and not waiting for this object.
    Solid,
    /// Gone, or out of reach.
    Gone,
    /// Being deleted in the foreground: waits for its dependents.
    Waiting,
}

/// What to do with the object.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    Keep,
    /// Take off references to these owners.
    Unown(Vec<String>),
    /// Delete with this propagation policy.
    Delete(&'static str),
}

/// An object with a solid owner stays, without its lost ones; one without is garbage.
pub(super) fn fate(owners: &[(String, Standing)], has_dependents: bool, finalizers: &[String]) -> Fate {
    if owners.is_empty() {
        return Fate::Keep;
    }
    let solid = owners.iter().any(|(_, standing)| *standing == Standing::Solid);
    if solid {
        let lost: Vec<String> = owners
            .iter()
            .filter(|(_, s)| *s != Standing::Solid)
            .map(|(uid, _)| uid.clone())
            .collect();
        return if lost.is_empty() {
            Fate::Keep
        } else {
            Fate::Unown(lost)
        };
    }
    let waiting = owners.iter().any(|(_, standing)| *standing == Standing::Waiting);
    if waiting && has_dependents {
        return Fate::Delete("Foreground");
    }
    let held_by = |finalizer: &str| finalizers.iter().any(|f| f == finalizer);
    Fate::Delete(if held_by(ORPHAN) {
        "Orphan"
    } else if held_by(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    })
}

#[cfg(test)]
mod tests {
    use super::Standing::{Gone, Solid, Waiting};
    use super::*;

    #[test]
    fn fates() {
        let table: [(&[Standing], bool, &str, Fate); 8] = [
            (&[], false, "", Fate::Keep),
            (&[Solid], false, "", Fate::Keep),
            (&[Solid, Gone], false, "", Fate::Unown(vec!["1".into()])),
            (&[Waiting, Solid], true, "", Fate::Unown(vec!["0".into()])),
            (&[Gone], true, "", Fate::Delete("Background")),
            (&[Gone, Waiting], true, "", Fate::Delete("Foreground")),
            (&[Waiting], false, "", Fate::Delete("Background")),
            (&[Gone], false, ORPHAN, Fate::Delete("Orphan")),
        ];
        for (standings, dependents, finalizer, expected) in table {
            let owners: Vec<_> = standings
                .iter()
                .enumerate()
                .map(|(n, s)| (n.to_string(), *s))
                .collect();
            assert_eq!(
                fate(&owners, dependents, &[finalizer.to_owned()]),
                expected,
                "{standings:?}"
            );
        }
    }
}
