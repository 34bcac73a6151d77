//! When authentication tokens end. A token lives for a time after its last use at this member, as etcd's simple
//! tokens do; the other members count for themselves.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The ends of tokens seen here. At most as many as the auth store holds tokens, between two sweeps.
#[derive(Debug)]
pub struct Tokens {
    ttl: Duration,
    ends: Mutex<HashMap<String, Instant>>,
}

impl Tokens {
    /// Tokens that live for `ttl` without use.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            ends: Mutex::default(),
        }
    }

    /// How long a token lives without use.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Notes a use of a token the auth store holds, which prolongs its life; false when it has ended.
    pub fn used(&self, token: &str, now: Instant) -> bool {
        let mut ends = self.ends.lock();
        match ends.get_mut(token) {
            Some(end) if *end <= now => false,
            Some(end) => {
                *end = now + self.ttl;
                true
            }
            None => {
                ends.insert(token.to_owned(), now + self.ttl);
                true
            }
        }
    }

    /// Of the tokens the auth store holds, those that have ended. One seen for the first time begins its life; what
    /// the store holds no longer is forgotten.
    pub fn ended<'a>(&self, held: impl Iterator<Item = &'a str>, now: Instant) -> Vec<String> {
        let mut ends = self.ends.lock();
        let mut old = std::mem::take(&mut *ends);
        let mut ended = Vec::new();
        for token in held {
            let (token, end) = old
                .remove_entry(token)
                .unwrap_or_else(|| (token.to_owned(), now + self.ttl));
            if end <= now {
                ended.push(token.clone());
            }
            ends.insert(token, end);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn use_prolongs_a_life_and_the_end_is_final() {
        let (tokens, start) = (Tokens::new(TTL), Instant::now());
        assert!(tokens.used("a", start));
        assert!(tokens.used("a", start + TTL - Duration::from_secs(1)));
        assert!(tokens.used("a", start + TTL + Duration::from_secs(1)));
        assert!(!tokens.used("a", start + 3 * TTL));
        assert!(!tokens.used("a", start + 3 * TTL));
    }

    #[test]
    fn an_unused_token_ends_after_it_was_first_seen() {
        let (tokens, start) = (Tokens::new(TTL), Instant::now());
        assert!(tokens.ended(["a"].into_iter(), start).is_empty());
        assert_eq!(tokens.ended(["a", "b"].into_iter(), start + TTL), ["a"]);
        assert!(!tokens.used("a", start + TTL));
        assert!(tokens.ended(["b"].into_iter(), start + TTL).is_empty());
        assert_eq!(tokens.ends.lock().len(), 1);
    }
}
