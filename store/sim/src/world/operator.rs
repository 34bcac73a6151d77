//! Whoever changes the membership: adds, promotes, removes and replaces members, and starts or stops their machines.

use std::collections::BTreeSet;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::command::{MemberChange, MemberChangeKind};
use keelson_store_raft::ConfState;
use kube_store::member::Input;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Wait, World};
use crate::host::Host;

/// Members there may be at once, and machines in a run.
const MEMBERS_MAX: usize = 5;
const HOSTS_MAX: u64 = 10;
/// Entries a learner may be behind and still be promoted.
const LAG_MAX: u64 = 50;
/// After this the operator no longer waits for an answer.
const PATIENCE_MS: u64 = 8_000;

#[derive(Default)]
pub(super) struct Operator {
    waits: Option<(u64, Wait)>,
}

/// A member as it is added.
pub(super) fn member(id: u64) -> pb::Member {
    pb::Member {
        id,
        name: format!("m{id}"),
        peer_ur_ls: vec![format!("http://m{id}:2380")],
        ..Default::default()
    }
}

fn change(kind: MemberChangeKind, member: pb::Member) -> MemberChange {
    MemberChange {
        kind: kind as i32,
        member: Some(member),
        ..Default::default()
    }
}

impl World {
    /// Members as the member knows them that has applied most.
    pub(super) fn members(&self) -> Vec<pb::Member> {
        let running = self.hosts.iter().filter_map(|host| host.running.as_ref());
        let newest = running.max_by_key(|running| running.shared.state.read().applied());
        newest.map_or_else(Vec::new, |running| running.shared.state.read().members().list())
    }

    pub(super) fn run_operator(&mut self) -> Result<(), String> {
        if self.now.is_multiple_of(100) {
            self.reconcile()?;
        }
        if let Some((since, mut wait)) = self.operator.waits.take() {
            match wait.try_recv() {
                Ok(Ok(_)) => self.summary.changes += 1,
                Err(TryRecvError::Empty) if self.now < since + PATIENCE_MS => {
                    self.operator.waits = Some((since, wait));
                }
                _ => {}
            }
            return Ok(());
        }
        if self.calm || !self.chance.per_mille(4) {
            return Ok(());
        }
        let at = self.chance.place(self.hosts.len());
        if !self.is_awake(at) {
            return Ok(());
        }
        let Some(mut change) = self.choose_change() else {
            return Ok(());
        };
        change.id = self.id();
        self.note(|| format!("the operator asks member {} for {change:?}", at + 1));
        let (answer, wait) = oneshot::channel();
        self.operator.waits = Some((self.now, wait));
        self.hand_over(at, Some(Input::ProposeChange(change, answer)))
    }

    /// Starts machines of added members, and stops those of removed ones.
    fn reconcile(&mut self) -> Result<(), String> {
        let members = self.members();
        if members.is_empty() {
            return Ok(());
        }
        for member in &members {
            if self.hosts.iter().any(|host| host.id == member.id) {
                continue;
            }
            self.note(|| format!("machine {} is set up", member.id));
            let host = Host::new(member.id, &[], &members, &mut self.chance, false)?;
            self.hosts.push(host);
            self.hosts.sort_by_key(|host| host.id);
        }
        let known = self.known_members(&members);
        for host in &mut self.hosts {
            // A removed member's machine is kept until those left know of it: before, they may need its vote.
            let running = host.running.as_ref();
            let told = running.is_some_and(|running| *running.shared.removed.borrow());
            if (told || self.calm) && !known.contains(&host.id) {
                host.running = None;
                host.start_at = None;
                host.gone = true;
            }
        }
        Ok(())
    }

    /// Members of which any member knows; all, while one cannot be asked.
    fn known_members(&self, members: &[pb::Member]) -> BTreeSet<u64> {
        let mut known = BTreeSet::new();
        for member in members {
            let Some(host) = self.hosts.iter().find(|host| host.id == member.id) else {
                continue;
            };
            match &host.running {
                Some(running) => {
                    let state = running.shared.state.read();
                    known.extend(state.members().list().iter().map(|member| member.id));
                    // In a joint configuration a removed one still has its vote.
                    let conf: ConfState = keelson_store_raft::decode(state.conf_state()).unwrap_or_default();
                    known.extend(conf.voters.iter().chain(&conf.voters_outgoing));
                }
                None if host.refused => {}
                None => known.extend(self.hosts.iter().map(|host| host.id)),
            }
        }
        known
    }

    fn choose_change(&mut self) -> Option<MemberChange> {
        let members = self.members();
        let next = self.hosts.iter().map(|host| host.id).max().unwrap_or(0) + 1;
        let learner = members.iter().find(|member| member.is_learner).cloned();
        let voters: Vec<&pb::Member> = members.iter().filter(|member| !member.is_learner).collect();
        let voter = (*voters.get(self.chance.place(voters.len().max(1)))?).clone();
        let change = match (learner, self.chance.below(10)) {
            (Some(learner), 0) => change(MemberChangeKind::Remove, learner),
            (Some(learner), 1..4) if voters.len() > 1 && self.is_near(learner.id) => MemberChange {
                with: vec![change(MemberChangeKind::Remove, voter)],
                ..change(MemberChangeKind::Promote, learner)
            },
            (Some(learner), _) if self.is_near(learner.id) => change(MemberChangeKind::Promote, learner),
            (None, 0..5) if members.len() < MEMBERS_MAX && next <= HOSTS_MAX => change(
                MemberChangeKind::Add,
                pb::Member {
                    is_learner: true,
                    ..member(next)
                },
            ),
            (None, 5) if members.len() < MEMBERS_MAX && next <= HOSTS_MAX => {
                change(MemberChangeKind::Add, member(next))
            }
            (_, 6..) if voters.len() > 1 => change(MemberChangeKind::Remove, voter),
            _ => return None,
        };
        self.leaves_a_majority(&members, &change).then_some(change)
    }

    /// Whether a member has almost everything, as the server asks before it promotes one.
    fn is_near(&self, id: u64) -> bool {
        let applied = |host: &Host| {
            let running = host.running.as_ref();
            running.map_or(0, |running| running.shared.state.read().applied().0)
        };
        let most = self.hosts.iter().map(applied).max().unwrap_or(0);
        let own = self.hosts.iter().find(|host| host.id == id).map_or(0, applied);
        own > 0 && own + LAG_MAX >= most
    }

    /// Whether of the voters after a change more than half are certain to work once all is well.
    fn leaves_a_majority(&self, members: &[pb::Member], change: &MemberChange) -> bool {
        let voters = members.iter().filter(|member| !member.is_learner);
        let mut voters: BTreeSet<u64> = voters.map(|member| member.id).collect();
        for step in change.steps() {
            let Some(member) = step.member.as_ref().filter(|member| !member.is_learner) else {
                let id = step.member.as_ref().map_or(0, |member| member.id);
                if step.kind() == MemberChangeKind::Promote {
                    voters.insert(id);
                }
                continue;
            };
            match step.kind() {
                MemberChangeKind::Remove => voters.remove(&member.id),
                MemberChangeKind::Add | MemberChangeKind::Promote => voters.insert(member.id),
            };
        }
        let unsound = self
            .hosts
            .iter()
            .filter(|host| host.flipped && voters.contains(&host.id));
        unsound.count() * 2 < voters.len()
    }
}
