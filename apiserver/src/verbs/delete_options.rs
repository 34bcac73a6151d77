//! `meta.v1.DeleteOptions`, from the body or the query.

use keelson_machinery::{FieldErrors, GroupKind, Path, Status, Value};
use keelson_schema::{protobuf, types, yaml};
use serde_json::json;

use super::decode::read_body;
use crate::context::Context;
use crate::wire::negotiate::{Encoding, body_encoding};

/// What becomes of the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// The options, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    pub grace_s: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    /// The deprecated `orphanDependents`.
    pub orphan: Option<bool>,
    pub dry_run: bool,
    /// As sent, for admission.
    pub value: Value,
}

impl DeleteOptions {
    /// Reads the body, or the query where there is none.
    pub async fn read(context: &mut Context) -> Result<Self, Status> {
        let encoding = body_encoding(&context.parts.headers);
        let body = read_body(context).await?;
        let value = if body.is_empty() {
            from_query(context)?
        } else {
            let refuse = |why: String| Status::bad_request(why);
            match encoding? {
                Encoding::Protobuf => from_protobuf(&body)?,
                Encoding::Yaml => yaml::to_value(&body).map_err(|e| refuse(e.to_string()))?,
                Encoding::Json => serde_json::from_slice(&body)
                    .map_err(|e| refuse(format!("couldn't get version/kind; json parse error: {e}")))?,
            }
        };
        let mut options = Self::parse(value)?;
        options.dry_run |= context.dry_run()?;
        Ok(options)
    }

    /// # Errors
    /// 400 or 422 with upstream's texts.
    pub fn parse(value: Value) -> Result<Self, Status> {
        let mut errors = FieldErrors::default();
        let kind = value["kind"].as_str().unwrap_or("DeleteOptions");
        if !kind.is_empty() && kind != "DeleteOptions" {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: {kind}"
            )));
        }
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let propagation = match value["propagationPolicy"].as_str() {
            None | Some("") => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.not_supported(
                    &Path::new("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                None
            }
        };
        let orphan = value["orphanDependents"].as_bool();
        if orphan.is_some() && value["propagationPolicy"].is_string() {
            errors.invalid(
                &Path::new("propagationPolicy"),
                value["propagationPolicy"].clone(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let dry_runs: Vec<&str> = value["dryRun"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if dry_runs.iter().any(|value| *value != "All") {
            errors.not_supported(&Path::new("dryRun"), dry_runs.clone(), &["All"]);
        }
        if !errors.is_empty() {
            let kind = GroupKind::new("meta.k8s.io", "DeleteOptions");
            return Err(Status::invalid(&kind, "", &errors));
        }
        Ok(Self {
            grace_s: value["gracePeriodSeconds"].as_i64(),
            uid: text(&value["preconditions"]["uid"]),
            resource_version: text(&value["preconditions"]["resourceVersion"]),
            propagation,
            orphan,
            dry_run: !dry_runs.is_empty(),
            value,
        })
    }
}

/// Clients frame the options under the group and version of whatever they delete.
fn from_protobuf(body: &[u8]) -> Result<Value, Status> {
    let refuse = |error: protobuf::Error| Status::bad_request(error.to_string());
    let (_, raw) = protobuf::unframe(body).map_err(refuse)?;
    let def = types::of("", "v1", "DeleteOptions")
        .ok_or_else(|| Status::internal("DeleteOptions has no definition"))?;
    protobuf::decode_as(raw, def).map_err(refuse)
}

fn from_query(context: &Context) -> Result<Value, Status> {
    let mut value = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
    if let Some(grace) = context.query.get("gracePeriodSeconds") {
        let grace: i64 = grace.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {grace:?}: invalid syntax"))
        })?;
        value["gracePeriodSeconds"] = grace.into();
    }
    if let Some(policy) = context.query.get("propagationPolicy") {
        value["propagationPolicy"] = policy.into();
    }
    if let Some(orphan) = context.query.flag("orphanDependents") {
        value["orphanDependents"] = orphan.into();
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_checked() {
        let options = DeleteOptions::parse(json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "dryRun": ["All"],
        }))
        .unwrap();
        assert_eq!(options.grace_s, Some(0));
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.uid.as_deref(), Some("u"));
        assert!(options.dry_run);
        for bad in [
            json!({"propagationPolicy": "Nope"}),
            json!({"dryRun": ["Some"]}),
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            json!({"kind": "Pod"}),
        ] {
            assert!(DeleteOptions::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
