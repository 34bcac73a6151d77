//! Objects that record who made them: certificate requests, so that their approvers know whom they deal with.

use keelson_auth::UserInfo;
use keelson_machinery::Value;

use super::Target;

/// Writes the requestor over whatever the client claims.
pub fn record(target: &Target, object: &mut Value, user: &UserInfo) {
    let resource = target.served.group_resource();
    if resource.group != "certificates.k8s.io" || resource.resource != "certificatesigningrequests" {
        return;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    if let Value::Object(fields) = user.to_value() {
        spec.extend(fields);
    }
}
