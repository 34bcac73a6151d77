//! The simulated world: machines, network, clients, watchers, faults, and the judgement at the end.
//!
//! Time goes in steps of ten milliseconds. Faults come for a while; then everything is healed, and members must agree,
//! watchers must have seen everything, and the history must be linearizable. One seed gives one run.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::{Command, Op as CommandOp, Response};
use keelson_store_mvcc::watch::Interest;
use keelson_store_raft::{Message, MessageType};
use kube_store::member::Input;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::chance::Chance;
use crate::client::{self, GROUPS};
use crate::host::{Host, TICK_MS};
use crate::linear::{self, Call, Op, Outcome};
use crate::watching::{Truth, Watcher};

const STEP_MS: u64 = 10;
/// How long there are faults.
const TROUBLE_MS: u64 = 25_000;
/// How long members may take to agree after that: longer than any lease and any request.
const PEACE_MS: u64 = 60_000;
/// After this a client no longer waits.
const PATIENCE_MS: u64 = 9_000;
const CLIENTS: usize = 5;
const WATCHERS: usize = 6;
const LEASE_TTL_S: i64 = 4;
/// A renewal may be answered by a leader that no longer leads, for about an election timeout.
const RENEWAL_SLACK_MS: u64 = 2_500;

/// A guarantee that is broken on purpose, to see a checker notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    AnswerBeforeCommit,
    LostFsync,
    StaleRead,
    DroppedEvent,
    DuplicatedEvent,
    ReorderedEvents,
    SplitTransaction,
    HighBookmark,
    EarlyExpiry,
}

/// What a run did: a test can see that it was not idle.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    pub members: usize,
    pub answered: usize,
    pub revision: i64,
    pub crashes: u32,
    pub delivered: usize,
    pub leases: usize,
    pub refused: usize,
    pub snapshots: u32,
    pub hash: u32,
}

struct Busy {
    op: usize,
    host: usize,
    since: u64,
    wait: Wait,
}

enum Wait {
    Write(oneshot::Receiver<Result<Response, ApiError>>),
    Read(oneshot::Receiver<Result<(), ApiError>>),
}

#[derive(Default)]
struct Client {
    busy: Option<Busy>,
    next_at: u64,
}

/// A keep-alive on its way: when it was sent (ms), and its answer.
type Renewal = (u64, oneshot::Receiver<Result<Option<i64>, ApiError>>);

struct Lease {
    id: i64,
    /// When it was last certainly alive: its TTL counts from here at least.
    alive_at: u64,
    granted: bool,
    revoked: bool,
    wait: oneshot::Receiver<Result<Response, ApiError>>,
    renewal: Option<Renewal>,
}

struct Network {
    flights: BTreeMap<(u64, u64), Message>,
    sequence: u64,
    drop: u64,
    duplicate: u64,
    delay_ms: u64,
    /// Members on the other side.
    split: BTreeSet<u64>,
    healed_at: u64,
}

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
    ops: Vec<Op>,
    truth: Truth,
    next_id: u64,
    calm: bool,
    /// What a `Mutation::AnswerBeforeCommit` keeps open, so that members do not give up.
    forgotten: Vec<oneshot::Receiver<Result<Response, ApiError>>>,
    summary: Summary,
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

