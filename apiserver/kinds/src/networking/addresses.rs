//! IPAddress and ServiceCIDR: the ranges of cluster IPs and what is taken from them.

use std::net::IpAddr;

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::{cells, check, equal, metadata, strategy};

const IP_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "ParentRef",
        "ParentRef references the resource that an IPAddress is attached to.",
    ),
];
const CIDR_COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "CIDRs",
        "CIDRs defines the IP blocks in CIDR notation from which to assign service cluster IPs.",
    ),
    cells::AGE,
];

/// One allocated address; its name is the address.
pub struct IPAddress;
/// A range of cluster IPs.
pub struct ServiceCIDR;

impl Kind for IPAddress {
    resource!("networking.k8s.io", "v1", "ipaddresses");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, canonical_ip);
        let parent = Cursor::root(new).child("spec").child("parentRef");
        if let Some(old) = old {
            let before = Cursor::root(old).child("spec").child("parentRef");
            check::immutable(&mut e, &parent, &before);
            return e;
        }
        if parent.is_absent() {
            e.required(parent.path(), "");
            return e;
        }
        let group = parent.child("group");
        if !group.str().is_empty() {
            check::named(&mut e, &group, names::is_dns1123_subdomain);
        }
        for key in ["resource", "name"] {
            check::required_name(&mut e, &parent.child(key), metadata::path_segment_name);
        }
        if !parent.child("namespace").str().is_empty() {
            check::named(&mut e, &parent.child("namespace"), metadata::path_segment_name);
        }
        e
    }

    fn columns(&self) -> &[Column] {
        IP_COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        let parent = &obj["spec"]["parentRef"];
        let text = |key: &str| parent[key].as_str().unwrap_or("");
        let resource = match text("group") {
            "" => text("resource").to_owned(),
            group => format!("{}.{group}", text("resource")),
        };
        let name = match text("namespace") {
            "" => format!("{resource}/{}", text("name")),
            namespace => format!("{resource}/{namespace}/{}", text("name")),
        };
        let shown = if parent.is_null() {
            "<none>".to_owned()
        } else {
            name
        };
        vec![cells::name(obj), shown.into()]
    }
}

fn canonical_ip(name: &str) -> Vec<String> {
    let canonical = name.parse::<IpAddr>().map(|ip| ip.to_string());
    match canonical {
        Ok(text) if text == name => Vec::new(),
        Ok(_) => vec!["must be a canonical form IP address".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

impl Kind for ServiceCIDR {
    resource!("networking.k8s.io", "v1", "servicecidrs");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let cidrs = Cursor::root(new).child("spec").child("cidrs");
        if let Some(old) = old {
            let before = &old["spec"]["cidrs"];
            if !equal::same(cidrs.value(), before) && !adds_family(cidrs.value(), before) {
                check::invalid(&mut e, &cidrs, check::IMMUTABLE);
            }
            return e;
        }
        if cidrs.is_empty() {
            e.required(cidrs.path(), "at least one CIDR required");
        } else if cidrs.len() > 2 {
            check::invalid(&mut e, &cidrs, "may only hold up to 2 values");
        }
        let sixes = cidrs.items().filter(|cidr| cidr.str().contains(':')).count();
        if cidrs.len() == 2 && sixes != 1 {
            check::invalid(
                &mut e,
                &cidrs,
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
            );
        }
        for cidr in cidrs.items() {
            check::cidr(&mut e, &cidr);
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&strategy::STATUS)
    }

    fn columns(&self) -> &[Column] {
        CIDR_COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let cidrs: Vec<&str> = cells::list(&obj["spec"]["cidrs"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![cells::name(obj), cidrs.join(",").into(), cells::age(obj, now)]
    }
}

/// A range of one family may get one of the other beside.
fn adds_family(new: &Value, old: &Value) -> bool {
    let (new, old) = (cells::list(new), cells::list(old));
    old.len() == 1 && new.len() == 2 && new[0] == old[0]
}
