//! What goes wrong, and how it is put right in the end.

use kube_store::member::Input;
use tokio::sync::oneshot;

use super::{Mutation, World};

impl World {
    /// Perhaps lets something go wrong.
    pub(super) fn trouble(&mut self) {
        if self.now < 2_000 || !self.chance.per_mille(8) {
            return;
        }
        let host = self.chance.place(self.hosts.len());
        let until = self.now + self.chance.between(200, 4_000);
        match self.chance.below(15) {
            0 | 1 => self.crash(host),
            2 | 3 if self.hosts[host].running.is_some() => {
                let steps = self.chance.below(12);
                self.hosts[host].disk.arm(steps);
            }
            4 | 5 => self.part(until),
            6 | 7 => self.hosts[host].asleep_until = until,
            8 | 9 => self.hosts[host].engines.remember(),
            10 => {
                self.note(|| format!("the disk of member {} is full", host + 1));
                self.hosts[host].disk.set_full(true);
                self.hosts[host].full_until = until;
                self.summary.full += 1;
            }
            11 | 12 => self.transfer(),
            _ if self.mutation == Some(Mutation::LostFsync) => {
                for host in 0..self.hosts.len() {
                    self.crash(host);
                }
            }
            13 if self.chance.per_mille(200) => {
                self.note(|| "power is lost everywhere".to_owned());
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

    /// Some members cannot reach others: sides of a partition, or in one direction only.
    fn part(&mut self, until: u64) {
        let ids: Vec<u64> = self.hosts.iter().map(|host| host.id).collect();
        let sides: Vec<bool> = ids.iter().map(|_| self.chance.per_mille(400)).collect();
        let one_way = self.chance.per_mille(300);
        self.network.blocked.clear();
        for (from, from_side) in ids.iter().zip(&sides) {
            for (to, to_side) in ids.iter().zip(&sides) {
                if from_side != to_side && (*from_side || !one_way) {
                    self.network.blocked.insert((*from, *to));
                }
            }
        }
        self.network.healed_at = until;
        self.note(|| format!("from whom to whom nothing comes: {:?}", self.network.blocked));
    }

    /// Asks the leader, if there is one, to hand over to whomever it likes.
    fn transfer(&mut self) {
        let leader = self.hosts.iter_mut().find(|host| {
            let running = host.running.as_ref();
            running.is_some_and(|running| running.member.is_leader()) && host.asleep_until <= self.now
        });
        if let Some(running) = leader.and_then(|host| host.running.as_mut()) {
            // Nobody waits for the answer: leadership moves, or it does not.
            let (answer, _) = oneshot::channel();
            running.member.take(Input::Transfer(0, answer));
        }
    }

    /// Ends faults whose time has come.
    pub(super) fn pass_faults(&mut self) {
        if self.now >= self.network.healed_at {
            self.network.blocked.clear();
        }
        for host in &mut self.hosts {
            if host.disk.is_full() && self.now >= host.full_until {
                host.disk.set_full(false);
            }
        }
    }

    /// Power is lost at one machine.
    pub(super) fn crash(&mut self, host: usize) {
        if self.hosts[host].running.is_none() {
            return;
        }
        self.stop(host);
        let voters = self.members().iter().filter(|member| !member.is_learner).count();
        let flipped = self
            .hosts
            .iter()
            .filter(|host| host.flipped && !host.gone)
            .count();
        // Damage to more than a minority is beyond what any store can repair.
        if (flipped + 1) * 2 < voters && self.chance.per_mille(60) {
            let suffix = if self.chance.per_mille(700) { ".wal" } else { ".db" };
            let flips = self.hosts[host].disk.flip(suffix);
            self.hosts[host].flipped |= flips;
            self.note(|| format!("a bit of member {}'s {suffix} files flips: {flips}", host + 1));
        }
    }

    /// Whatever the machine was doing has ended; it comes back after a while.
    pub(super) fn stop(&mut self, host: usize) {
        self.summary.crashes += 1;
        let start_at = self.now + self.chance.between(50, 4_000);
        self.note(|| format!("member {} crashes, until {start_at}", host + 1));
        self.hosts[host].crash(&mut self.chance, start_at);
    }

    pub(super) fn heal(&mut self) {
        self.note(|| "all is well".to_owned());
        self.calm = true;
        self.network.blocked.clear();
        (self.network.drop, self.network.duplicate, self.network.delay_ms) = (0, 0, 20);
        for host in 0..self.hosts.len() {
            self.hosts[host].asleep_until = 0;
            self.hosts[host].full_until = 0;
            self.hosts[host].disk.set_full(false);
            if self.hosts[host].disk.is_dead() {
                self.crash(host);
            }
            self.hosts[host].disk.disarm();
            self.hosts[host].disk.be_honest();
        }
    }
}