impl World {
    fn new(seed: u64, mutation: Option<Mutation>) -> Result<Self, String> {
        let mut chance = Chance::new(seed);
        let count = match mutation {
            // What one member alone would not show.
            Some(Mutation::StaleRead | Mutation::AnswerBeforeCommit) => 3,
            _ => [1, 3, 3, 5][chance.place(4)],
        };
        let members: Vec<pb::Member> = (1..=count)
            .map(|id| pb::Member {
                id,
                name: format!("m{id}"),
                peer_ur_ls: vec![format!("http://m{id}:2380")],
                ..Default::default()
            })
            .collect();
        let lost = mutation == Some(Mutation::LostFsync);
        let hosts: Result<Vec<Host>, String> = members
            .iter()
            .map(|member| Host::new(member.id, &members, &mut chance, lost))
            .collect();
        let interest = |key: &str, end: &str, no_put, no_delete| Interest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(end.as_bytes()),
            no_put,
            no_delete,
            prev_kv: false,
        };
        let mut watchers = Vec::new();
        for number in 0..WATCHERS {
            let interest = match number {
                0 | 1 => interest("k/", "k0", false, false),
                2 => interest("k/0/0", "", false, false),
                3 => interest("k/1/", "k/3/", false, true),
                4 => interest("k/", "k0", true, false),
                _ => interest("a", "\0", false, false),
            };
            watchers.push(Watcher::new(interest, i64::from(number % 2 == 0)));
        }
        Ok(Self {
            mutation,
            now: 0,
            steps: 0,
            hosts: hosts?,
            network: Network {
                flights: BTreeMap::new(),
                sequence: 0,
                drop: chance.below(80),
                duplicate: chance.below(80),
                delay_ms: chance.between(10, 120),
                split: BTreeSet::new(),
                healed_at: 0,
            },
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            watchers,
            leases: Vec::new(),
            ops: Vec::new(),
            truth: Truth::new(),
            next_id: 1,
            calm: false,
            forgotten: Vec::new(),
            summary: Summary {
                members: usize::try_from(count).unwrap_or(0),
                ..Summary::default()
            },
            chance,
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

    /// Perhaps lets something go wrong.
    fn trouble(&mut self) {
        if self.now < 2_000 || !self.chance.per_mille(8) {
            return;
        }
        let host = self.chance.place(self.hosts.len());
        let until = self.now + self.chance.between(200, 4_000);
        match self.chance.below(10) {
            0 | 1 => self.crash(host),
            2 | 3 if self.hosts[host].running.is_some() => {
                let steps = self.chance.below(12);
                self.hosts[host].disk.arm(steps);
            }
            4 | 5 => {
                self.network.split = (1..=self.hosts.len() as u64)
                    .filter(|_| self.chance.per_mille(400))
                    .collect();
                self.network.healed_at = until;
            }
            6 | 7 => self.hosts[host].asleep_until = until,
            8 if self.chance.per_mille(20) => self.hosts[host].disk.fill(1),
            8 => self.hosts[host].engines.remember(),
            _ if self.mutation == Some(Mutation::LostFsync) => {
                for host in 0..self.hosts.len() {
                    self.crash(host);
                }
            }
            _ => {
                self.network.drop = self.chance.below(200);
                self.network.delay_ms = self.chance.between(5, 300);
            }
        }
    }

    fn crash(&mut self, host: usize) {
        if self.hosts[host].running.is_none() {
            return;
        }
        self.summary.crashes += 1;
        let start_at = self.now + self.chance.between(50, 4_000);
        self.hosts[host].crash(&mut self.chance, start_at);
        let flipped = self.hosts.iter().filter(|host| host.flipped).count();
        // Damage to more than a minority is beyond what any store can repair.
        if (flipped + 1) * 2 < self.hosts.len() && self.chance.per_mille(60) {
            let suffix = if self.chance.per_mille(700) { ".wal" } else { ".db" };
            self.hosts[host].flipped |= self.hosts[host].disk.flip(suffix);
        }
    }

    fn heal(&mut self) {
        self.calm = true;
        self.network.split.clear();
        (self.network.drop, self.network.duplicate, self.network.delay_ms) = (0, 0, 20);
        for host in 0..self.hosts.len() {
            self.hosts[host].asleep_until = 0;
            if self.hosts[host].disk.is_dead() {
                self.crash(host);
            }
            self.hosts[host].disk.be_honest();
        }
    }

    /// Ten milliseconds.
    fn step(&mut self) -> Result<(), String> {
        self.now += STEP_MS;
        if self.now >= self.network.healed_at {
            self.network.split.clear();
        }
        self.deliver()?;
        for host in 0..self.hosts.len() {
            self.run_host(host)?;
        }
        for client in 0..self.clients.len() {
            self.run_client(client)?;
        }
        self.run_leases()?;
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
        let host = &mut self.hosts[place];
        if host.start_at.is_some_and(|at| at <= self.now) && !host.refused {
            let seed = self.chance.bits();
            if let Err(error) = host.start(self.now, seed) {
                if !host.flipped {
                    return Err(format!("member {} does not start: {error}", host.id));
                }
                host.refused = true;
                self.summary.refused += 1;
            }
        }
        if !self.is_awake(place) {
            return Ok(());
        }
        let host = &mut self.hosts[place];
        if (self.now + host.id * 30).is_multiple_of(TICK_MS) {
            host.tick(self.now);
        }
        let eager = self.chance.per_mille(10);
        let snapshot = self.chance.per_mille(2);
        host.background(eager, snapshot);
        self.summary.snapshots += u32::from(snapshot);
        self.hand_over(place, None)
    }

    /// Gives a member an input and sends what it says.
    fn hand_over(&mut self, place: usize, input: Option<Input>) -> Result<(), String> {
        let outcome = self.hosts[place].take(input);
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
            Err(_) if self.hosts[place].flipped => self.crash(place),
            Err(error) => return Err(format!("member {} failed: {error}", self.hosts[place].id)),
        }
        let Some(running) = &self.hosts[place].running else {
            return Ok(());
        };
        let new = self.truth.extend(&running.shared.state.read())?;
        for event in new.iter().filter(|event| event.r#type == 1) {
            let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
            for lease in &self.leases {
                let early = self.now < lease.alive_at + LEASE_TTL_S.unsigned_abs() * 1000;
                if key == lease_key(lease.id) && early && !lease.revoked && lease.granted {
                    return Err(format!("lease {} ended before its time", lease.id));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let network = &mut self.network;
            // A stream loses its end but repeats nothing; Raft itself bears repetition, a forwarded proposal does not.
            let repeatable = message.get_msg_type() != MessageType::MsgPropose;
            let copies = if self.chance.per_mille(network.drop) {
                0
            } else {
                1 + u64::from(repeatable && self.chance.per_mille(network.duplicate))
            };
            for _ in 0..copies {
                let at = self.now + self.chance.below(network.delay_ms);
                network.sequence += 1;
                network.flights.insert((at, network.sequence), message.clone());
            }
            if copies == 0 && message.get_msg_type() == MessageType::MsgSnapshot {
                // The transport learns that it did not arrive.
                self.snapshot_sent(&message, false);
            }
        }
    }

    fn snapshot_sent(&mut self, message: &Message, delivered: bool) {
        let from = self.hosts.iter_mut().find(|host| host.id == message.from);
        if let Some(running) = from.and_then(|host| host.running.as_mut()) {
            running.member.take(Input::SnapshotSent(message.to, delivered));
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        let later = self.network.flights.split_off(&(self.now + 1, 0));
        for ((at, sequence), message) in std::mem::replace(&mut self.network.flights, later) {
            let place = self.hosts.iter().position(|host| host.id == message.to);
            let place = place.expect("messages go to members");
            if self.hosts[place].running.is_some() && !self.is_awake(place) {
                // A paused machine's kernel keeps what arrives.
                self.network
                    .flights
                    .insert((at.max(self.now) + STEP_MS, sequence), message);
                continue;
            }
            let split = &self.network.split;
            let reachable = split.contains(&message.from) == split.contains(&message.to);
            let mut arrives = reachable && self.is_awake(place);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let from = self.hosts.iter().find(|host| host.id == message.from);
                let file = from.and_then(|host| host.snapshot_file(&message));
                arrives &= file.is_some_and(|file| self.hosts[place].store_snapshot(&message, &file));
                self.snapshot_sent(&message, arrives);
            }
            if arrives {
                self.hand_over(place, Some(Input::Message(Box::new(message))))?;
            }
        }
        Ok(())
    }

    fn propose(
        &mut self,
        host: usize,
        op: CommandOp,
    ) -> Result<oneshot::Receiver<Result<Response, ApiError>>, String> {
        let command = Command {
            id: self.id(),
            op: Some(op),
            ..Default::default()
        };
        let (answer, wait) = oneshot::channel();
        self.hand_over(host, Some(Input::Propose(command, answer)))?;
        Ok(wait)
    }

    fn run_client(&mut self, place: usize) -> Result<(), String> {
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
                    let prev = self.hosts[host].running.as_ref().and_then(|running| {
                        let Call::Put(place, _) = self.ops[op].call else {
                            return None;
                        };
                        read(running, group, place).map(|(seen, _)| seen)
                    });
                    let at = self.count();
                    self.ops[op].answer = Some((at, Outcome::Was(prev.flatten())));
                    self.forgotten.push(wait);
                    return Ok(None);
                }
                Wait::Write(wait)
            }
            None => {
                let (answer, wait) = oneshot::channel();
                if self.mutation == Some(Mutation::StaleRead) {
                    let _ = answer.send(Ok(()));
                } else {
                    self.hand_over(host, Some(Input::Read(answer)))?;
                }
                Wait::Read(wait)
            }
        };
        Ok(Some(Busy {
            op,
            host,
            since: self.now,
            wait,
        }))
    }

