//! Alarms: what a member in trouble makes the whole cluster refuse.

use std::collections::BTreeSet;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use prost::Message;

use crate::ApiError;
use crate::command::{Op, Response, header};
use crate::rows::{Dirty, Table};

/// Raised alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    /// Kind and member.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Whether any member has raised an alarm of this kind.
    pub fn any(&self, kind: pb::AlarmType) -> bool {
        self.raised.iter().any(|(raised, _)| *raised == kind as i32)
    }

    /// Whether a member has raised it.
    pub fn has(&self, kind: pb::AlarmType, member: u64) -> bool {
        self.raised.contains(&(kind as i32, member))
    }

    /// All alarms of a kind; `None` kind lists every one.
    pub fn list(&self, kind: i32) -> Vec<pb::AlarmMember> {
        let raised = self
            .raised
            .iter()
            .filter(|(raised, _)| kind == 0 || *raised == kind);
        raised
            .map(|(alarm, member)| pb::AlarmMember {
                member_id: *member,
                alarm: *alarm,
            })
            .collect()
    }

    pub(crate) fn restore(&mut self, key: &[u8]) -> Result<(), String> {
        let stored = pb::AlarmMember::decode(key).map_err(|error| error.to_string())?;
        self.raised.insert((stored.alarm, stored.member_id));
        Ok(())
    }

    /// Refuses what an alarm forbids: with no space what grows, with corruption everything.
    pub(crate) fn admit(&self, op: &Op) -> Result<(), ApiError> {
        if self.raised.is_empty() {
            return Ok(());
        }
        let repair = matches!(
            op,
            Op::Alarm(_)
                | Op::MemberAttributes(_)
                | Op::ClusterVersion(_)
                | Op::MemberUpdate(_)
                | Op::Nothing(_)
        );
        if self.any(pb::AlarmType::Corrupt) && !repair {
            return Err(ApiError::Corrupt);
        }
        let grows = match op {
            Op::Put(_) | Op::LeaseGrant(_) => true,
            Op::Txn(txn) => puts(txn),
            _ => false,
        };
        if grows && self.any(pb::AlarmType::Nospace) {
            return Err(ApiError::NoSpace);
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, request: &pb::AlarmRequest, revision: i64, dirty: &mut Dirty) -> Response {
        let mut alarms = Vec::new();
        let stored = |kind: i32, member: u64| {
            let alarm = pb::AlarmMember {
                member_id: member,
                alarm: kind,
            };
            (alarm.encode_to_vec(), alarm)
        };
        match request.action() {
            AlarmAction::Get => alarms = self.list(request.alarm),
            AlarmAction::Activate if request.alarm != pb::AlarmType::None as i32 => {
                let (key, alarm) = stored(request.alarm, request.member_id);
                self.raised.insert((request.alarm, request.member_id));
                dirty.put(Table::Alarm, &key, "");
                alarms.push(alarm);
            }
            AlarmAction::Deactivate => {
                if self.raised.remove(&(request.alarm, request.member_id)) {
                    let (key, alarm) = stored(request.alarm, request.member_id);
                    dirty.delete(Table::Alarm, &key);
                    alarms.push(alarm);
                }
            }
            AlarmAction::Activate => {}
        }
        Response::Alarm(pb::AlarmResponse {
            header: header(revision),
            alarms,
        })
    }
}

/// Whether a transaction may put something in either branch.
fn puts(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(pb::request_op::Request::RequestPut(_)) => true,
            Some(pb::request_op::Request::RequestTxn(inner)) => puts(inner),
            _ => false,
        })
}
