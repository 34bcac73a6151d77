//! The v3 JSON gateway: the unary calls of KV, Lease, Cluster, Maintenance and Auth as POST requests.
//!
//! JSON follows protobuf's mapping as etcd's gateway writes it: bytes in base64, 64-bit numbers as strings, fields at
//! their default left out. Left out: streams (watch, keep-alive as a stream, snapshot), which answer 501.

use ::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_mvcc::auth::Caller;
use serde_json::{Map, Value, json};
use tonic::body::Body;
use tonic::{Code, Request, Status};

use super::Services;
use super::http::text;
use crate::service::{Connection, identify, status};

const JSON: &str = "application/json";

/// Calls what a path names.
pub async fn call(
    services: &mut Services,
    path: &str,
    body: &Bytes,
    token: Option<&str>,
    connection: &Connection,
) -> Response<Body> {
    let mut metadata = tonic::metadata::MetadataMap::new();
    if let Some(token) = token.and_then(|token| token.parse().ok()) {
        metadata.insert("token", token);
    }
    let parsed: Result<Value, _> = if body.is_empty() {
        Ok(json!({}))
    } else {
        serde_json::from_slice(body)
    };
    let answered = match (identify(&services.api, &metadata, Some(connection)), parsed) {
        (Err(refused), _) => Err(refused),
        (_, Err(error)) => Err(Status::invalid_argument(error.to_string())),
        (Ok(caller), Ok(value)) => dispatch(services, path, &value, caller, metadata).await,
    };
    match answered {
        Ok(value) => text(StatusCode::OK, JSON, value.to_string()),
        Err(refused) => refusal(&refused),
    }
}

/// A gRPC error as the gateway writes it.
pub fn refusal(refused: &Status) -> Response<Body> {
    let code = match refused.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let number = refused.code() as i32;
    let body = json!({"error": refused.message(), "code": number, "message": refused.message()});
    text(code, JSON, body.to_string())
}

