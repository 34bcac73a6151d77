//! What a controller decided: writes, a status, when to look again, and why.

use std::time::Duration;

use crate::action::{Action, Note};

/// The outcome of one reconcile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, in order; the first failure ends them. Neighbouring creations of one kind grow in batches of 1, 2,
    /// 4, ...; neighbouring deletions run side by side.
    pub actions: Vec<Action>,
    /// Written after the actions, also when they failed.
    pub status: Option<Action>,
    /// When to look again though nothing changed.
    pub retry_after: Option<Duration>,
    /// Why.
    pub report: Report,
}

/// Why the plan is what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Events to tell whatever becomes of the actions.
    pub notes: Vec<Note>,
    /// What the plan waits for, for the log.
    pub waiting: Option<String>,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Nothing to do, because of something.
    pub fn waiting(why: impl Into<String>) -> Self {
        Self {
            report: Report {
                notes: Vec::new(),
                waiting: Some(why.into()),
            },
            ..Self::default()
        }
    }

    /// These writes alone.
    pub fn of(actions: Vec<Action>) -> Self {
        Self {
            actions,
            ..Self::default()
        }
    }

    /// Looks again no later than after `pause`.
    pub fn again_after(&mut self, pause: Duration) {
        self.retry_after = Some(self.retry_after.map_or(pause, |earlier| earlier.min(pause)));
    }

    /// Adds an event.
    pub fn note(&mut self, note: Note) {
        self.report.notes.push(note);
    }
}
