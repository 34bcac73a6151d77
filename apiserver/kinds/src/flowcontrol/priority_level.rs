//! PriorityLevelConfiguration: how many requests of a level run at once, and how the rest waits.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Type",
        "type indicates whether this priority level is subject to limitation on request execution.",
    ),
    cells::text(
        "NominalConcurrencyShares",
        "nominalConcurrencyShares contributes to the computation of the NominalConcurrencyLimit of this level.",
    ),
    cells::text(
        "Queues",
        "queues is the number of queues for this priority level.",
    ),
    cells::text(
        "HandSize",
        "handSize is a small positive number that configures the shuffle sharding of requests into queues.",
    ),
    cells::text(
        "QueueLengthLimit",
        "queueLengthLimit is the maximum number of requests allowed to be waiting in a given queue of this priority level at a time",
    ),
    cells::AGE,
];

pub struct PriorityLevelConfiguration;

impl Kind for PriorityLevelConfiguration {
    resource!(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "prioritylevelconfigurations"
    );

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        if let Some(limited) = set::some(spec, "limited") {
            set::absent(limited, "nominalConcurrencyShares", 30);
            set::absent(limited, "lendablePercent", 0);
            if let Some(queuing) = set::some(limited, "limitResponse").and_then(|r| set::some(r, "queuing")) {
                set::zero(queuing, "handSize", 8);
                set::zero(queuing, "queues", 64);
                set::zero(queuing, "queueLengthLimit", 50);
            }
        }
        if let Some(exempt) = set::some(spec, "exempt") {
            set::absent(exempt, "nominalConcurrencyShares", 0);
            set::absent(exempt, "lendablePercent", 0);
        } else if spec["type"] == "Exempt" {
            let exempt = set::object(spec, "exempt");
            set::put(exempt, "nominalConcurrencyShares", 0);
            set::put(exempt, "lendablePercent", 0);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let level = Cursor::root(new);
        let spec = level.child("spec");
        let name = level.child("metadata").child("name").str();
        let kind = spec.child("type");
        if (name == "exempt") != (kind.str() == "Exempt") {
            let detail = "type must be 'Exempt' if and only if name is 'exempt'";
            check::invalid_str(&mut e, &kind, detail);
        }
        let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
        match kind.str() {
            "Exempt" if !limited.is_absent() => {
                e.forbidden(limited.path(), "must be nil if the type is not Limited");
            }
            "Exempt" => {}
            "Limited" => {
                if !exempt.is_absent() {
                    e.forbidden(exempt.path(), "must be nil if the type is Limited");
                }
                match limited.is_absent() {
                    true => e.required(limited.path(), "must not be empty when type is Limited"),
                    false => self::limited(&mut e, &limited),
                }
            }
            other => e.not_supported(kind.path(), other, &["Exempt", "Limited"]),
        }
        if let Some(old) = old
            && name == "exempt"
            && !equal::unchanged(kind.value(), &old["spec"]["type"])
        {
            check::invalid(&mut e, &spec, check::IMMUTABLE);
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
        let spec = &obj["spec"];
        let queuing = &spec["limited"]["limitResponse"]["queuing"];
        let number = |value: &Value| -> Value {
            value
                .as_i64()
                .map_or("<none>".to_owned(), |number| number.to_string())
                .into()
        };
        let shares = match spec["limited"].is_object() {
            true => &spec["limited"]["nominalConcurrencyShares"],
            false => &spec["exempt"]["nominalConcurrencyShares"],
        };
        vec![
            cells::name(obj),
            spec["type"].as_str().unwrap_or("").into(),
            number(shares),
            number(&queuing["queues"]),
            number(&queuing["handSize"]),
            number(&queuing["queueLengthLimit"]),
            cells::age(obj, now),
        ]
    }
}

fn limited(e: &mut FieldErrors, c: &Cursor) {
    let shares = c.child("nominalConcurrencyShares");
    if shares.i64().unwrap_or(0) < 0 {
        check::invalid_int(e, &shares, "must be a non-negative integer");
    }
    let lendable = c.child("lendablePercent");
    if !(0..=100).contains(&lendable.i64().unwrap_or(0)) {
        check::invalid_int(e, &lendable, "must be between 0 and 100, inclusive");
    }
    let response = c.child("limitResponse");
    let queuing = response.child("queuing");
    match response.child("type").str() {
        "Reject" if !queuing.is_absent() => {
            e.forbidden(
                queuing.path(),
                "must be nil if limited.limitResponse.type is not Limited",
            );
        }
        "Reject" => {}
        "Queue" if queuing.is_absent() => e.required(
            queuing.path(),
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        "Queue" => {
            for key in ["queueLengthLimit", "queues", "handSize"] {
                if queuing.child(key).i64().unwrap_or(0) <= 0 {
                    check::invalid_int(e, &queuing.child(key), "must be positive");
                }
            }
            let (hand, queues) = (
                queuing.child("handSize"),
                queuing.child("queues").i64().unwrap_or(0),
            );
            if hand.i64().is_some_and(|size| size > queues) {
                let detail = format!("should not be greater than queues ({queues})");
                check::invalid_int(e, &hand, detail);
            }
        }
        other => e.not_supported(response.child("type").path(), other, &["Queue", "Reject"]),
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let list = Cursor::root(new).child("status").child("conditions");
        check::unique(e, &list, "type");
    },
};
