//! From single probes to verdicts: thresholds of successes and failures in a row. Pure.

use k8s_openapi::api::core::v1::Probe;

/// Counts one probe's results.
#[derive(Clone, Debug)]
pub struct Counter {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
    verdict: Option<bool>,
}

impl Counter {
    pub fn new(probe: &Probe) -> Self {
        let threshold =
            |value: Option<i32>, default: u32| value.filter(|v| *v > 0).map_or(default, i32::cast_unsigned);
        Counter {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            run: 0,
            verdict: None,
        }
    }

    /// Takes one result; gives the verdict when it changes. An unknown result counts as nothing.
    pub fn count(&mut self, success: bool, unknown: bool) -> Option<bool> {
        if unknown {
            return None;
        }
        self.run = if self.last == Some(success) {
            self.run + 1
        } else {
            1
        };
        self.last = Some(success);
        let needed = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < needed || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_make_verdicts() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        };
        let mut counter = Counter::new(&probe);
        let results = [
            true, true, false, false, true, false, false, false, false, true, true,
        ];
        let verdicts: Vec<_> = results.iter().map(|r| counter.count(*r, false)).collect();
        let mut want = vec![None; results.len()];
        (want[1], want[7], want[10]) = (Some(true), Some(false), Some(true));
        assert_eq!(verdicts, want);
        assert_eq!(counter.count(false, true), None);
    }
}
