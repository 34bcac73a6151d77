//! ResourceClaim and ResourceClaimTemplate: requests for devices, and what was allocated.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::pod::volumes;
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const REQUESTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const RESERVED_MAX: usize = 256;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "State",
        "A summary of the current state (allocated, pending, reserved, etc.).",
    ),
    cells::AGE,
];

pub struct ResourceClaim;
pub struct ResourceClaimTemplate;

impl Kind for ResourceClaim {
    resource!("resource.k8s.io", "v1", "resourceclaims");

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(set::object(obj, "spec"));
        let allocated = set::some(obj, "status")
            .and_then(|status| set::some(status, "allocation"))
            .and_then(|allocation| set::some(allocation, "devices"));
        if let Some(devices) = allocated {
            set::items(devices, "results").for_each(tolerate);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", serde_json::Map::new());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        match old {
            Some(old) => {
                check::immutable(&mut e, &spec, &Cursor::root(old).child("spec"));
            }
            None => claim_spec(&mut e, &spec),
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let mut states = Vec::new();
        if !obj["metadata"]["deletionTimestamp"].is_null() {
            states.push("deleted");
        }
        match obj["status"]["allocation"].is_null() {
            true => states.push("pending"),
            false => {
                states.push("allocated");
                match cells::list(&obj["status"]["reservedFor"]) {
                    [] => {}
                    _ => states.push("reserved"),
                }
            }
        }
        vec![cells::name(obj), states.join(",").into(), cells::age(obj, now)]
    }
}

impl Kind for ResourceClaimTemplate {
    resource!("resource.k8s.io", "v1", "resourceclaimtemplates");

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(set::object(set::object(obj, "spec"), "spec"));
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        match old {
            Some(old) => check::immutable(&mut e, &spec, &Cursor::root(old).child("spec")),
            None => {
                check::labels(&mut e, &spec.child("metadata").child("labels"));
                check::annotations(&mut e, &spec.child("metadata").child("annotations"));
                claim_spec(&mut e, &spec.child("spec"));
            }
        }
        e
    }
}

fn set_defaults(spec: &mut Value) {
    let Some(devices) = set::some(spec, "devices") else {
        return;
    };
    for request in set::items(devices, "requests") {
        if let Some(exactly) = set::some(request, "exactly") {
            count(exactly);
        }
        for alternative in set::items(request, "firstAvailable") {
            count(alternative);
        }
    }
}

fn count(request: &mut Value) {
    set::zero(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        set::zero(request, "count", 1);
    }
    tolerate(request);
}

fn tolerate(request: &mut Value) {
    for toleration in set::items(request, "tolerations") {
        set::zero(toleration, "operator", "Equal");
    }
}

fn claim_spec(e: &mut FieldErrors, spec: &Cursor) {
    let devices = spec.child("devices");
    let requests = devices.child("requests");
    if requests.len() > REQUESTS_MAX {
        e.too_many(requests.path(), requests.len(), REQUESTS_MAX);
    }
    check::unique(e, &requests, "name");
    for request in requests.items() {
        self::request(e, &request);
    }
    let known: Vec<&str> = requests
        .items()
        .map(|request| request.child("name").str())
        .collect();
    for list in ["constraints", "config"] {
        for one in devices.child(list).items() {
            for name in one.child("requests").items() {
                let base = name.str().split('/').next().unwrap_or("");
                if !known.contains(&base) {
                    let detail = "must be the name of a request in the claim or the name of a request and a \
                                  subrequest separated by '/'";
                    check::invalid_str(e, &name, detail);
                }
            }
            match list {
                "config" => opaque(e, &one),
                _ if one.child("matchAttribute").is_absent()
                    && one.child("distinctAttribute").is_absent() =>
                {
                    e.required(one.child("matchAttribute").path(), "");
                }
                _ => {}
            }
        }
    }
}

fn request(e: &mut FieldErrors, c: &Cursor) {
    check::required_name(e, &c.child("name"), names::is_dns1123_label);
    let (exactly, first) = (c.child("exactly"), c.child("firstAvailable"));
    match (exactly.is_absent(), first.is_empty()) {
        (true, true) => e.required(
            c.path(),
            "exactly one of `exactly` or `firstAvailable` is required",
        ),
        (false, false) => check::invalid(
            e,
            c,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        _ => {}
    }
    check::unique(e, &first, "name");
    for alternative in first.items() {
        check::required_name(e, &alternative.child("name"), names::is_dns1123_label);
    }
    let all = first.items().chain(Some(exactly).filter(|c| !c.is_absent()));
    for one in all {
        let class = one.child("deviceClassName");
        check::required_name(e, &class, names::is_dns1123_subdomain);
        selectors(e, &one.child("selectors"));
        let (mode, count) = (one.child("allocationMode"), one.child("count"));
        check::supported(e, &mode, &["All", "ExactCount"]);
        match mode.str() {
            "All" if !count.is_zero() => {
                check::invalid_int(e, &count, "must not be specified when allocationMode is 'All'");
            }
            "ExactCount" if count.i64().unwrap_or(0) <= 0 => {
                check::invalid_int(e, &count, "must be greater than zero");
            }
            _ => {}
        }
    }
}

/// Device selectors: each a CEL expression.
pub fn selectors(e: &mut FieldErrors, list: &Cursor) {
    if list.len() > SELECTORS_MAX {
        e.too_many(list.path(), list.len(), SELECTORS_MAX);
    }
    for selector in list.items() {
        let cel = selector.child("cel");
        if cel.is_absent() {
            e.required(cel.path(), "");
        } else {
            check::required(e, &cel.child("expression"));
        }
    }
}

/// Configuration only a driver understands.
pub fn opaque(e: &mut FieldErrors, c: &Cursor) {
    let opaque = c.child("opaque");
    if opaque.is_absent() {
        e.required(opaque.path(), "");
        return;
    }
    volumes::csi_driver(e, &opaque.child("driver"));
    let parameters = opaque.child("parameters");
    if parameters.is_absent() {
        e.required(parameters.path(), "");
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, old, e| {
        let status = Cursor::root(new).child("status");
        let reserved = status.child("reservedFor");
        if reserved.len() > RESERVED_MAX {
            e.too_many(reserved.path(), reserved.len(), RESERVED_MAX);
        }
        let mut seen: Vec<&str> = Vec::new();
        for consumer in reserved.items() {
            let uid = consumer.child("uid");
            check::required(e, &uid);
            match seen.contains(&uid.str()) {
                true => e.duplicate(uid.path(), uid.str()),
                false => seen.push(uid.str()),
            }
        }
        let allocation = status.child("allocation");
        if allocation.is_absent() && !reserved.is_empty() {
            e.forbidden(
                reserved.path(),
                "may not be specified when `allocated` is not set",
            );
        }
        let before = &old["status"]["allocation"];
        if !before.is_null() && !allocation.is_absent() && !equal::unchanged(allocation.value(), before) {
            check::invalid(e, &allocation, check::IMMUTABLE);
        }
    },
};
