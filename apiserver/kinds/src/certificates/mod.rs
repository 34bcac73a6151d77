//! Kinds of `certificates.k8s.io`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names, time};

use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::{cells, check, equal, metadata, set, strategy};

const EXPIRATION_S_MIN: i64 = 600;
const SIGNER_BYTES_MAX: usize = 571;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::AGE,
    cells::text(
        "SignerName",
        "signerName indicates the requested signer, and is a qualified name.",
    ),
    cells::text(
        "Requestor",
        "username contains the name of the user that created the CertificateSigningRequest.",
    ),
    cells::text(
        "RequestedDuration",
        "expirationSeconds is the requested duration of validity of the issued certificate.",
    ),
    cells::text(
        "Condition",
        "conditions applied to the request. Known conditions are \"Approved\", \"Denied\", and \"Failed\".",
    ),
];
const FIELDS: &[Name] = &[Name::Borrowed("spec.signerName")];

/// CertificateSigningRequest. Who asks (`spec.username`, `uid`, `groups`, `extra`) is the server's to fill.
pub struct CertificateSigningRequest;

impl Kind for CertificateSigningRequest {
    resource!("certificates.k8s.io", "v1", "certificatesigningrequests");

    fn set_defaults(&self, obj: &mut Value) {
        for condition in set::items(set::object(obj, "status"), "conditions") {
            set::zero(condition, "status", "True");
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", serde_json::Map::new());
    }

    /// The request never changes, nor does a plain update touch the status.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "spec");
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        if old.is_none() {
            request(&mut e, &Cursor::root(new).child("spec"));
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        match name {
            "status" => Some(&Part::Status),
            "approval" => Some(&Part::Approval),
            _ => None,
        }
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, false);
        let signer = obj["spec"]["signerName"].as_str().unwrap_or("").to_owned();
        fields.push((FIELDS[0].clone(), signer));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let duration = spec["expirationSeconds"].as_i64().map(time::human_duration);
        vec![
            cells::name(obj),
            cells::age(obj, now),
            cells::or_none(spec["signerName"].as_str().unwrap_or("")).into(),
            spec["username"].as_str().unwrap_or("").into(),
            duration.unwrap_or_else(|| "<none>".to_owned()).into(),
            condition_text(&obj["status"]).into(),
        ]
    }
}

