//! The member's thread: takes inputs as they come, moves the clock, and lets the member work.
//!
//! Everything that arrives while a batch is being made durable forms the next batch; that is the group commit.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::member::{Fatal, Input, Member};

/// Inputs taken before the member works on them.
const BATCH_INPUTS_MAX: usize = 4_096;

/// Runs until `Input::Stop` or a fatal error.
pub fn run(mut member: Member, inputs: &Receiver<Input>, tick: Duration) -> Result<(), Fatal> {
    let started = Instant::now();
    let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut next_tick = started + tick;
    member.process()?;
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        let mut stop = false;
        match inputs.recv_timeout(wait) {
            Ok(first) => {
                member.set_now(now_ms());
                stop = matches!(first, Input::Stop(_));
                member.take(first);
                for input in inputs.try_iter().take(BATCH_INPUTS_MAX) {
                    stop |= matches!(input, Input::Stop(_));
                    member.take(input);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if stop {
            return Ok(());
        }
        if Instant::now() >= next_tick {
            // After a pause the missed ticks are not caught up: the member has heard nobody meanwhile, and would blame
            // the others for it.
            member.tick(now_ms(), 1);
            next_tick = Instant::now() + tick;
        }
        member.process()?;
    }
}
