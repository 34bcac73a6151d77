//! Changes of membership: proposed, handed over when they concern the leader, repeated to new leaders, applied.

use keelson_store_mvcc::command::{MemberChange, MemberChangeKind, Response};
use keelson_store_mvcc::{ApiError, Mvcc};
use keelson_store_raft::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType, ProposeError,
};

use super::{Fatal, Member, Proposal};

impl Member {
    pub(super) fn propose_change(&mut self, change: &MemberChange) -> Result<(), ProposeError> {
        let leader = self.node.leader();
        for (known, asked) in &mut self.changes {
            if known.id == change.id {
                *asked = leader;
            }
        }
        let conf = conf_change(change);
        if self.is_leader() && self.hands_over_before(&conf) {
            // The next leader is asked again.
            return Ok(());
        }
        let context = prost::Message::encode_to_vec(change);
        self.node.propose_change(context, conf)
    }

    /// A leader does not take part in its own removal: once it had applied it and gone, those left could not know that
    /// it was committed, and might need its vote for ever. It lets another lead, who then removes it.
    fn hands_over_before(&mut self, change: &ConfChangeV2) -> bool {
        let own = self.node.id();
        let removed = change
            .changes
            .iter()
            .any(|step| step.get_change_type() == ConfChangeType::RemoveNode && step.node_id == own);
        let is_last = change.changes.len() == 1 && self.node.conf_state().voters == [own];
        if !removed || is_last {
            return false;
        }
        let to = self.best_follower();
        if to != 0 && self.node.transferring().is_none() {
            tracing::info!(
                to = format!("{to:x}"),
                "this member is to be removed: handing leadership over"
            );
            self.node.transfer_leader(to);
        }
        true
    }

    /// Whether a message asks this leader for its own removal.
    pub(super) fn removes_leader(&mut self, message: &Message) -> bool {
        if message.get_msg_type() != MessageType::MsgPropose || !self.is_leader() {
            return false;
        }
        let changes = message
            .entries
            .iter()
            .filter(|entry| entry.get_entry_type() == EntryType::EntryConfChangeV2);
        let changes: Vec<ConfChangeV2> = changes
            .filter_map(|entry| keelson_store_raft::decode(&entry.data).ok())
            .collect();
        changes.iter().any(|change| self.hands_over_before(change))
    }

    /// Changes of membership are proposed to each new leader until they are answered: the last one may have handed over
    /// because of them. One that is done is refused when it is applied again.
    pub(super) fn repeat_changes(&mut self) {
        self.changes
            .retain(|(change, _)| self.pending.contains_key(&change.id));
        let leader = self.node.leader();
        if leader == 0 || self.stalled.is_some() || self.node.transferring().is_some() {
            return;
        }
        let again: Vec<MemberChange> = self
            .changes
            .iter()
            .filter(|(_, asked)| *asked != 0 && *asked != leader)
            .map(|(change, _)| change.clone())
            .collect();
        for change in again {
            self.propose(change.id, Proposal::Change(change));
        }
    }

    pub(super) fn apply_change(
        &mut self,
        state: &mut Mvcc,
        entry: &Entry,
    ) -> Result<(u64, Result<Response, ApiError>), Fatal> {
        let wrong = |what: String| Fatal::Command {
            index: entry.index,
            what,
        };
        let change: ConfChangeV2 =
            keelson_store_raft::decode(&entry.data).map_err(|error| wrong(error.to_string()))?;
        let member_change: Option<MemberChange> = if entry.context.is_empty() {
            None
        } else {
            let decoded = prost::Message::decode(&entry.context[..]);
            Some(decoded.map_err(|error: prost::DecodeError| wrong(error.to_string()))?)
        };
        let id = member_change.as_ref().map_or(0, |change| change.id);
        // Two changes proposed at once were each checked against the same members.
        let refused = member_change
            .as_ref()
            .and_then(|change| state.members().check(change).err());
        if let Some(error) = refused {
            state.advance(entry.index, entry.term);
            return Ok((id, Err(error)));
        }
        let Some(conf_state) = self.node.apply_change(&change) else {
            state.advance(entry.index, entry.term);
            return Ok((id, Err(ApiError::MemberNotEnoughStarted)));
        };
        let encoded = keelson_store_raft::encode(&conf_state);
        let response = state.apply_member_change(entry.index, entry.term, member_change, encoded.into());
        let members = state.members();
        self.shared.set_conf(&conf_state, self.node.id());
        self.shared.members.send_replace(members.list());
        // In a joint configuration it is still needed.
        let own = self.node.id();
        if members.is_removed(own) && !conf_state.voters_outgoing.contains(&own) {
            self.shared.removed.send_replace(true);
        }
        Ok((id, Ok(response)))
    }
}

/// Raft's form of a change; of several members at once, Raft makes a joint configuration that it leaves by itself.
fn conf_change(change: &MemberChange) -> ConfChangeV2 {
    let mut whole = ConfChangeV2::default();
    for step in change.steps() {
        let member = step.member.clone().unwrap_or_default();
        let kind = match step.kind() {
            MemberChangeKind::Add if member.is_learner => ConfChangeType::AddLearnerNode,
            MemberChangeKind::Add | MemberChangeKind::Promote => ConfChangeType::AddNode,
            MemberChangeKind::Remove => ConfChangeType::RemoveNode,
        };
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = member.id;
        whole.changes.push(single);
    }
    whole
}
