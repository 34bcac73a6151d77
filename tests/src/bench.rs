//! What the benchmarks measure. Every figure is read from the system under test, none is computed from another.

pub mod api;
pub mod chain;
pub mod processes;
pub mod rest;
pub mod start;
pub mod steps;
pub mod store;

use std::time::Duration;

/// The middle of an ordered sample; of an even count the lower one.
pub fn median(mut sample: Vec<Duration>) -> Duration {
    sample.sort();
    sample
        .get(sample.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

/// Seconds with two decimals.
pub fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let of = |millis: &[u64]| {
            median(millis.iter().map(|&one| Duration::from_millis(one)).collect()).as_millis()
        };
        assert_eq!(of(&[3, 1, 2]), 2);
        assert_eq!(of(&[4, 1, 2, 3]), 2);
        assert_eq!(of(&[]), 0);
    }
}
