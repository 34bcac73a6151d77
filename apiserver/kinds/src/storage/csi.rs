//! CSIDriver, CSINode and CSIStorageCapacity: what storage drivers say of themselves.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::pod::volumes;
use crate::{cells, check, set, strategy};

const DRIVER_COLUMNS: &[Column] = &[
    cells::NAME,
    Column::new(
        "AttachRequired",
        "boolean",
        "attachRequired indicates this CSI volume driver requires an attach operation.",
        0,
    ),
    Column::new(
        "PodInfoOnMount",
        "boolean",
        "podInfoOnMount indicates this CSI volume driver requires additional pod information during mount operations.",
        0,
    ),
    Column::new(
        "StorageCapacity",
        "boolean",
        "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity.",
        0,
    ),
    cells::text(
        "TokenRequests",
        "tokenRequests indicates the CSI driver needs pods' service account tokens.",
    ),
    Column::new(
        "RequiresRepublish",
        "boolean",
        "requiresRepublish indicates the CSI driver wants NodePublishVolume being periodically called.",
        0,
    ),
    cells::text(
        "Modes",
        "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports.",
    ),
    cells::AGE,
];
const NODE_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Drivers",
        "Drivers indicates the number of CSI drivers registered on the node",
    ),
    cells::AGE,
];
const CAPACITY_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "StorageClassName",
        "storageClassName represents the name of the StorageClass that the reported capacity applies to.",
    ),
    cells::text(
        "Capacity",
        "capacity is the value reported by the CSI driver in its GetCapacityResponse.",
    ),
];

pub struct CSIDriver;
pub struct CSINode;
pub struct CSIStorageCapacity;

impl Kind for CSIDriver {
    resource!("storage.k8s.io", "v1", "csidrivers");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::absent(spec, "attachRequired", true);
        for key in [
            "podInfoOnMount",
            "storageCapacity",
            "requiresRepublish",
            "seLinuxMount",
        ] {
            set::absent(spec, key, false);
        }
        set::absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if set::is_zero(&spec["volumeLifecycleModes"]) {
            set::put(spec, "volumeLifecycleModes", vec!["Persistent"]);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let name = Cursor::root(new).child("metadata").child("name");
        if old.is_none() {
            volumes::csi_driver(&mut e, &name);
        }
        let spec = Cursor::root(new).child("spec");
        for mode in spec.child("volumeLifecycleModes").items() {
            check::supported(&mut e, &mode, &["Ephemeral", "Persistent"]);
        }
        check::one_of_or_absent(
            &mut e,
            &spec.child("fsGroupPolicy"),
            &["File", "None", "ReadWriteOnceWithFSType"],
        );
        for request in spec.child("tokenRequests").items() {
            let expiry = request.child("expirationSeconds");
            if expiry.i64().is_some_and(|seconds| seconds < 600) {
                check::invalid_int(&mut e, &expiry, "may not specify a duration less than 10 minutes");
            }
        }
        if let Some(old) = old {
            for key in ["attachRequired", "volumeLifecycleModes"] {
                let before = Cursor::root(old).child("spec").child(key);
                check::immutable(&mut e, &spec.child(key), &before);
            }
        }
        e
    }

    fn columns(&self) -> &[Column] {
        DRIVER_COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let texts = |list: &Value, key: Option<&str>, none: &str| -> Value {
            let parts: Vec<&str> = cells::list(list)
                .iter()
                .filter_map(|one| key.map_or(one, |key| &one[key]).as_str())
                .collect();
            if parts.is_empty() {
                none.into()
            } else {
                parts.join(",").into()
            }
        };
        vec![
            cells::name(obj),
            (spec["attachRequired"] != false).into(),
            (spec["podInfoOnMount"] == true).into(),
            (spec["storageCapacity"] == true).into(),
            texts(&spec["tokenRequests"], Some("audience"), "<unset>"),
            (spec["requiresRepublish"] == true).into(),
            texts(&spec["volumeLifecycleModes"], None, "<none>"),
            cells::age(obj, now),
        ]
    }
}

impl Kind for CSINode {
    resource!("storage.k8s.io", "v1", "csinodes");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let drivers = Cursor::root(new).child("spec").child("drivers");
        check::unique(&mut e, &drivers, "name");
        for driver in drivers.items() {
            volumes::csi_driver(&mut e, &driver.child("name"));
            check::required(&mut e, &driver.child("nodeID"));
            check::non_negative(&mut e, &driver.child("allocatable").child("count"));
            for key in driver.child("topologyKeys").items() {
                check::label_name(&mut e, &key);
            }
        }
        e
    }

    fn columns(&self) -> &[Column] {
        NODE_COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(obj),
            cells::list(&obj["spec"]["drivers"]).len().into(),
            cells::age(obj, now),
        ]
    }
}

impl Kind for CSIStorageCapacity {
    resource!("storage.k8s.io", "v1", "csistoragecapacities");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let capacity = Cursor::root(new);
        check::label_selector(&mut e, &capacity.child("nodeTopology"));
        for message in names::is_dns1123_subdomain(capacity.child("storageClassName").str()) {
            check::invalid_str(&mut e, &capacity.child("storageClassName"), message);
        }
        check::quantity(&mut e, &capacity.child("capacity"));
        check::quantity(&mut e, &capacity.child("maximumVolumeSize"));
        if let Some(old) = old {
            for key in ["nodeTopology", "storageClassName"] {
                check::immutable(&mut e, &capacity.child(key), &Cursor::root(old).child(key));
            }
        }
        e
    }

    fn columns(&self) -> &[Column] {
        CAPACITY_COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        let amount = match obj["capacity"].is_null() {
            true => "<unset>".to_owned(),
            false => check::amount_text(&obj["capacity"]),
        };
        vec![
            cells::name(obj),
            obj["storageClassName"].as_str().unwrap_or("").into(),
            amount.into(),
        ]
    }
}