    /// Looks for the answer; gives the wait back if there is none yet.
    fn await_answer(&mut self, mut busy: Busy) -> Result<Option<Busy>, String> {
        let answered = match &mut busy.wait {
            Wait::Write(wait) => wait.try_recv().map(|answer| answer.ok().map(client::outcome)),
            Wait::Read(wait) => wait.try_recv().map(|answer| {
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

    fn run_leases(&mut self) -> Result<(), String> {
        let host = self.chance.place(self.hosts.len());
        if !self.calm && self.chance.per_mille(6) && self.is_awake(host) {
            let id = self.id().cast_signed();
            let ttl = LEASE_TTL_S - i64::from(self.mutation == Some(Mutation::EarlyExpiry)) * 2;
            let grant = CommandOp::LeaseGrant(pb::LeaseGrantRequest { ttl, id });
            let wait = self.propose(host, grant)?;
            self.leases.push(Lease {
                id,
                alive_at: self.now,
                granted: false,
                revoked: false,
                wait,
                renewal: None,
            });
        }
        for place in 0..self.leases.len() {
            if !self.leases[place].granted && matches!(self.leases[place].wait.try_recv(), Ok(Ok(_))) {
                self.leases[place].granted = true;
                self.summary.leases += 1;
                self.attach(host, place)?;
            }
            if let Some((asked, mut renewal)) = self.leases[place].renewal.take() {
                match renewal.try_recv() {
                    Ok(Ok(Some(_))) => {
                        let alive = asked.saturating_sub(RENEWAL_SLACK_MS);
                        let lease = &mut self.leases[place];
                        lease.alive_at = lease.alive_at.max(alive);
                    }
                    Err(TryRecvError::Empty) => self.leases[place].renewal = Some((asked, renewal)),
                    _ => {}
                }
            }
        }
        if self.calm || self.leases.is_empty() || !self.chance.per_mille(40) || !self.is_awake(host) {
            return Ok(());
        }
        let place = self.chance.place(self.leases.len());
        let id = self.leases[place].id;
        if self.chance.per_mille(100) {
            self.leases[place].revoked = true;
            self.propose(host, CommandOp::LeaseRevoke(pb::LeaseRevokeRequest { id }))?;
        } else {
            let (answer, renewal) = oneshot::channel();
            self.leases[place].renewal = Some((self.now, renewal));
            self.hand_over(host, Some(Input::LeaseRenew(id, answer)))?;
        }
        Ok(())
    }

    /// Writes a key that ends with its lease.
    fn attach(&mut self, host: usize, lease: usize) -> Result<(), String> {
        if !self.is_awake(host) {
            return Ok(());
        }
        let id = self.leases[lease].id;
        let put = pb::PutRequest {
            key: lease_key(id).into(),
            value: "1".into(),
            lease: id,
            ..Default::default()
        };
        let wait = self.propose(host, CommandOp::Put(put))?;
        self.forgotten.push(wait);
        Ok(())
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
                    watcher.attach(host, self.hosts[host].incarnation, &running.shared);
                }
            }
            if self.chance.per_mille(200) {
                let progress = self.calm || self.chance.per_mille(100);
                self.watchers[place].poll(progress, self.mutation, &mut self.chance);
            }
        }
    }

    /// Whether all members that can run are equal, leases have ended, and watchers have seen everything.
    fn is_settled(&self) -> bool {
        let mut applied = BTreeSet::new();
        for host in self.hosts.iter().filter(|host| !host.refused) {
            let Some(running) = &host.running else {
                return false;
            };
            let state = running.shared.state.read();
            applied.insert((state.applied().0, state.revision()));
            let ended = state.leases().iter().count() == 0;
            if !ended || state.is_compacting() || running.shared.status().leader == 0 {
                return false;
            }
        }
        applied.len() <= 1
            && self.clients.iter().all(|client| client.busy.is_none())
            && self
                .watchers
                .iter()
                .all(|watcher| self.mutation.is_some() || watcher.has_seen(self.truth.revision))
    }

    fn describe(&self) -> String {
        let members = self.hosts.iter().map(|host| {
            let status = host.running.as_ref().map(|running| {
                let state = running.shared.state.read();
                let leases = state.leases().iter().count();
                (running.shared.status(), state.applied(), state.revision(), leases)
            });
            format!("member {} refused {} {status:?}", host.id, host.refused)
        });
        members.collect::<Vec<_>>().join("; ")
    }

    /// Reads every key at the end: what was acknowledged must be there.
    fn read_everything(&mut self, deadline: u64) -> Result<(), String> {
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

    fn judge(mut self) -> Result<Summary, String> {
        let mut hashes = BTreeSet::new();
        for running in self.hosts.iter().filter_map(|host| host.running.as_ref()) {
            let state = running.shared.state.read();
            let hash = state.hash_all().map_err(|error| error.to_string())?;
            hashes.insert((state.applied().0, hash));
            self.summary.hash = hash;
        }
        if hashes.len() != 1 {
            return Err(format!("members differ: {hashes:?}"));
        }
        for (number, watcher) in self.watchers.iter().enumerate() {
            let checked = self.truth.check(watcher);
            checked.map_err(|error| format!("watcher {number}: {error}"))?;
            self.summary.delivered += watcher.deliveries.len();
        }
        // A write nobody was told about and that is not in history did not happen; fewer such make the search short.
        let truth = &self.truth;
        self.ops.retain(|op| match (&op.answer, &op.call) {
            (None, Call::Get(_)) => false,
            (None, Call::Put(_, value) | Call::Swap(_, value)) => truth.wrote(value.to_string().as_bytes()),
            _ => true,
        });
        linear::check(&self.ops)?;
        self.summary.revision = self.truth.revision;
        Ok(self.summary)
    }
}

fn lease_key(id: i64) -> Vec<u8> {
    format!("l/{id}").into_bytes()
}

/// Reads a key of the member's state, as a range request does once it may.
fn read(running: &crate::host::Running, group: usize, place: usize) -> Option<(linear::Seen, i64)> {
    let state = running.shared.state.read();
    let plan = state.plan_range(client::range(group, place)).ok()?;
    let response = plan
        .finish(state.engine().as_ref(), &mut |revision| state.relocate(revision))
        .ok()?;
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    Some((client::seen(response.kvs.first()), revision))
}
