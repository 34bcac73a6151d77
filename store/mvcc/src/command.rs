//! What goes through the log, and what comes out of applying it.

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;

/// One replicated command.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// Finds the waiting request on the member that proposed it; unique in the cluster.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// The authenticated user; empty when authentication is off.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Revision of the auth store the proposer checked against; 0 when authentication is off.
    #[prost(uint64, tag = "3")]
    pub auth_revision: u64,
    #[prost(
        oneof = "Op",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28"
    )]
    pub op: Option<Op>,
}

/// The kinds of commands.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    #[prost(message, tag = "4")]
    Put(pb::PutRequest),
    #[prost(message, tag = "5")]
    DeleteRange(pb::DeleteRangeRequest),
    #[prost(message, tag = "6")]
    Txn(pb::TxnRequest),
    #[prost(message, tag = "7")]
    Compact(pb::CompactionRequest),
    /// With its id chosen and its TTL raised to the minimum.
    #[prost(message, tag = "8")]
    LeaseGrant(pb::LeaseGrantRequest),
    #[prost(message, tag = "9")]
    LeaseRevoke(pb::LeaseRevokeRequest),
    #[prost(message, tag = "10")]
    Alarm(pb::AlarmRequest),
    #[prost(message, tag = "11")]
    AuthEnable(pb::AuthEnableRequest),
    #[prost(message, tag = "12")]
    AuthDisable(pb::AuthDisableRequest),
    /// With the password already checked: only the token is replicated.
    #[prost(message, tag = "13")]
    Authenticate(Authenticate),
    #[prost(message, tag = "14")]
    UserAdd(pb::AuthUserAddRequest),
    #[prost(message, tag = "15")]
    UserDelete(pb::AuthUserDeleteRequest),
    #[prost(message, tag = "16")]
    UserChangePassword(pb::AuthUserChangePasswordRequest),
    #[prost(message, tag = "17")]
    UserGrantRole(pb::AuthUserGrantRoleRequest),
    #[prost(message, tag = "18")]
    UserRevokeRole(pb::AuthUserRevokeRoleRequest),
    #[prost(message, tag = "19")]
    RoleAdd(pb::AuthRoleAddRequest),
    #[prost(message, tag = "20")]
    RoleDelete(pb::AuthRoleDeleteRequest),
    #[prost(message, tag = "21")]
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest),
    #[prost(message, tag = "22")]
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest),
    /// A member tells its name and client URLs.
    #[prost(message, tag = "23")]
    MemberAttributes(MemberAttributes),
    #[prost(message, tag = "24")]
    MemberUpdate(pb::MemberUpdateRequest),
    /// Remaining TTLs, so that a new leader does not prolong long leases.
    #[prost(message, tag = "25")]
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    #[prost(message, tag = "26")]
    ClusterVersion(ClusterVersion),
    /// Opens a fresh log with the initial members.
    #[prost(message, tag = "28")]
    Nothing(Nothing),
}

/// A checked login.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Authenticate {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub token: String,
}

/// What a member says about itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAttributes {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
}

/// The version all members can speak.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterVersion {
    #[prost(string, tag = "1")]
    pub version: String,
}

/// No change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nothing {}

/// The payload of a configuration change's entry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberChange {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub user: String,
    #[prost(enumeration = "MemberChangeKind", tag = "3")]
    pub kind: i32,
    #[prost(message, optional, tag = "4")]
    pub member: Option<pb::Member>,
    /// Changes of other members that take effect together with this one, by joint consensus.
    #[prost(message, repeated, tag = "5")]
    pub with: Vec<MemberChange>,
}

impl MemberChange {
    /// This change and those that come with it.
    pub fn steps(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.with)
    }
}

/// What happens to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum MemberChangeKind {
    Add = 0,
    Promote = 1,
    Remove = 2,
}

/// An answer; headers hold the revision only, the server completes them.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
    /// Members after a change of membership.
    Members(i64, Vec<pb::Member>),
    /// Everything that answers with a header alone: the revision.
    Done(i64),
}

/// A header with the revision.
pub fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

impl Command {
    /// Decodes an entry's data without copying keys and values.
    pub fn decode(data: Bytes) -> Result<Self, prost::DecodeError> {
        prost::Message::decode(data)
    }
}
