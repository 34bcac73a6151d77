//! ResourceSlice: devices a driver offers on a node.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Name, resource};
use crate::pod::{affinity, volumes};
use crate::{cells, check, strategy};

const DEVICES_MAX: usize = 128;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Node",
        "NodeName identifies the node which provides the resources in this pool.",
    ),
    cells::text(
        "Driver",
        "Driver identifies the DRA driver providing the capacity information.",
    ),
    cells::text(
        "Pool",
        "Pool describes the pool that this ResourceSlice belongs to.",
    ),
    cells::AGE,
];
const FIELDS: &[Name] = &[Name::Borrowed("spec.nodeName"), Name::Borrowed("spec.driver")];

pub struct ResourceSlice;

impl Kind for ResourceSlice {
    resource!("resource.k8s.io", "v1", "resourceslices");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        volumes::csi_driver(&mut e, &spec.child("driver"));
        pool(&mut e, &spec.child("pool"));
        node(&mut e, &spec);
        let devices = spec.child("devices");
        if devices.len() > DEVICES_MAX {
            e.too_many(devices.path(), devices.len(), DEVICES_MAX);
        }
        check::unique(&mut e, &devices, "name");
        for device in devices.items() {
            check::required_name(&mut e, &device.child("name"), names::is_dns1123_label);
        }
        if let Some(old) = old {
            let before = Cursor::root(old).child("spec");
            for key in ["driver", "nodeName"] {
                check::immutable(&mut e, &spec.child(key), &before.child(key));
            }
            let name = spec.child("pool").child("name");
            check::immutable(&mut e, &name, &before.child("pool").child("name"));
        }
        e
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, false);
        for (name, key) in FIELDS.iter().zip(["nodeName", "driver"]) {
            fields.push((name.clone(), obj["spec"][key].as_str().unwrap_or("").to_owned()));
        }
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let node = match (spec["nodeName"].as_str(), spec["allNodes"].as_bool()) {
            (Some(node), _) if !node.is_empty() => node,
            (_, Some(true)) => "<all>",
            _ => "<unset>",
        };
        vec![
            cells::name(obj),
            node.into(),
            spec["driver"].as_str().unwrap_or("").into(),
            spec["pool"]["name"].as_str().unwrap_or("").into(),
            cells::age(obj, now),
        ]
    }
}

fn pool(e: &mut FieldErrors, c: &Cursor) {
    let name = c.child("name");
    if check::required(e, &name) {
        for part in name.str().split('/') {
            for message in names::is_dns1123_subdomain(part) {
                e.invalid(name.path(), part, message);
            }
        }
    }
    let count = c.child("resourceSliceCount");
    if count.i64().unwrap_or(0) <= 0 {
        check::invalid_int(e, &count, "must be greater than zero");
    }
    check::non_negative(e, &c.child("generation"));
}

/// Exactly one way of saying where the devices are.
fn node(e: &mut FieldErrors, spec: &Cursor) {
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let ways = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let set: Vec<&str> = ways
        .iter()
        .copied()
        .filter(|way| !spec.child(way).is_zero())
        .collect();
    match set.len() {
        0 => e.required(spec.path(), ONE),
        1 => {}
        _ => check::invalid(e, spec, format!("{ONE}, but multiple fields are set")),
    }
    let name = spec.child("nodeName");
    if !name.str().is_empty() {
        check::named(e, &name, names::is_dns1123_subdomain);
    }
    if !spec.child("nodeSelector").is_absent() {
        affinity::node_selector(e, &spec.child("nodeSelector"));
    }
}
