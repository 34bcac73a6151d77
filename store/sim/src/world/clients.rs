//! Clients of keys: one operation at a time each, at any member.

use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::{Op as CommandOp, Response};
use kube_store::member::Input;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Mutation, World};
use crate::client::{self, GROUPS};
use crate::host::Running;
use crate::linear::{self, Call, Op, Outcome};

/// After this a client no longer waits.
const PATIENCE_MS: u64 = 9_000;

struct Busy {
    op: usize,
    host: usize,
    since: u64,
    wait: Asked,
}

enum Asked {
    Write(oneshot::Receiver<Result<Response, ApiError>>),
    Read(oneshot::Receiver<Result<(), ApiError>>),
}

#[derive(Default)]
pub(super) struct Client {
    busy: Option<Busy>,
    next_at: u64,
}

impl Client {
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }
}

impl World {
    pub(super) fn run_client(&mut self, place: usize) -> Result<(), String> {
        if let Some(busy) = self.clients[place].busy.take() {
            self.clients[place].busy = self.await_answer(busy)?;
            return Ok(());
        }
        if self.calm || self.now < self.clients[place].next_at {
            return Ok(());
        }
        self.clients[place].next_at = self.now + self.chance.between(20, 500);
        let host = self.chance.place(self.hosts.len());
        if self.is_awake(host) {
            let value = self.id();
            let call = client::choose(&mut self.chance, value);
            let group = self.chance.place(GROUPS);
            self.clients[place].busy = self.ask(host, group, call)?;
        }
        Ok(())
    }

    fn ask(&mut self, host: usize, group: usize, call: Call) -> Result<Option<Busy>, String> {
        let called = self.count();
        let op = self.ops.len();
        let command = client::command(group, &call);
        self.ops.push(Op {
            group,
            call,
            called,
            answer: None,
            revision: 0,
        });
        let wait = match command {
            Some(command) => {
                let is_put = matches!(command, CommandOp::Put(_));
                let wait = self.propose(host, command)?;
                if is_put && self.mutation == Some(Mutation::AnswerBeforeCommit) {
                    self.forgotten.push(wait);
                    self.answer_early(host, op);
                    return Ok(None);
                }
                Asked::Write(wait)
            }
            None => Asked::Read(self.ask_read(host)?),
        };
        Ok(Some(Busy {
            op,
            host,
            since: self.now,
            wait,
        }))
    }

    /// As the server does: a sole voter's state may be read at once.
    fn ask_read(&mut self, host: usize) -> Result<oneshot::Receiver<Result<(), ApiError>>, String> {
        let (answer, wait) = oneshot::channel();
        let running = self.hosts[host].running.as_ref();
        let at_once = running.is_some_and(|running| running.shared.reads_are_linearizable());
        if at_once || self.mutation == Some(Mutation::StaleRead) {
            answer.send(Ok(())).expect("the receiver is here");
        } else {
            self.hand_over(host, Some(Input::Read(answer)))?;
        }
        Ok(wait)
    }

    fn answer_early(&mut self, host: usize, op: usize) {
        let Call::Put(place, _) = self.ops[op].call else {
            return;
        };
        let running = self.hosts[host].running.as_ref();
        let seen = running.and_then(|running| read(running, self.ops[op].group, place));
        if let Some((seen, _)) = seen {
            let at = self.count();
            self.ops[op].answer = Some((at, Outcome::Was(seen)));
        }
    }

    /// Looks for the answer; gives the wait back if there is none yet.
    fn await_answer(&mut self, mut busy: Busy) -> Result<Option<Busy>, String> {
        let answered = match &mut busy.wait {
            Asked::Write(wait) => wait.try_recv().map(|answer| answer.ok().map(client::outcome)),
            Asked::Read(wait) => wait.try_recv().map(|answer| {
                let running = self.hosts[busy.host].running.as_ref();
                let running = running.filter(|_| answer.is_ok())?;
                let Call::Get(place) = self.ops[busy.op].call else {
                    return None;
                };
                read(running, self.ops[busy.op].group, place)
                    .map(|(seen, revision)| (Outcome::Was(seen), revision))
            }),
        };
        match answered {
            Ok(Some((outcome, revision))) => {
                let at = self.count();
                self.ops[busy.op].answer = Some((at, outcome));
                self.ops[busy.op].revision = revision;
                self.summary.answered += 1;
                Ok(None)
            }
            // An error or a crash: nobody knows.
            Ok(None) | Err(TryRecvError::Closed) => Ok(None),
            Err(TryRecvError::Empty) if self.now > busy.since + PATIENCE_MS => Ok(None),
            Err(TryRecvError::Empty) => Ok(Some(busy)),
        }
    }

    /// Reads every key at the end: what was acknowledged must be there.
    pub(super) fn read_everything(&mut self, deadline: u64) -> Result<(), String> {
        for group in 0..GROUPS {
            for place in 0..2 {
                let host = self.hosts.iter().position(|host| host.running.is_some());
                let host = host.ok_or("no member runs")?;
                let mut busy = self.ask(host, group, Call::Get(place))?;
                while let Some(waiting) = busy {
                    if self.now >= deadline + PATIENCE_MS {
                        return Err("a read is not answered".to_owned());
                    }
                    self.step()?;
                    busy = self.await_answer(waiting)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key of the member's state, as a range request does once it may.
fn read(running: &Running, group: usize, place: usize) -> Option<(linear::Seen, i64)> {
    let state = running.shared.state.read();
    let plan = state.plan_range(client::range(group, place)).ok()?;
    let response = plan
        .finish(state.engine().as_ref(), &mut |revision| state.relocate(revision))
        .ok()?;
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    Some((client::seen(response.kvs.first()), revision))
}