#[expect(clippy::too_many_lines, reason = "one arm per path of the gateway")]
async fn dispatch(
    services: &mut Services,
    path: &str,
    value: &Value,
    caller: Caller,
    metadata: tonic::metadata::MetadataMap,
) -> Result<Value, Status> {
    use pb::auth_server::Auth;
    use pb::cluster_server::Cluster;
    use pb::maintenance_server::Maintenance;
    let api = services.api.clone();
    let from = Fields(value);
    let auth = crate::service::auth::AuthService {
        api: api.clone(),
        cost: bcrypt::DEFAULT_COST,
    };
    let cluster = crate::service::cluster::ClusterService(api.clone());
    let maintenance = crate::service::maintenance::MaintenanceService {
        api: api.clone(),
        scratch: std::path::PathBuf::new(),
    };
    macro_rules! through {
        ($service:ident . $method:ident ( $request:expr )) => {{
            let mut request = Request::new($request);
            *request.metadata_mut() = metadata.clone();
            $service.$method(request).await?.into_inner()
        }};
    }
    Ok(match path {
        "/v3/kv/range" => range_json(&api.range(&caller, range(&from)?).await.map_err(status)?),
        "/v3/kv/put" => put_json(&api.put(&caller, put(&from)?).await.map_err(status)?),
        "/v3/kv/deleterange" => {
            delete_json(&api.delete_range(&caller, delete(&from)?).await.map_err(status)?)
        }
        "/v3/kv/txn" => txn_json(&api.txn(&caller, txn(&from)?).await.map_err(status)?),
        "/v3/kv/compaction" => {
            let request = pb::CompactionRequest {
                revision: from.number("revision")?,
                physical: from.flag("physical"),
            };
            header_json(api.compact(&caller, request).await.map_err(status)?.header)
        }
        "/v3/lease/grant" => {
            let request = pb::LeaseGrantRequest {
                ttl: from.number("TTL")?,
                id: from.number("ID")?,
            };
            let granted = api.lease_grant(&caller, request).await.map_err(status)?;
            with_header(
                granted.header,
                json!({"ID": granted.id.to_string(), "TTL": granted.ttl.to_string()}),
            )
        }
        "/v3/lease/revoke" | "/v3/kv/lease/revoke" => {
            let request = pb::LeaseRevokeRequest {
                id: from.number("ID")?,
            };
            header_json(api.lease_revoke(&caller, request).await.map_err(status)?.header)
        }
        "/v3/lease/keepalive" => {
            let id = from.number("ID")?;
            let header = api.header_now();
            let ttl = api.lease_renew(id).await.map_err(status)?;
            json!({"result": with_header(header, json!({"ID": id.to_string(), "TTL": ttl.to_string()}))})
        }
        "/v3/lease/timetolive" | "/v3/kv/lease/timetolive" => {
            let request = pb::LeaseTimeToLiveRequest {
                id: from.number("ID")?,
                keys: from.flag("keys"),
            };
            let left = api.lease_time_to_live(&caller, &request).await.map_err(status)?;
            let keys: Vec<String> = left.keys.iter().map(|key| STANDARD.encode(key)).collect();
            let fields = json!({"ID": left.id.to_string(), "TTL": left.ttl.to_string(),
                "grantedTTL": left.granted_ttl.to_string(), "keys": keys});
            with_header(left.header, fields)
        }
        "/v3/lease/leases" | "/v3/kv/lease/leases" => {
            let leases: Vec<Value> = {
                let state = api.shared.state.read();
                state
                    .leases()
                    .iter()
                    .map(|(id, _)| json!({"ID": id.to_string()}))
                    .collect()
            };
            with_header(api.header_now(), json!({"leases": leases}))
        }
        "/v3/cluster/member/list" => {
            let answer = through!(cluster.member_list(pb::MemberListRequest {
                linearizable: from.flag("linearizable")
            }));
            with_header(answer.header, json!({"members": members_json(&answer.members)}))
        }
        "/v3/maintenance/status" => {
            let answer = through!(maintenance.status(pb::StatusRequest {}));
            let fields = json!({"version": answer.version, "dbSize": answer.db_size.to_string(),
                "leader": answer.leader.to_string(), "raftIndex": answer.raft_index.to_string(),
                "raftTerm": answer.raft_term.to_string(),
                "raftAppliedIndex": answer.raft_applied_index.to_string(),
                "dbSizeInUse": answer.db_size_in_use.to_string(), "errors": answer.errors});
            with_header(answer.header, fields)
        }
        "/v3/maintenance/hash" => {
            let answer = through!(maintenance.hash_kv(pb::HashKvRequest {
                revision: from.number("revision")?
            }));
            let fields = json!({"hash": answer.hash, "compact_revision": answer.compact_revision.to_string(),
                "hash_revision": answer.hash_revision.to_string()});
            with_header(answer.header, fields)
        }
        "/v3/auth/authenticate" => {
            let request = pb::AuthenticateRequest {
                name: from.text("name"),
                password: from.text("password"),
            };
            let answer = through!(auth.authenticate(request));
            with_header(answer.header, json!({"token": answer.token}))
        }
        "/v3/auth/enable" => header_json(through!(auth.auth_enable(pb::AuthEnableRequest {})).header),
        "/v3/auth/disable" => header_json(through!(auth.auth_disable(pb::AuthDisableRequest {})).header),
        "/v3/auth/user/add" => {
            let request = pb::AuthUserAddRequest {
                name: from.text("name"),
                password: from.text("password"),
                ..Default::default()
            };
            header_json(through!(auth.user_add(request)).header)
        }
        "/v3/auth/user/grant" => {
            let request = pb::AuthUserGrantRoleRequest {
                user: from.text("user"),
                role: from.text("role"),
            };
            header_json(through!(auth.user_grant_role(request)).header)
        }
        "/v3/auth/role/add" => {
            let request = pb::AuthRoleAddRequest {
                name: from.text("name"),
            };
            header_json(through!(auth.role_add(request)).header)
        }
        _ => {
            return Err(Status::unimplemented(format!(
                "the gateway does not serve {path}"
            )));
        }
    })
}

