//! The simulated world: machines, network, clients, watchers, an operator, faults, and the judgement at the end.
//!
//! Time goes in steps of ten milliseconds. Faults come for a while; then everything is healed, and members must agree,
//! watchers must have seen everything, and the history must be linearizable. One seed gives one run. With the
//! environment variable `KEELSON_TRACE` a run says what happens in it.

mod clients;
mod faults;
mod judgement;
mod leases;
mod network;
mod operator;

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::{Command, Op as CommandOp, Response};
use keelson_store_mvcc::watch::Interest;
use kube_store::member::Input;
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::host::Host;
use crate::linear::Op;
use crate::watching::{Truth, Watcher};
use clients::Client;
use judgement::Ledger;
use leases::{Attachments, Lease};
use network::Network;
use operator::Operator;

const STEP_MS: u64 = 10;
/// How long there are faults.
const TROUBLE_MS: u64 = 25_000;
/// How long members may take to agree after that: longer than any lease and any request.
const PEACE_MS: u64 = 60_000;
const CLIENTS: usize = 5;

/// A guarantee that is broken on purpose, to see a checker notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Puts are answered when they are proposed.
    AnswerBeforeCommit,
    /// Disks acknowledge syncs and do nothing.
    LostFsync,
    /// Reads do not ask the leader.
    StaleRead,
    DroppedEvent,
    DuplicatedEvent,
    ReorderedEvents,
    SplitTransaction,
    HighBookmark,
    /// A watcher that comes back is given what follows the next revision, not the next revision.
    LateResume,
    /// The pair before a change is left out.
    MissingPrevious,
    /// Leases are granted for less than was asked.
    EarlyExpiry,
    /// A member gets another value in the log than the others.
    ChangedEntry,
}

/// What a run did: a test can see that it was not idle.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Members at the beginning.
    pub members: usize,
    pub answered: usize,
    pub revision: i64,
    pub crashes: u32,
    pub delivered: usize,
    pub leases: usize,
    /// Members that refused to start on damaged disks.
    pub refused: usize,
    /// Snapshots members took from their leaders.
    pub installed: u32,
    /// Changes of membership that were answered.
    pub changes: u32,
    /// Times a disk was full.
    pub full: u32,
    pub compactions: u32,
    pub hash: u32,
}

/// The answer to a proposal that is waited for.
type Wait = oneshot::Receiver<Result<Response, ApiError>>;

struct World {
    chance: Chance,
    mutation: Option<Mutation>,
    now: u64,
    steps: u64,
    hosts: Vec<Host>,
    network: Network,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    leases: Vec<Lease>,
    attachments: Attachments,
    operator: Operator,
    ops: Vec<Op>,
    truth: Truth,
    ledger: Ledger,
    next_id: u64,
    calm: bool,
    /// Answers nobody waits for; kept, so that members do not give up.
    forgotten: Vec<Wait>,
    summary: Summary,
    trace: bool,
}

/// Runs one seed; the error says which guarantee did not hold.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Summary, String> {
    let mut world = World::new(seed, mutation)?;
    while world.now < TROUBLE_MS {
        world.trouble();
        world.step()?;
    }
    world.heal();
    let deadline = world.now + PEACE_MS;
    while !world.is_settled() {
        if world.now >= deadline {
            return Err(format!("members did not settle: {}", world.describe()));
        }
        world.step()?;
    }
    world.read_everything(deadline)?;
    world.judge()
}

