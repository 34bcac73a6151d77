//! Runs of the simulation: fixed seeds, fresh ones, one that is replayed, and broken guarantees that must be noticed.
//!
//! `KEELSON_SEED` replays one seed, `KEELSON_SEEDS` says how many fresh ones to try.

use std::time::{SystemTime, UNIX_EPOCH};

use keelson_store_sim::world::{Mutation, Summary, run};

/// Seeds that must hold: those that showed bugs (docs/bugs.md), and some neighbours.
const FIXED_SEEDS: std::ops::Range<u64> = 1..41;
/// More that showed bugs.
const SHOWN_SEEDS: [u64; 4] = [55, 62, 199, 249];
/// Fresh seeds tried unless `KEELSON_SEEDS` says how many.
const FRESH_SEEDS: u64 = 60;
/// Seeds among which a broken guarantee must be noticed.
const MUTATION_SEEDS: u64 = 12;

/// Says how to replay a seed if its run panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: KEELSON_SEED={} cargo nextest run -p keelson-store-sim replay",
                self.0
            );
        }
    }
}

fn hold(seed: u64) -> Summary {
    let _replay = Replay(seed);
    match run(seed, None) {
        Ok(summary) => summary,
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn fixed_seeds_hold() {
    let summaries: Vec<Summary> = FIXED_SEEDS.chain(SHOWN_SEEDS).map(hold).collect();
    // The runs were not idle.
    assert!(
        summaries.iter().all(|summary| summary.answered > 0),
        "{summaries:#?}"
    );
    let sum = |count: fn(&Summary) -> u32| summaries.iter().map(count).sum::<u32>();
    assert!(sum(|summary| summary.crashes) > 100);
    assert!(sum(|summary| summary.installed) > 20);
    assert!(sum(|summary| summary.changes) > 20);
    assert!(sum(|summary| summary.full) > 20);
    assert!(sum(|summary| summary.compactions) > 100);
    assert!(summaries.iter().map(|summary| summary.leases).sum::<usize>() > 100);
    assert!(summaries.iter().map(|summary| summary.delivered).sum::<usize>() > 10_000);
    for members in [1, 3, 5] {
        assert!(summaries.iter().any(|summary| summary.members == members));
    }
}

#[test]
fn fresh_seeds_hold() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = clock.as_micros() as u64;
    for seed in first..first + number("KEELSON_SEEDS").unwrap_or(FRESH_SEEDS) {
        hold(seed);
    }
}

#[test]
fn replay() {
    let seed = number("KEELSON_SEED").unwrap_or(2);
    let summary = hold(seed);
    assert_eq!(hold(seed), summary, "one seed gives one run");
}

/// A broken guarantee is noticed, by the checker it belongs to.
fn noticed(mutation: Mutation, signs: &[&str]) {
    let mut errors = Vec::new();
    for seed in 1..=MUTATION_SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed, Some(mutation)));
        // A member that finds its own state impossible stops by a panic.
        match outcome.unwrap_or_else(|_| Err("a member panicked".to_owned())) {
            Err(error) if signs.iter().any(|sign| error.contains(sign)) => return,
            Err(error) => errors.push(error),
            Ok(_) => {}
        }
    }
    panic!("{mutation:?} was not noticed; other complaints: {errors:#?}");
}

#[test]
fn an_answer_before_the_commit_is_noticed() {
    noticed(Mutation::AnswerBeforeCommit, &["not linearizable"]);
}

#[test]
fn a_lost_fsync_is_noticed() {
    let signs = [
        "not linearizable",
        "does not start",
        "failed",
        "revision",
        "members differ",
        "panicked",
    ];
    noticed(Mutation::LostFsync, &signs);
}

#[test]
fn a_read_without_asking_the_leader_is_noticed() {
    noticed(
        Mutation::StaleRead,
        &["not linearizable", "had been answered before"],
    );
}

#[test]
fn a_dropped_event_is_noticed() {
    noticed(
        Mutation::DroppedEvent,
        &["was owed", "never delivered", "came before"],
    );
}

#[test]
fn a_duplicated_event_is_noticed() {
    noticed(Mutation::DuplicatedEvent, &["was known"]);
}

#[test]
fn reordered_events_are_noticed() {
    noticed(Mutation::ReorderedEvents, &["was owed", "came before"]);
}

#[test]
fn a_split_transaction_is_noticed() {
    noticed(Mutation::SplitTransaction, &["delivered as"]);
}

#[test]
fn a_bookmark_too_high_is_noticed() {
    noticed(
        Mutation::HighBookmark,
        &["was known", "came before", "never delivered"],
    );
}

#[test]
fn a_watch_that_resumes_too_late_is_noticed() {
    noticed(
        Mutation::LateResume,
        &["was owed", "never delivered", "came before"],
    );
}

#[test]
fn a_missing_previous_pair_is_noticed() {
    noticed(Mutation::MissingPrevious, &["delivered as"]);
}

#[test]
fn a_member_with_other_content_is_noticed() {
    noticed(Mutation::ChangedEntry, &["members differ"]);
}

#[test]
fn a_lease_that_ends_early_is_noticed() {
    noticed(Mutation::EarlyExpiry, &["ended before its time"]);
}