/// The fields of a JSON request; missing ones have protobuf's default.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn number(&self, name: &str) -> Result<i64, Status> {
        let wrong = || Status::invalid_argument(format!("field {name} is not a number"));
        match &self.0[name] {
            Value::Null => Ok(0),
            Value::Number(number) => number.as_i64().ok_or_else(wrong),
            Value::String(text) => text.parse().map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    fn text(&self, name: &str) -> String {
        self.0[name].as_str().unwrap_or("").to_owned()
    }

    fn bytes(&self, name: &str) -> Result<Bytes, Status> {
        let text = self.0[name].as_str().unwrap_or("");
        let decoded = STANDARD.decode(text);
        decoded
            .map(Bytes::from)
            .map_err(|_| Status::invalid_argument(format!("field {name} is not base64")))
    }

    fn choice(&self, name: &str, names: &[&str]) -> Result<i32, Status> {
        match &self.0[name] {
            Value::Null => Ok(0),
            Value::Number(number) => Ok(number
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .unwrap_or(0)),
            Value::String(text) => names
                .iter()
                .position(|known| known == text)
                .map(|position| position as i32)
                .ok_or_else(|| Status::invalid_argument(format!("field {name} has no value {text}"))),
            _ => Err(Status::invalid_argument(format!("field {name} is not a name"))),
        }
    }

    fn list<'a, T>(
        &'a self,
        name: &str,
        read: impl Fn(&Fields<'a>) -> Result<T, Status>,
    ) -> Result<Vec<T>, Status> {
        let items = self.0[name].as_array().map_or(&[][..], Vec::as_slice);
        items.iter().map(|item| read(&Fields(item))).collect()
    }
}

fn range(from: &Fields<'_>) -> Result<pb::RangeRequest, Status> {
    Ok(pb::RangeRequest {
        key: from.bytes("key")?,
        range_end: from.bytes("range_end")?,
        limit: from.number("limit")?,
        revision: from.number("revision")?,
        sort_order: from.choice("sort_order", &["NONE", "ASCEND", "DESCEND"])?,
        sort_target: from.choice("sort_target", &["KEY", "VERSION", "CREATE", "MOD", "VALUE"])?,
        serializable: from.flag("serializable"),
        keys_only: from.flag("keys_only"),
        count_only: from.flag("count_only"),
        min_mod_revision: from.number("min_mod_revision")?,
        max_mod_revision: from.number("max_mod_revision")?,
        min_create_revision: from.number("min_create_revision")?,
        max_create_revision: from.number("max_create_revision")?,
    })
}

fn put(from: &Fields<'_>) -> Result<pb::PutRequest, Status> {
    Ok(pb::PutRequest {
        key: from.bytes("key")?,
        value: from.bytes("value")?,
        lease: from.number("lease")?,
        prev_kv: from.flag("prev_kv"),
        ignore_value: from.flag("ignore_value"),
        ignore_lease: from.flag("ignore_lease"),
    })
}

fn delete(from: &Fields<'_>) -> Result<pb::DeleteRangeRequest, Status> {
    Ok(pb::DeleteRangeRequest {
        key: from.bytes("key")?,
        range_end: from.bytes("range_end")?,
        prev_kv: from.flag("prev_kv"),
    })
}

fn txn(from: &Fields<'_>) -> Result<pb::TxnRequest, Status> {
    Ok(pb::TxnRequest {
        compare: from.list("compare", compare)?,
        success: from.list("success", request_op)?,
        failure: from.list("failure", request_op)?,
    })
}

fn request_op(from: &Fields<'_>) -> Result<pb::RequestOp, Status> {
    use pb::request_op::Request;
    let present = |name: &str| (!from.0[name].is_null()).then(|| Fields(&from.0[name]));
    let request = if let Some(fields) = present("request_range").or_else(|| present("requestRange")) {
        Request::RequestRange(range(&fields)?)
    } else if let Some(fields) = present("request_put").or_else(|| present("requestPut")) {
        Request::RequestPut(put(&fields)?)
    } else if let Some(fields) = present("request_delete_range").or_else(|| present("requestDeleteRange")) {
        Request::RequestDeleteRange(delete(&fields)?)
    } else if let Some(fields) = present("request_txn").or_else(|| present("requestTxn")) {
        Request::RequestTxn(txn(&fields)?)
    } else {
        return Err(Status::invalid_argument("an operation has no request"));
    };
    Ok(pb::RequestOp {
        request: Some(request),
    })
}

