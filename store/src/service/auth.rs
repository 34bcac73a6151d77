//! Auth. Passwords are hashed and checked here, off the async threads; only hashes are replicated.

use std::sync::Arc;
use std::time::Instant;

use keelson_proto::etcd::authpb::Permission;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::auth_server::Auth;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::auth::{Caller, ROOT};
use keelson_store_mvcc::command::{Authenticate, Op};
use rand::distr::{Alphanumeric, SampleString};
use tonic::{Request, Response, Status};

use super::{caller, check_learner, status};
use crate::api::Api;

/// Characters of a token's random part.
const TOKEN_CHARACTERS: usize = 16;

/// The service.
#[derive(Clone)]
pub struct AuthService {
    pub api: Arc<Api>,
    /// Cost of bcrypt.
    pub cost: u32,
}

impl AuthService {
    async fn admin<T>(
        &self,
        request: Request<T>,
        op: impl FnOnce(T) -> Op,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        check_learner(&self.api)?;
        let caller = caller(&self.api, &request)?;
        let op = op(request.into_inner());
        self.api.admin(&caller, op).await.map_err(status)
    }

    /// The caller, if it may read about users or roles; `own` says whether it asks about itself.
    async fn reader<T>(&self, request: &Request<T>, own: impl Fn(&Caller) -> bool) -> Result<(), Status> {
        let caller = caller(&self.api, request)?;
        self.api.linearize().await.map_err(status)?;
        if own(&caller) {
            return Ok(());
        }
        self.api
            .shared
            .state
            .read()
            .auth()
            .check_admin(&caller)
            .map_err(status)
    }

    async fn hash(&self, password: String) -> Result<String, Status> {
        let cost = self.cost;
        let hashed = tokio::task::spawn_blocking(move || bcrypt::hash(password, cost)).await;
        hashed
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::internal(error.to_string()))
    }
}

macro_rules! admin {
    ($self:ident, $request:ident, $op:ident, $response:ident) => {
        $self
            .admin($request, Op::$op)
            .await
            .map(|header| Response::new(pb::$response { header }))
    };
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        admin!(self, request, AuthEnable, AuthEnableResponse)
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        admin!(self, request, AuthDisable, AuthDisableResponse)
    }

    async fn auth_status(
        &self,
        _: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let state = self.api.shared.state.read();
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.api.header(state.revision()),
            enabled: state.auth().enabled(),
            auth_revision: state.auth().revision(),
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        check_learner(&self.api)?;
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let hash = {
            let state = self.api.shared.state.read();
            if !state.auth().enabled() {
                return Err(status(ApiError::AuthNotEnabled));
            }
            let user = state.auth().user(&name);
            if user.is_some_and(|user| user.options.as_ref().is_some_and(|options| options.no_password)) {
                return Err(status(ApiError::NoPasswordUser));
            }
            user.and_then(|user| std::str::from_utf8(&user.password).ok().map(str::to_owned))
        };
        let hash = hash.ok_or_else(|| status(ApiError::AuthFailed))?;
        let matches = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        if !matches!(matches, Ok(Ok(true))) {
            return Err(status(ApiError::AuthFailed));
        }
        let random = Alphanumeric.sample_string(&mut rand::rng(), TOKEN_CHARACTERS);
        let token = format!("{random}.{}", self.api.shared.status().applied);
        let login = Op::Authenticate(Authenticate {
            name,
            token: token.clone(),
        });
        let header = self
            .api
            .command(&Caller::default(), login)
            .await
            .map_err(status)?;
        self.api.tokens.used(&token, Instant::now());
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let mut request = request;
        let inner = request.get_mut();
        let no_password = inner.options.as_ref().is_some_and(|options| options.no_password);
        if !no_password && inner.hashed_password.is_empty() {
            let password = std::mem::take(&mut inner.password);
            inner.hashed_password = self.hash(password).await?;
        }
        request.get_mut().password.clear();
        admin!(self, request, UserAdd, AuthUserAddResponse)
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let name = request.get_ref().name.clone();
        self.reader(&request, |caller| caller.user == name).await?;
        let state = self.api.shared.state.read();
        let user = state
            .auth()
            .user(&name)
            .ok_or_else(|| status(ApiError::UserNotFound))?;
        Ok(Response::new(pb::AuthUserGetResponse {
            header: self.api.header(state.revision()),
            roles: user.roles.clone(),
        }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        self.reader(&request, |_| false).await?;
        let state = self.api.shared.state.read();
        Ok(Response::new(pb::AuthUserListResponse {
            header: self.api.header(state.revision()),
            users: state.auth().users(),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        admin!(self, request, UserDelete, AuthUserDeleteResponse)
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let mut request = request;
        let inner = request.get_mut();
        if inner.hashed_password.is_empty() {
            let password = std::mem::take(&mut inner.password);
            inner.hashed_password = self.hash(password).await?;
        }
        request.get_mut().password.clear();
        admin!(self, request, UserChangePassword, AuthUserChangePasswordResponse)
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        admin!(self, request, UserGrantRole, AuthUserGrantRoleResponse)
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        admin!(self, request, UserRevokeRole, AuthUserRevokeRoleResponse)
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        admin!(self, request, RoleAdd, AuthRoleAddResponse)
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let name = request.get_ref().role.clone();
        let api = self.api.clone();
        self.reader(&request, |caller| {
            let state = api.shared.state.read();
            state
                .auth()
                .user(&caller.user)
                .is_some_and(|user| user.roles.contains(&name))
        })
        .await?;
        let state = self.api.shared.state.read();
        let role = state.auth().role(&name);
        let perm = match role {
            Some(role) => role.key_permission.clone(),
            // The root role exists without being made, and may everything.
            None if name == ROOT => vec![Permission {
                perm_type: 2,
                key: Default::default(),
                range_end: bytes::Bytes::from_static(&[0]),
            }],
            None => return Err(status(ApiError::RoleNotFound)),
        };
        Ok(Response::new(pb::AuthRoleGetResponse {
            header: self.api.header(state.revision()),
            perm,
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        self.reader(&request, |_| false).await?;
        let state = self.api.shared.state.read();
        Ok(Response::new(pb::AuthRoleListResponse {
            header: self.api.header(state.revision()),
            roles: state.auth().roles(),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        admin!(self, request, RoleDelete, AuthRoleDeleteResponse)
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        admin!(
            self,
            request,
            RoleGrantPermission,
            AuthRoleGrantPermissionResponse
        )
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        admin!(
            self,
            request,
            RoleRevokePermission,
            AuthRoleRevokePermissionResponse
        )
    }
}
