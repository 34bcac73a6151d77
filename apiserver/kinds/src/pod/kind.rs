//! The Pod kind: strategy, subresources, selectable fields.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value};
use serde_json::json;

use super::ephemeral::EphemeralContainers;
use super::resize::Resize;
use super::status::PodStatus;
use super::{columns, defaults, match_keys, qos, update, warnings};
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::{metadata, set, strategy};

pub struct Pod;

const FIELDS: &[Name] = &[
    Name::Borrowed("spec.nodeName"),
    Name::Borrowed("spec.restartPolicy"),
    Name::Borrowed("spec.schedulerName"),
    Name::Borrowed("spec.serviceAccountName"),
    Name::Borrowed("spec.hostNetwork"),
    Name::Borrowed("status.phase"),
    Name::Borrowed("status.podIP"),
    Name::Borrowed("status.podIPs"),
    Name::Borrowed("status.nominatedNodeName"),
];

impl Kind for Pod {
    resource!("", "v1", "pods");

    fn set_defaults(&self, pod: &mut Value) {
        let spec = set::object(pod, "spec");
        defaults::spec(spec);
        defaults::pod_only(spec);
    }

    fn prepare_create(&self, pod: &mut Value) {
        strategy::first_generation(pod);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(&pod["spec"])});
        if pod["spec"]["schedulingGates"]
            .as_array()
            .is_some_and(|gates| !gates.is_empty())
        {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        set::put(pod, "status", status);
        match_keys::merge(pod);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = FieldErrors::default();
        let pod = Cursor::root(new);
        let spec = pod.child("spec");
        match old {
            None => {
                super::validate_pod(&mut e, &pod);
                if !spec.child("ephemeralContainers").is_empty() {
                    e.forbidden(
                        spec.child("ephemeralContainers").path(),
                        "cannot be set on create",
                    );
                }
                if !spec.child("nodeName").str().is_empty() && !spec.child("schedulingGates").is_empty() {
                    e.forbidden(
                        spec.child("nodeName").path(),
                        "cannot be set until all schedulingGates have been cleared",
                    );
                }
            }
            Some(old) => {
                e.extend(metadata::validate_update(new, old));
                super::validate_spec(&mut e, &spec, true);
                update::validate(&mut e, &spec, &Cursor::root(old).child("spec"));
            }
        }
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = warnings::name(new, "this is used in the Pod's hostname");
        warnings.extend(warnings::spec(
            &Cursor::root(new).child("spec"),
            Some(&new["metadata"]),
        ));
        warnings
    }

    fn canonicalize(&self, pod: &mut Value) {
        defaults::sync_service_account(set::object(pod, "spec"));
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        match name {
            "status" => Some(&PodStatus),
            "ephemeralcontainers" => Some(&EphemeralContainers),
            "resize" => Some(&Resize),
            _ => None,
        }
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, pod: &Value) -> Vec<(Name, String)> {
        let text = |part: &str, key: &str| pod[part][key].as_str().unwrap_or("").to_owned();
        let mut fields = strategy::metadata_fields(pod, true);
        for name in FIELDS {
            let (part, key) = name.split_once('.').expect("every field here has two parts");
            let value = match key {
                "hostNetwork" => (pod["spec"]["hostNetwork"] == true).to_string(),
                "podIP" => match pod["status"]["podIPs"][0]["ip"].as_str() {
                    Some(first) => first.to_owned(),
                    None => text(part, key),
                },
                "podIPs" => continue,
                _ => text(part, key),
            };
            fields.push((name.clone(), value));
        }
        fields
    }

    fn convert_field_label(&self, label: &str) -> Result<Name, String> {
        // What clients older than 1.0 send.
        let label = if label == "spec.host" {
            "spec.nodeName"
        } else {
            label
        };
        strategy::convert_field_label(FIELDS, label)
    }

    fn columns(&self) -> &[Column] {
        columns::COLUMNS
    }

    fn cells(&self, pod: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(pod, now)
    }

    /// A pod that runs nowhere, or has ended, goes at once; 0 means at once too.
    fn graceful_delete(&self, pod: &Value, grace: Option<i64>) -> Option<i64> {
        let period = match grace {
            Some(period) => period,
            None => pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0),
        };
        let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty();
        let ended = ["Failed", "Succeeded"].contains(&pod["status"]["phase"].as_str().unwrap_or(""));
        Some(match period {
            _ if unscheduled || ended => 0,
            ..0 => 1,
            period => period,
        })
    }
}