fn compare(from: &Fields<'_>) -> Result<pb::Compare, Status> {
    use pb::compare::TargetUnion;
    let target = from.choice("target", &["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])?;
    let union = match target {
        0 => TargetUnion::Version(from.number("version")?),
        1 => TargetUnion::CreateRevision(from.number("create_revision")?),
        2 => TargetUnion::ModRevision(from.number("mod_revision")?),
        3 => TargetUnion::Value(from.bytes("value")?),
        _ => TargetUnion::Lease(from.number("lease")?),
    };
    Ok(pb::Compare {
        result: from.choice("result", &["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])?,
        target,
        key: from.bytes("key")?,
        range_end: from.bytes("range_end")?,
        target_union: Some(union),
    })
}

/// Sets fields that are not at their default.
fn object(fields: &[(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        let default = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty() || text == "0",
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !default {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    Value::Object(object)
}

fn header_value(header: Option<pb::ResponseHeader>) -> Value {
    let header = header.unwrap_or_default();
    object(&[
        ("cluster_id", header.cluster_id.to_string().into()),
        ("member_id", header.member_id.to_string().into()),
        ("revision", header.revision.to_string().into()),
        ("raft_term", header.raft_term.to_string().into()),
    ])
}

fn header_json(header: Option<pb::ResponseHeader>) -> Value {
    json!({"header": header_value(header)})
}

fn with_header(header: Option<pb::ResponseHeader>, fields: Value) -> Value {
    let mut pairs = vec![("header", header_value(header))];
    let fields = fields.as_object().cloned().unwrap_or_default();
    let own: Vec<(String, Value)> = fields.into_iter().collect();
    pairs.extend(own.iter().map(|(name, value)| (name.as_str(), value.clone())));
    object(&pairs)
}

fn kv_json(kv: &KeyValue) -> Value {
    object(&[
        ("key", STANDARD.encode(&kv.key).into()),
        ("create_revision", kv.create_revision.to_string().into()),
        ("mod_revision", kv.mod_revision.to_string().into()),
        ("version", kv.version.to_string().into()),
        ("value", STANDARD.encode(&kv.value).into()),
        ("lease", kv.lease.to_string().into()),
    ])
}

fn range_json(answer: &pb::RangeResponse) -> Value {
    object(&[
        ("header", header_value(answer.header)),
        ("kvs", answer.kvs.iter().map(kv_json).collect::<Vec<_>>().into()),
        ("more", answer.more.into()),
        ("count", answer.count.to_string().into()),
    ])
}

fn put_json(answer: &pb::PutResponse) -> Value {
    object(&[
        ("header", header_value(answer.header)),
        ("prev_kv", answer.prev_kv.as_ref().map_or(Value::Null, kv_json)),
    ])
}

fn delete_json(answer: &pb::DeleteRangeResponse) -> Value {
    object(&[
        ("header", header_value(answer.header)),
        ("deleted", answer.deleted.to_string().into()),
        (
            "prev_kvs",
            answer.prev_kvs.iter().map(kv_json).collect::<Vec<_>>().into(),
        ),
    ])
}

fn txn_json(answer: &pb::TxnResponse) -> Value {
    use pb::response_op::Response;
    let responses: Vec<Value> = answer
        .responses
        .iter()
        .map(|response| match &response.response {
            Some(Response::ResponseRange(range)) => json!({"response_range": range_json(range)}),
            Some(Response::ResponsePut(put)) => json!({"response_put": put_json(put)}),
            Some(Response::ResponseDeleteRange(delete)) => {
                json!({"response_delete_range": delete_json(delete)})
            }
            Some(Response::ResponseTxn(inner)) => json!({"response_txn": txn_json(inner)}),
            None => json!({}),
        })
        .collect();
    object(&[
        ("header", header_value(answer.header)),
        ("succeeded", answer.succeeded.into()),
        ("responses", responses.into()),
    ])
}

fn members_json(members: &[pb::Member]) -> Vec<Value> {
    let one = |member: &pb::Member| {
        object(&[
            ("ID", member.id.to_string().into()),
            ("name", member.name.clone().into()),
            ("peerURLs", member.peer_ur_ls.clone().into()),
            ("clientURLs", member.client_ur_ls.clone().into()),
            ("isLearner", member.is_learner.into()),
        ])
    };
    members.iter().map(one).collect()
}
