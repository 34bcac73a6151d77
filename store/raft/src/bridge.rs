//! Hands raft-rs' log lines to tracing.

use slog::{Drain, Level, Logger, OwnedKVList, Record};

/// A logger for RawNode: its information is detail for us, its warnings count.
pub fn logger() -> Logger {
    Logger::root(Tracing.fuse(), slog::o!())
}

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}