fn watchers() -> Vec<Watcher> {
    let interest = |key: &str, end: &str, no_put, no_delete, prev_kv| Interest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(end.as_bytes()),
        no_put,
        no_delete,
        prev_kv,
    };
    let everything = || interest("a", "\0", false, false, false);
    let interests = [
        (interest("k/", "k0", false, false, false), 1),
        (interest("k/", "k0", false, false, true), 0),
        (interest("k/0/0", "", false, false, false), 1),
        (interest("k/1/", "k/3/", false, true, true), 0),
        (interest("k/", "k0", true, false, true), 1),
        (everything(), 0),
        // From a revision that is yet to come.
        (everything(), 40),
    ];
    interests
        .into_iter()
        .map(|(interest, from)| Watcher::new(interest, from))
        .collect()
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>) -> Result<Self, String> {
        let mut chance = Chance::new(seed);
        let count = match mutation {
            // What one member alone would not show.
            Some(Mutation::StaleRead | Mutation::AnswerBeforeCommit | Mutation::ChangedEntry) => 3,
            _ => [1, 3, 3, 5][chance.place(4)],
        };
        let members: Vec<pb::Member> = (1..=count).map(operator::member).collect();
        let lost = mutation == Some(Mutation::LostFsync);
        let hosts: Result<Vec<Host>, String> = members
            .iter()
            .map(|member| Host::new(member.id, &members, &[], &mut chance, lost))
            .collect();
        Ok(Self {
            mutation,
            now: 0,
            steps: 0,
            hosts: hosts?,
            network: Network::new(&mut chance),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            watchers: watchers(),
            leases: Vec::new(),
            attachments: Attachments::default(),
            operator: Operator::default(),
            ops: Vec::new(),
            truth: Truth::new(),
            ledger: Ledger::default(),
            next_id: 1,
            calm: false,
            forgotten: Vec::new(),
            summary: Summary {
                members: usize::try_from(count).unwrap_or(0),
                ..Summary::default()
            },
            chance,
            trace: std::env::var_os("KEELSON_TRACE").is_some(),
        })
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn count(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>6} ms: {}", self.now, what());
        }
    }

    /// Ten milliseconds.
    fn step(&mut self) -> Result<(), String> {
        self.now += STEP_MS;
        self.pass_faults();
        self.deliver()?;
        for host in 0..self.hosts.len() {
            self.run_host(host)?;
        }
        for client in 0..self.clients.len() {
            self.run_client(client)?;
        }
        self.run_leases()?;
        self.run_operator()?;
        self.run_watchers();
        if self.chance.per_mille(3) && !self.calm {
            self.compact()?;
        }
        Ok(())
    }

    fn is_awake(&self, host: usize) -> bool {
        self.hosts[host].running.is_some() && self.hosts[host].asleep_until <= self.now
    }

    fn run_host(&mut self, place: usize) -> Result<(), String> {
        let starts = self.hosts[place].start_at.is_some_and(|at| at <= self.now);
        if starts && !self.hosts[place].refused {
            self.start(place)?;
        }
        if !self.is_awake(place) {
            return Ok(());
        }
        let host = &mut self.hosts[place];
        host.tick(self.now);
        let eager = self.chance.per_mille(10);
        let snapshot = self.chance.per_mille(2);
        host.background(eager, snapshot);
        self.hand_over(place, None)
    }

    fn start(&mut self, place: usize) -> Result<(), String> {
        let seed = self.chance.bits();
        let host = &mut self.hosts[place];
        match host.start(self.now, seed) {
            Ok(()) => self.note(|| format!("member {} starts", place + 1)),
            // A machine that stops while it starts, or has no room to, is started again.
            Err(_) if host.disk.is_dead() || host.disk.is_full() => {
                self.hosts[place].running = None;
                self.stop(place);
            }
            Err(error) if host.flipped => {
                host.refused = true;
                self.summary.refused += 1;
                self.note(|| format!("member {} refuses to start: {error}", place + 1));
            }
            Err(error) => return Err(format!("member {} does not start: {error}", host.id)),
        }
        Ok(())
    }

    /// Gives a member an input and sends what it says.
    fn hand_over(&mut self, place: usize, input: Option<Input>) -> Result<(), String> {
        let outcome = self.hosts[place].take(self.now, input);
        if self.hosts[place].disk.is_dead() {
            // What left before the stop was sent.
            if let Ok(messages) = outcome {
                self.send(messages);
            }
            self.crash(place);
            return Ok(());
        }
        match outcome {
            Ok(messages) => self.send(messages),
            Err(error) if self.hosts[place].flipped => {
                self.note(|| format!("member {} fails: {error}", place + 1));
                self.crash(place);
            }
            Err(error) => return Err(format!("member {} failed: {error}", self.hosts[place].id)),
        }
        self.observe(place)
    }

    fn propose(&mut self, host: usize, op: CommandOp) -> Result<Wait, String> {
        let command = Command {
            id: self.id(),
            op: Some(op),
            ..Default::default()
        };
        self.note(|| format!("member {} is asked: {command:?}", host + 1));
        let (answer, wait) = oneshot::channel();
        self.hand_over(host, Some(Input::Propose(command, answer)))?;
        Ok(wait)
    }

    fn compact(&mut self) -> Result<(), String> {
        let host = self.chance.place(self.hosts.len());
        if !self.is_awake(host) || self.truth.revision < 10 {
            return Ok(());
        }
        let revision = self.truth.revision - i64::try_from(self.chance.below(8)).unwrap_or(0);
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.summary.compactions += 1;
        let wait = self.propose(host, CommandOp::Compact(request))?;
        self.forgotten.push(wait);
        Ok(())
    }

    fn run_watchers(&mut self) {
        for place in 0..self.watchers.len() {
            let leaves = !self.calm && self.chance.per_mille(3);
            let watcher = &mut self.watchers[place];
            if let Some((host, incarnation)) = watcher.host() {
                let host = &self.hosts[host];
                if leaves || host.running.is_none() || host.incarnation != incarnation {
                    watcher.detach();
                }
            }
            if watcher.host().is_none() {
                let host = self.chance.place(self.hosts.len());
                if let Some(running) = &self.hosts[host].running {
                    let incarnation = self.hosts[host].incarnation;
                    watcher.attach(host, incarnation, &running.shared, self.mutation);
                }
            }
            if self.chance.per_mille(200) {
                let progress = self.calm || self.chance.per_mille(100);
                self.watchers[place].poll(progress, self.mutation, &mut self.chance);
            }
        }
    }
}
