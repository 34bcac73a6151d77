//! Users, roles and permissions; whether a user may do something.
//!
//! Replicated: users, roles, whether authentication is on, its revision, and tokens as they are given out. Passwords are
//! hashed and checked outside (hashing is slow and salted), tokens' expiry is each member's own.

mod permission;

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::etcd::authpb::{Permission, Role, User, permission::Type};
use keelson_proto::etcd::etcdserverpb as pb;
use prost::Message;

use crate::ApiError;
use crate::command::Op;
use crate::lease::Leases;
use crate::rows::{Dirty, Table};

pub use permission::Permissions;

/// The user and the role that may do everything.
pub const ROOT: &str = "root";

const ENABLED_KEY: &[u8] = b"authEnabled";
const REVISION_KEY: &[u8] = b"authRevision";

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Empty when authentication is off or nobody logged in.
    pub user: String,
    /// Revision of the auth store when the token was checked.
    pub revision: u64,
}

/// The auth store.
#[derive(Debug, Default)]
pub struct AuthStore {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// Ranges each user may touch; made anew when anything changes.
    permissions: BTreeMap<String, Permissions>,
    tokens: BTreeMap<String, String>,
}

impl AuthStore {
    /// Whether authentication is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Changes with every change of users and roles.
    pub fn revision(&self) -> u64 {
        self.revision.max(1)
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// User names.
    pub fn users(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// A role; the root role's permission is everything.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// Role names.
    pub fn roles(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    /// The caller a token stands for.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let user = self.tokens.get(token)?.clone();
        Some(Caller {
            user,
            revision: self.revision(),
        })
    }

    /// The caller a client certificate's common name stands for.
    pub fn caller_by_name(&self, name: &str) -> Caller {
        Caller {
            user: name.to_owned(),
            revision: self.revision(),
        }
    }

    /// Tokens given out.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    /// Drops a token that has expired here.
    pub fn expire_token(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// Refuses anyone but administrators.
    pub fn check_admin(&self, caller: &Caller) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        if self.is_root(&caller.user) {
            Ok(())
        } else {
            Err(ApiError::PermissionDenied)
        }
    }

    /// Refuses a read the caller may not make.
    pub fn check_range(&self, caller: &Caller, key: &[u8], range_end: &[u8]) -> Result<(), ApiError> {
        self.check(&caller.user, caller.revision, key, range_end, Type::Read)
    }

    /// Refuses a transaction with any part the caller may not do.
    pub fn check_txn(&self, caller: &Caller, txn: &pb::TxnRequest) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        for compare in &txn.compare {
            self.check_range(caller, &compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            use pb::request_op::Request;
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    self.check_range(caller, &range.key, &range.range_end)?
                }
                Some(Request::RequestPut(put)) => self.check_put(caller, put)?,
                Some(Request::RequestDeleteRange(range)) => self.check_delete(caller, range)?,
                Some(Request::RequestTxn(inner)) => self.check_txn(caller, inner)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Refuses what touches keys of a lease the caller may not write.
    pub fn check_lease(&self, caller: &Caller, id: i64, leases: &Leases, need: Type) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        for key in leases.get(id).into_iter().flat_map(|lease| lease.keys()) {
            self.check(&caller.user, caller.revision, key, b"", need)?;
        }
        Ok(())
    }

    fn check_put(&self, caller: &Caller, put: &pb::PutRequest) -> Result<(), ApiError> {
        self.check(&caller.user, caller.revision, &put.key, b"", Type::Write)?;
        if put.prev_kv {
            self.check_range(caller, &put.key, b"")?;
        }
        Ok(())
    }

    fn check_delete(&self, caller: &Caller, range: &pb::DeleteRangeRequest) -> Result<(), ApiError> {
        self.check(
            &caller.user,
            caller.revision,
            &range.key,
            &range.range_end,
            Type::Write,
        )?;
        if range.prev_kv {
            self.check_range(caller, &range.key, &range.range_end)?;
        }
        Ok(())
    }

    fn check(
        &self,
        user: &str,
        revision: u64,
        key: &[u8],
        range_end: &[u8],
        need: Type,
    ) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        if user.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        if revision < self.revision() {
            return Err(ApiError::AuthOldRevision);
        }
        if self.is_root(user) {
            return Ok(());
        }
        let allowed = self
            .permissions
            .get(user)
            .is_some_and(|permissions| permissions.allow(key, range_end, need));
        if allowed {
            Ok(())
        } else {
            Err(ApiError::PermissionDenied)
        }
    }

    fn is_root(&self, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| user.roles.iter().any(|role| role == ROOT))
    }

