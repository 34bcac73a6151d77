//! Linearizability, checked by Wing and Gong's search with Lowe's memory of visited states.
//!
//! Operations touch one group of two keys each, so groups are checked apart. Across groups, revisions are checked against
//! real time: whoever starts after another has ended sees no older revision, and each write has its own.

use std::collections::HashSet;

/// A key's value and version; `None`: it does not exist.
pub type Seen = Option<(u64, i64)>;
/// Both keys of a group.
pub type State = [Seen; 2];

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Get(usize),
    Put(usize, u64),
    Delete(usize),
    /// If the first key has this version, both get the value; otherwise both are read.
    Swap(i64, u64),
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The key before (or at) the operation.
    Was(Seen),
    Swapped,
    Kept(State),
}

/// One operation of a client. Times count steps, not milliseconds, and no two are equal.
#[derive(Debug, Clone)]
pub struct Op {
    pub group: usize,
    pub call: Call,
    pub called: u64,
    /// When it was answered and how; `None`: nobody knows whether it happened.
    pub answer: Option<(u64, Outcome)>,
    /// The answer's revision; 0 when unknown.
    pub revision: i64,
}

impl Op {
    fn writes(&self) -> bool {
        match (&self.call, &self.answer) {
            (Call::Get(_), _) | (_, Some((_, Outcome::Kept(_)))) => false,
            (Call::Delete(_), Some((_, Outcome::Was(was)))) => was.is_some(),
            _ => true,
        }
    }
}

/// The state after an operation, or `None` if its answer does not fit.
fn apply(state: State, op: &Op) -> Option<State> {
    let mut next = state;
    let outcome = match op.call {
        Call::Get(key) => Outcome::Was(state[key]),
        Call::Put(key, value) => {
            next[key] = Some((value, state[key].map_or(1, |(_, version)| version + 1)));
            Outcome::Was(state[key])
        }
        Call::Delete(key) => {
            next[key] = None;
            Outcome::Was(state[key])
        }
        Call::Swap(version, value) => {
            if state[0].map_or(0, |(_, version)| version) == version {
                next = state.map(|seen| Some((value, seen.map_or(1, |(_, version)| version + 1))));
                Outcome::Swapped
            } else {
                Outcome::Kept(state)
            }
        }
    };
    match &op.answer {
        Some((_, answer)) if *answer != outcome => None,
        _ => Some(next),
    }
}

/// Checks a whole history; the error names the group or the operations.
pub fn check(ops: &[Op]) -> Result<(), String> {
    check_revisions(ops)?;
    let groups: std::collections::BTreeSet<usize> = ops.iter().map(|op| op.group).collect();
    for group in groups {
        let mut own: Vec<&Op> = ops.iter().filter(|op| op.group == group).collect();
        own.sort_by_key(|op| op.called);
        if !linearizable(&own) {
            let lines: Vec<String> = own.iter().map(|op| format!("{op:?}")).collect();
            return Err(format!(
                "group {group} is not linearizable:\n{}",
                lines.join("\n")
            ));
        }
    }
    Ok(())
}

fn check_revisions(ops: &[Op]) -> Result<(), String> {
    let mut known: Vec<&Op> = ops.iter().filter(|op| op.revision > 0).collect();
    known.sort_by_key(|op| op.called);
    let mut ended: Vec<(u64, i64)> = known
        .iter()
        .filter_map(|op| Some((op.answer.as_ref()?.0, op.revision)))
        .collect();
    ended.sort_unstable();
    let mut ended = ended.into_iter().peekable();
    let mut newest = 0;
    let mut written = HashSet::new();
    for op in known {
        while let Some((_, revision)) = ended.next_if(|(at, _)| *at < op.called) {
            newest = newest.max(revision);
        }
        if op.revision < newest || (op.writes() && op.revision == newest) {
            return Err(format!("revision {newest} had been answered before {op:?} began"));
        }
        if op.writes() && !written.insert(op.revision) {
            return Err(format!("two writes have the revision of {op:?}"));
        }
    }
    Ok(())
}

/// Whether operations, sorted by their calls, have an order that explains all answers.
fn linearizable(ops: &[&Op]) -> bool {
    let mut visited: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut open = vec![(vec![0u64; ops.len().div_ceil(64)], State::default())];
    while let Some((done, state)) = open.pop() {
        let is_done = |place: usize| done[place / 64] >> (place % 64) & 1 == 1;
        let mut horizon = u64::MAX;
        for (place, op) in ops.iter().enumerate() {
            if let Some((returned, _)) = op.answer.as_ref().filter(|_| !is_done(place)) {
                horizon = horizon.min(*returned);
            }
        }
        if horizon == u64::MAX {
            return true;
        }
        for (place, op) in ops.iter().enumerate() {
            if op.called > horizon {
                break;
            }
            if is_done(place) {
                continue;
            }
            if let Some(next) = apply(state, op) {
                let mut after = done.clone();
                after[place / 64] |= 1 << (place % 64);
                if visited.insert((after.clone(), next)) {
                    open.push((after, next));
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(call: Call, called: u64, answer: Option<(u64, Outcome)>) -> Op {
        Op {
            group: 0,
            call,
            called,
            answer,
            revision: 0,
        }
    }

    #[test]
    fn a_read_sees_the_last_write_and_an_unknown_one_may_have_happened_at_any_time() {
        let put = |at| op(Call::Put(0, 5), at, Some((at + 1, Outcome::Was(None))));
        let get = |at, seen| op(Call::Get(0), at, Some((at + 1, Outcome::Was(seen))));
        assert!(check(&[put(1), get(3, Some((5, 1)))]).is_ok());
        assert!(check(&[put(1), get(3, None)]).is_err(), "stale");
        assert!(check(&[get(1, Some((5, 1))), put(3)]).is_err(), "from the future");
        let unknown = op(Call::Delete(0), 3, None);
        assert!(check(&[put(1), unknown.clone(), get(5, Some((5, 1))), get(7, None)]).is_ok());
        assert!(check(&[put(1), unknown, get(5, None), get(7, Some((5, 1)))]).is_err());
        let swap = op(Call::Swap(1, 9), 3, Some((4, Outcome::Swapped)));
        assert!(check(&[put(1), swap.clone(), get(5, Some((9, 2)))]).is_ok());
        assert!(check(&[swap]).is_err());
    }

    #[test]
    fn revisions_follow_real_time() {
        let mut first = op(Call::Put(0, 5), 1, Some((2, Outcome::Was(None))));
        let mut second = op(Call::Get(1), 3, Some((4, Outcome::Was(None))));
        (first.revision, second.revision) = (5, 5);
        assert!(check(&[first.clone(), second.clone()]).is_ok());
        second.revision = 4;
        assert!(check(&[first, second]).is_err());
    }
}
