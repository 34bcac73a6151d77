//! The `status` subresource of pods: what kubelets and schedulers write.

use std::net::IpAddr;

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::Subresource;
use crate::{check, metadata, set};

pub struct PodStatus;

impl Subresource for PodStatus {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "spec");
        for key in ["ownerReferences", "generation"] {
            set::copy(set::object(new, "metadata"), &old["metadata"], key);
        }
        let class = old["status"]["qosClass"].clone();
        if !class.is_null() {
            set::zero(set::object(new, "status"), "qosClass", class);
        }
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut e = metadata::validate_update(new, old);
        let (status, before) = (
            Cursor::root(new).child("status"),
            Cursor::root(old).child("status"),
        );
        conditions(&mut e, &status);
        let nominated = status.child("nominatedNodeName");
        if nominated.str() != before.child("nominatedNodeName").str() && !nominated.str().is_empty() {
            check::named(&mut e, &nominated, names::is_dns1123_subdomain);
        }
        if status.child("qosClass").str() != before.child("qosClass").str() {
            check::invalid_str(&mut e, &status.child("qosClass"), check::IMMUTABLE);
        }
        transitions(&mut e, &status, &before, &old["spec"]);
        claim_statuses(&mut e, &status, &new["spec"]);
        ips(&mut e, &status.child("podIPs"));
        let (host, hosts) = (status.child("hostIP"), status.child("hostIPs"));
        if let Some(first) = hosts.items().next()
            && first.child("ip").str() != host.str()
        {
            check::invalid_str(&mut e, &first.child("ip"), "must be equal to `hostIP`");
        }
        ips(&mut e, &hosts);
        e
    }
}

/// Types of conditions upstream does not know must be qualified names; its path is `metadata.conditions`.
fn conditions(e: &mut FieldErrors, status: &Cursor) {
    let list = metadata::path().child("conditions");
    for (index, condition) in status.child("conditions").items().enumerate() {
        let kind = condition.child("type").str();
        if ["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            continue;
        }
        for message in names::is_qualified_name(kind) {
            e.invalid(&list.index(index).child("Type"), kind, message);
        }
    }
}

/// A container that ended stays ended unless its restart policy brings it back.
fn transitions(e: &mut FieldErrors, new: &Cursor, old: &Cursor, spec: &Value) {
    let policy = spec["restartPolicy"].as_str().unwrap_or("Always");
    let restarts_itself = |name: &str| {
        ["containers", "initContainers"].iter().any(|list| {
            spec[*list].as_array().into_iter().flatten().any(|c| {
                c["name"] == name
                    && (c["restartPolicy"].is_string() && c["restartPolicy"] != "Never"
                        || c["restartPolicyRules"].is_array())
            })
        })
    };
    for (list, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        if policy == "Always" {
            continue;
        }
        for (index, before) in old.child(list).items().enumerate() {
            let ended = before.child("state").child("terminated");
            let name = before.child("name").str();
            let failed = ended.child("exitCode").i64().unwrap_or(0) != 0;
            if ended.is_absent() || failed && policy == "OnFailure" || restarts_itself(name) {
                continue;
            }
            let again = new.child(list).items().any(|now| {
                now.child("name").str() == name && now.child("state").child("terminated").is_absent()
            });
            if again {
                e.forbidden(
                    &new.child(list).path().index(index).child("state"),
                    "may not be transitioned to non-terminated state",
                );
            }
        }
    }
}

fn claim_statuses(e: &mut FieldErrors, status: &Cursor, spec: &Value) {
    let list = status.child("resourceClaimStatuses");
    check::unique(e, &list, "name");
    for claim in list.items() {
        let name = claim.child("name");
        let known = spec["resourceClaims"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["name"] == name.str());
        if !known {
            check::invalid_str(
                e,
                &name,
                "must match the name of an entry in `spec.resourceClaims`",
            );
        }
    }
}

/// At most one address of each family.
fn ips(e: &mut FieldErrors, list: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    let mut families: Vec<bool> = Vec::new();
    for item in list.items() {
        let ip = item.child("ip").str();
        for message in names::is_valid_ip(ip) {
            e.invalid(item.path(), ip, message);
        }
        match seen.contains(&ip) {
            true => e.duplicate(item.path(), item.value().clone()),
            false => seen.push(ip),
        }
        families.extend(ip.parse::<IpAddr>().ok().map(|ip| ip.is_ipv6()));
    }
    if list.len() > 1 && (list.len() > 2 || families.len() != 2 || families[0] == families[1]) {
        check::invalid(e, list, "may specify no more than one IP for each IP family");
    }
}