    /// Checks a command when it is applied: permissions may have changed since it was proposed.
    pub(crate) fn admit(&self, user: &str, revision: u64, op: &Op, leases: &Leases) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        let caller = Caller {
            user: user.to_owned(),
            revision,
        };
        match op {
            Op::Put(put) => {
                self.check_put(&caller, put)?;
                self.check_lease(&caller, put.lease, leases, Type::Write)
            }
            Op::DeleteRange(range) => self.check_delete(&caller, range),
            Op::Txn(txn) => self.check_txn(&caller, txn),
            // The lessor's own revocations carry no user.
            Op::LeaseRevoke(request) if !user.is_empty() => {
                self.check_lease(&caller, request.id, leases, Type::Write)
            }
            Op::AuthEnable(_)
            | Op::AuthDisable(_)
            | Op::UserAdd(_)
            | Op::UserDelete(_)
            | Op::UserChangePassword(_)
            | Op::UserGrantRole(_)
            | Op::UserRevokeRole(_)
            | Op::RoleAdd(_)
            | Op::RoleDelete(_)
            | Op::RoleGrantPermission(_)
            | Op::RoleRevokePermission(_) => self.check_admin(&caller),
            _ => Ok(()),
        }
    }

    pub(crate) fn apply(&mut self, op: Op, dirty: &mut Dirty) -> Result<(), ApiError> {
        match op {
            Op::AuthEnable(_) => self.enable(dirty),
            Op::AuthDisable(_) => {
                if self.enabled {
                    self.enabled = false;
                    self.tokens.clear();
                    dirty.put(Table::Auth, ENABLED_KEY, vec![0]);
                    self.changed(dirty);
                }
                Ok(())
            }
            Op::Authenticate(login) => {
                if !self.enabled {
                    return Err(ApiError::AuthNotEnabled);
                }
                self.tokens.insert(login.token, login.name);
                Ok(())
            }
            Op::UserAdd(request) => self.user_add(request, dirty),
            Op::UserDelete(request) => self.user_delete(&request.name, dirty),
            Op::UserChangePassword(request) => {
                let user = self.users.get_mut(&request.name).ok_or(ApiError::UserNotFound)?;
                user.password = request.hashed_password.into();
                self.tokens.retain(|_, name| *name != request.name);
                self.store_user(&request.name, dirty);
                Ok(())
            }
            Op::UserGrantRole(request) => self.user_grant_role(&request, dirty),
            Op::UserRevokeRole(request) => self.user_revoke_role(&request, dirty),
            Op::RoleAdd(request) => self.role_add(&request.name, dirty),
            Op::RoleDelete(request) => self.role_delete(&request.role, dirty),
            Op::RoleGrantPermission(request) => self.grant(request, dirty),
            Op::RoleRevokePermission(request) => self.revoke(&request, dirty),
            _ => Ok(()),
        }
    }

    fn enable(&mut self, dirty: &mut Dirty) -> Result<(), ApiError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(ApiError::RootUserNotExist)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(ApiError::RootRoleNotExist);
        }
        self.enabled = true;
        dirty.put(Table::Auth, ENABLED_KEY, vec![1]);
        Ok(())
    }

    fn user_add(&mut self, request: pb::AuthUserAddRequest, dirty: &mut Dirty) -> Result<(), ApiError> {
        if request.name.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(ApiError::UserAlreadyExist);
        }
        let user = User {
            name: request.name.clone().into(),
            password: request.hashed_password.into(),
            roles: Vec::new(),
            options: request.options,
        };
        self.users.insert(request.name.clone(), user);
        self.store_user(&request.name, dirty);
        Ok(())
    }

    fn user_delete(&mut self, name: &str, dirty: &mut Dirty) -> Result<(), ApiError> {
        if self.enabled && name == ROOT {
            return Err(ApiError::InvalidAuthMgmt);
        }
        self.users.remove(name).ok_or(ApiError::UserNotFound)?;
        self.tokens.retain(|_, user| user != name);
        dirty.delete(Table::AuthUser, name.as_bytes());
        self.changed(dirty);
        Ok(())
    }

    fn user_grant_role(
        &mut self,
        request: &pb::AuthUserGrantRoleRequest,
        dirty: &mut Dirty,
    ) -> Result<(), ApiError> {
        let user = self.users.get_mut(&request.user).ok_or(ApiError::UserNotFound)?;
        if request.role != ROOT && !self.roles.contains_key(&request.role) {
            return Err(ApiError::RoleNotFound);
        }
        if !user.roles.contains(&request.role) {
            user.roles.push(request.role.clone());
            user.roles.sort();
            self.store_user(&request.user, dirty);
        }
        Ok(())
    }

    fn user_revoke_role(
        &mut self,
        request: &pb::AuthUserRevokeRoleRequest,
        dirty: &mut Dirty,
    ) -> Result<(), ApiError> {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(ApiError::InvalidAuthMgmt);
        }
        let user = self.users.get_mut(&request.name).ok_or(ApiError::UserNotFound)?;
        let before = user.roles.len();
        user.roles.retain(|role| *role != request.role);
        if user.roles.len() == before {
            return Err(ApiError::RoleNotGranted);
        }
        self.store_user(&request.name, dirty);
        Ok(())
    }

    fn role_add(&mut self, name: &str, dirty: &mut Dirty) -> Result<(), ApiError> {
        if name.is_empty() {
            return Err(ApiError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(ApiError::RoleAlreadyExist);
        }
        let role = Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: Vec::new(),
        };
        self.roles.insert(name.to_owned(), role);
        self.store_role(name, dirty);
        Ok(())
    }

    fn role_delete(&mut self, name: &str, dirty: &mut Dirty) -> Result<(), ApiError> {
        if self.enabled && name == ROOT {
            return Err(ApiError::InvalidAuthMgmt);
        }
        self.roles.remove(name).ok_or(ApiError::RoleNotFound)?;
        dirty.delete(Table::AuthRole, name.as_bytes());
        let holders: Vec<String> = self
            .users
            .iter()
            .filter(|(_, user)| user.roles.iter().any(|role| role == name))
            .map(|(user, _)| user.clone())
            .collect();
        for holder in holders {
            if let Some(user) = self.users.get_mut(&holder) {
                user.roles.retain(|role| role != name);
            }
            self.store_user(&holder, dirty);
        }
        self.changed(dirty);
        Ok(())
    }

    fn grant(
        &mut self,
        request: pb::AuthRoleGrantPermissionRequest,
        dirty: &mut Dirty,
    ) -> Result<(), ApiError> {
        let permission = request.perm.ok_or(ApiError::PermissionNotGiven)?;
        let role = self.roles.get_mut(&request.name).ok_or(ApiError::RoleNotFound)?;
        let same =
            |known: &&mut Permission| known.key == permission.key && known.range_end == permission.range_end;
        match role.key_permission.iter_mut().find(same) {
            Some(known) => known.perm_type = permission.perm_type,
            None => role.key_permission.push(permission),
        }
        role.key_permission
            .sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
        self.store_role(&request.name, dirty);
        Ok(())
    }

    fn revoke(
        &mut self,
        request: &pb::AuthRoleRevokePermissionRequest,
        dirty: &mut Dirty,
    ) -> Result<(), ApiError> {
        let role = self.roles.get_mut(&request.role).ok_or(ApiError::RoleNotFound)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|known| known.key != request.key || known.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(ApiError::PermissionNotGranted);
        }
        self.store_role(&request.role, dirty);
        Ok(())
    }

    fn store_user(&mut self, name: &str, dirty: &mut Dirty) {
        if let Some(user) = self.users.get(name) {
            dirty.put(Table::AuthUser, name.as_bytes(), user.encode_to_vec());
        }
        self.changed(dirty);
    }

    fn store_role(&mut self, name: &str, dirty: &mut Dirty) {
        if let Some(role) = self.roles.get(name) {
            dirty.put(Table::AuthRole, name.as_bytes(), role.encode_to_vec());
        }
        self.changed(dirty);
    }

    fn changed(&mut self, dirty: &mut Dirty) {
        self.revision = self.revision() + 1;
        dirty.put(Table::Auth, REVISION_KEY, self.revision.to_be_bytes().to_vec());
        self.resolve();
    }

    /// Makes the users' permissions from their roles.
    fn resolve(&mut self) {
        self.permissions.clear();
        for (name, user) in &self.users {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            let granted = roles.flat_map(|role| &role.key_permission);
            self.permissions.insert(name.clone(), Permissions::new(granted));
        }
    }

    pub(crate) fn restore(&mut self, table: Table, key: &[u8], value: Bytes) -> Result<(), String> {
        let name = || String::from_utf8_lossy(key).into_owned();
        match table {
            Table::AuthUser => {
                let user = User::decode(value).map_err(|error| error.to_string())?;
                self.users.insert(name(), user);
            }
            Table::AuthRole => {
                let role = Role::decode(value).map_err(|error| error.to_string())?;
                self.roles.insert(name(), role);
            }
            _ if key == ENABLED_KEY => self.enabled = value[..] == [1],
            _ if key == REVISION_KEY => {
                let bytes = <[u8; 8]>::try_from(&value[..]).map_err(|_| "the auth revision is wrong")?;
                self.revision = u64::from_be_bytes(bytes);
            }
            _ => {}
        }
        self.resolve();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(store: &AuthStore, user: &str) -> Caller {
        store.caller_by_name(user)
    }

    fn store() -> AuthStore {
        let mut store = AuthStore::default();
        let mut dirty = Dirty::default();
        let add = |name: &str| {
            Op::UserAdd(pb::AuthUserAddRequest {
                name: name.into(),
                ..Default::default()
            })
        };
        let grant_role = |user: &str, role: &str| {
            Op::UserGrantRole(pb::AuthUserGrantRoleRequest {
                user: user.into(),
                role: role.into(),
            })
        };
        let ops = [
            add("root"),
            add("ann"),
            Op::RoleAdd(pb::AuthRoleAddRequest { name: "app".into() }),
            Op::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: "app".into(),
                perm: Some(Permission {
                    perm_type: Type::Read as i32,
                    key: "a".into(),
                    range_end: "c".into(),
                }),
            }),
            grant_role("ann", "app"),
            grant_role("root", "root"),
            Op::AuthEnable(pb::AuthEnableRequest {}),
        ];
        for op in ops {
            store.apply(op, &mut dirty).unwrap();
        }
        store
    }

    #[test]
    fn roles_decide_and_root_may_everything() {
        let store = store();
        assert_eq!(store.check_range(&caller(&store, "ann"), b"a", b"b"), Ok(()));
        assert_eq!(
            store.check_range(&caller(&store, "ann"), b"b", b"d"),
            Err(ApiError::PermissionDenied)
        );
        assert_eq!(
            store.check_range(&caller(&store, ""), b"a", b""),
            Err(ApiError::UserEmpty)
        );
        assert_eq!(store.check_range(&caller(&store, "root"), b"", b"\0"), Ok(()));
        assert_eq!(
            store.check_admin(&caller(&store, "ann")),
            Err(ApiError::PermissionDenied)
        );
        let stale = Caller {
            user: "ann".into(),
            revision: 1,
        };
        assert_eq!(
            store.check_range(&stale, b"a", b""),
            Err(ApiError::AuthOldRevision)
        );
        let put = Op::Put(pb::PutRequest {
            key: "a".into(),
            ..Default::default()
        });
        let admitted = store.admit("ann", store.revision(), &put, &Leases::default());
        assert_eq!(admitted, Err(ApiError::PermissionDenied));
    }

    #[test]
    fn root_cannot_be_taken_away_while_authentication_is_on() {
        let mut store = store();
        let mut dirty = Dirty::default();
        let delete = Op::UserDelete(pb::AuthUserDeleteRequest { name: "root".into() });
        assert_eq!(store.apply(delete, &mut dirty), Err(ApiError::InvalidAuthMgmt));
        let role = Op::RoleDelete(pb::AuthRoleDeleteRequest { role: "app".into() });
        assert_eq!(store.apply(role, &mut dirty), Ok(()));
        assert!(store.user("ann").unwrap().roles.is_empty());
        assert_eq!(
            store.check_range(&caller(&store, "ann"), b"a", b""),
            Err(ApiError::PermissionDenied)
        );
    }
}
