//! Messages between members: dropped, delayed, repeated, out of order, held up by partitions in both or one direction.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::command::{Command, Op as CommandOp};
use keelson_store_raft::{Message, MessageType};
use kube_store::member::Input;

use super::{Mutation, STEP_MS, World};
use crate::chance::Chance;

pub(super) struct Network {
    /// By time of arrival and order of sending.
    flights: BTreeMap<(u64, u64), Message>,
    sequence: u64,
    pub drop: u64,
    pub duplicate: u64,
    pub delay_ms: u64,
    /// From whom to whom nothing comes through.
    pub blocked: BTreeSet<(u64, u64)>,
    pub healed_at: u64,
}

impl Network {
    pub fn new(chance: &mut Chance) -> Self {
        Self {
            flights: BTreeMap::new(),
            sequence: 0,
            drop: chance.below(80),
            duplicate: chance.below(80),
            delay_ms: chance.between(10, 120),
            blocked: BTreeSet::new(),
            healed_at: 0,
        }
    }
}

impl World {
    pub(super) fn send(&mut self, messages: Vec<Message>) {
        for mut message in messages {
            if self.mutation == Some(Mutation::ChangedEntry) && message.to == 2 {
                change_values(&mut message);
            }
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

    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let later = self.network.flights.split_off(&(self.now + 1, 0));
        for ((at, sequence), message) in std::mem::replace(&mut self.network.flights, later) {
            // Added members exist only once somebody has started them.
            let Some(place) = self.hosts.iter().position(|host| host.id == message.to) else {
                if message.get_msg_type() == MessageType::MsgSnapshot {
                    self.snapshot_sent(&message, false);
                }
                continue;
            };
            if self.hosts[place].running.is_some() && !self.is_awake(place) {
                // A paused machine's kernel keeps what arrives.
                self.network
                    .flights
                    .insert((at.max(self.now) + STEP_MS, sequence), message);
                continue;
            }
            let blocked = self.network.blocked.contains(&(message.from, message.to));
            let mut arrives = !blocked && self.is_awake(place);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let from = self.hosts.iter().find(|host| host.id == message.from);
                let file = from.and_then(|host| host.snapshot_file(&message));
                arrives &= file.is_some_and(|file| self.hosts[place].store_snapshot(&message, &file));
                self.snapshot_sent(&message, arrives);
                if self.hosts[place].disk.is_dead() {
                    self.crash(place);
                    continue;
                }
            }
            if arrives {
                self.hand_over(place, Some(Input::Message(Box::new(message))))?;
            }
        }
        Ok(())
    }
}

/// Makes the values of a message's puts others.
fn change_values(message: &mut Message) {
    for entry in &mut message.entries {
        let Ok(mut command) = Command::decode(entry.data.clone().into()) else {
            continue;
        };
        if let Some(CommandOp::Put(pb::PutRequest { value, .. })) = &mut command.op {
            *value = "0".into();
            entry.data = prost::Message::encode_to_vec(&command);
        }
    }
}