fn condition_text(status: &Value) -> String {
    let is = |kind: &str| {
        cells::list(&status["conditions"])
            .iter()
            .any(|c| c["type"] == kind)
    };
    let mut text = match (is("Denied"), is("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if is("Failed") {
        text.push_str(",Failed");
    }
    if !set::is_zero(&status["certificate"]) {
        text.push_str(",Issued");
    }
    text
}

fn request(e: &mut FieldErrors, spec: &Cursor) {
    let request = spec.child("request");
    let pem = STANDARD.decode(request.str()).unwrap_or_default();
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        check::invalid(e, &request, "PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.child("usages");
    if usages.is_empty() {
        e.required(usages.path(), "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for usage in usages.items() {
        check::supported(e, &usage, USAGES);
        match seen.contains(&usage.str()) {
            true => e.duplicate(usage.path(), usage.str()),
            false => seen.push(usage.str()),
        }
    }
    signer_name(e, &spec.child("signerName"));
    let expiration = spec.child("expirationSeconds");
    if expiration.i64().is_some_and(|seconds| seconds < EXPIRATION_S_MIN) {
        check::invalid_int(
            e,
            &expiration,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
}

/// A domain with at least one dot, then a path of one part.
pub fn signer_name(e: &mut FieldErrors, c: &Cursor) {
    if c.str().is_empty() {
        e.required(c.path(), "");
        return;
    }
    let parts: Vec<&str> = c.str().split('/').collect();
    let [domain, path] = parts.as_slice() else {
        check::invalid_str(
            e,
            c,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    for message in names::is_dns1123_subdomain(domain) {
        check::invalid_str(e, c, format!("validating label {domain:?}: {message}"));
    }
    if domain.split('.').count() < 2 {
        check::invalid_str(
            e,
            c,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for message in names::is_dns1123_subdomain(path) {
        check::invalid_str(e, c, format!("validating label {path:?}: {message}"));
    }
    if c.str().len() > SIGNER_BYTES_MAX {
        e.too_long(c.path(), SIGNER_BYTES_MAX);
    }
}

/// Approvers decide, signers issue: each may write only its own conditions.
enum Part {
    Status,
    Approval,
}

const DECISIONS: &[&str] = &["Approved", "Denied"];

impl Subresource for Part {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "spec");
        match self {
            // A client of the status subresource cannot add or drop decisions.
            Part::Status => {
                let mut conditions: Vec<Value> = cells::list(&old["status"]["conditions"])
                    .iter()
                    .filter(|c| is_decision(c))
                    .cloned()
                    .collect();
                let others = cells::list(&new["status"]["conditions"])
                    .iter()
                    .filter(|c| !is_decision(c));
                conditions.extend(others.cloned());
                set::put(set::object(new, "status"), "conditions", conditions);
            }
            Part::Approval => {
                let status = set::object(new, "status");
                let certificate = old["status"].get("certificate").cloned();
                match certificate {
                    Some(certificate) => set::put(status, "certificate", certificate),
                    None => drop(set::remove(status, "certificate")),
                }
            }
        }
        for condition in set::items(set::object(new, "status"), "conditions") {
            set::zero(condition, "status", "True");
        }
    }

    /// A condition of the same status keeps the time it came.
    fn stamp(&self, new: &mut Value, old: &Value, now: Timestamp) {
        let now = time::format_rfc3339(now);
        let before = cells::list(&old["status"]["conditions"]);
        for condition in set::items(set::object(new, "status"), "conditions") {
            set::zero(condition, "lastUpdateTime", now.clone());
            let same = before
                .iter()
                .find(|c| c["type"] == condition["type"] && c["status"] == condition["status"]);
            let since = same
                .and_then(|c| c["lastTransitionTime"].as_str())
                .unwrap_or(&now);
            set::zero(condition, "lastTransitionTime", since);
        }
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut e = metadata::validate_update(new, old);
        let status = Cursor::root(new).child("status");
        let list = status.child("conditions");
        conditions(&mut e, &list);
        let before = cells::list(&old["status"]["conditions"]);
        for kind in ["Approved", "Denied", "Failed"] {
            let had = before.iter().any(|c| c["type"] == kind);
            let has = list.items().any(|c| c.child("type").str() == kind);
            if had && !has {
                e.forbidden(
                    list.path(),
                    format!("updates may not remove a condition of type {kind:?}"),
                );
            }
        }
        let (certificate, issued) = (status.child("certificate"), &old["status"]["certificate"]);
        if !set::is_zero(issued) && !equal::same(certificate.value(), issued) {
            e.forbidden(
                certificate.path(),
                "updates may not set certificate content that has already been issued",
            );
        }
        e
    }
}

fn is_decision(condition: &Value) -> bool {
    DECISIONS.contains(&condition["type"].as_str().unwrap_or(""))
}

fn conditions(e: &mut FieldErrors, list: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status) = (condition.child("type"), condition.child("status"));
        check::required(e, &kind);
        match (
            DECISIONS.contains(&kind.str()) || kind.str() == "Failed",
            status.str(),
        ) {
            (_, "") => e.required(status.path(), ""),
            (true, "True") => {}
            (true, other) => e.not_supported(status.path(), other, &["True"]),
            (false, _) => check::supported(e, &status, &["True", "False", "Unknown"]),
        }
        match seen.contains(&kind.str()) {
            true => e.duplicate(condition.path(), kind.str()),
            false => seen.push(kind.str()),
        }
    }
    if DECISIONS.iter().all(|decision| seen.contains(decision)) {
        let second = list
            .items()
            .position(|c| c.child("type").str() == "Denied")
            .unwrap_or(0);
        let at = list.path().index(second).child("type");
        e.invalid(
            &at,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn requests() {
        let pem =
            STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n");
        let csr = |signer: &str| {
            json!({"metadata": {"name": "c"}, "spec": {"request": pem, "usages": ["client auth"],
                "signerName": signer}})
        };
        let kind = &CertificateSigningRequest;
        assert_eq!(
            create(kind, csr("kubernetes.io/kube-apiserver-client")),
            Vec::<String>::new()
        );
        assert_eq!(
            create(kind, csr("nobody")),
            [
                "spec.signerName: Invalid value: \"nobody\": must be a fully qualified domain and path of the form \
                 'example.com/signer-name'",
            ]
        );
    }

    #[test]
    fn signers_cannot_approve() {
        let old = json!({"metadata": {"name": "c"}, "status": {}});
        let mut new = json!({"metadata": {"name": "c"}, "status": {"certificate": "eA==",
            "conditions": [{"type": "Approved"}, {"type": "Failed"}]}});
        Part::Status.prepare_update(&mut new, &old);
        assert_eq!(
            new["status"]["conditions"],
            json!([{"type": "Failed", "status": "True"}])
        );
        assert_eq!(condition_text(&new["status"]), "Pending,Failed,Issued");
        Part::Status.stamp(&mut new, &old, Timestamp::UNIX_EPOCH);
        assert_eq!(
            new["status"]["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:00Z"
        );
    }
}
