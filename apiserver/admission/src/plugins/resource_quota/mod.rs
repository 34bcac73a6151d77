//! ResourceQuota: what a namespace may use in all, checked when objects are made and charged at once.
//!
//! The check is pure: it answers the quotas' new `status.used`, and the server writes each against the resourceVersion it was
//! computed from; a conflict is another request's charge, and the check runs again. Charges of requests that fail later, and
//! everything that is deleted, are put right by the quota controller.

pub(crate) mod scopes;
pub(crate) mod usage;

use keelson_machinery::quantity::Quantity;
use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::pod_resources::{ResourceList, list};
use crate::value::items;
use crate::{Admission, AdmissionAttributes, Effect, Operation};

const QUOTAS: GroupResource = GroupResource::new("", "resourcequotas");

pub struct ResourceQuota;

impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        if a.namespace.is_empty() || a.is_any("", "namespaces") {
            return false;
        }
        match a.operation {
            Operation::Create => a.subresource.is_empty(),
            Operation::Update => {
                a.is("", "services")
                    || a.is("", "persistentvolumeclaims")
                    || (a.is_any("", "pods") && a.subresource == "resize")
            }
            _ => false,
        }
    }

    fn effects(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        let quotas = reader.list(&QUOTAS, Some(a.namespace));
        if quotas.is_empty() {
            return Ok(Vec::new());
        }
        let resource = a.group_resource();
        let added = added(a, &resource, object);
        let mut effects = Vec::new();
        for quota in &quotas {
            let forbidden = |why: String| a.forbidden(object, &why);
            let charged = charge(a, &resource, object, quota, &added).map_err(forbidden)?;
            effects.extend(charged.filter(|_| !a.dry_run).map(|object| Effect::UpdateStatus {
                resource: QUOTAS,
                object,
            }));
        }
        Ok(effects)
    }
}

/// What the write uses more than what is stored; never less.
fn added(a: &AdmissionAttributes<'_>, resource: &GroupResource, object: &Value) -> ResourceList {
    let mut added = usage::of(resource, object);
    if let Some(old) = a.old {
        for (name, before) in usage::of(resource, old) {
            if let Some(now) = added.get(&name) {
                let more = now.sub(&before);
                added.insert(name, more);
            }
        }
    }
    added.retain(|_, quantity| quantity.sign() > 0);
    added
}

/// The quota with the charge in its status; `None` where it does not concern this object.
fn charge(
    a: &AdmissionAttributes<'_>,
    resource: &GroupResource,
    object: &Value,
    quota: &Value,
    added: &ResourceList,
) -> Result<Option<Value>, String> {
    let name = meta::name(quota);
    let hard = list(&quota["status"]["hard"]);
    let concerned: Vec<&String> = hard.keys().filter(|key| usage::tracks(resource, key)).collect();
    if concerned.is_empty() || !scopes::match_all(resource, quota, object) {
        return Ok(None);
    }
    if a.operation == Operation::Create && resource.resource == "pods" && resource.group.is_empty() {
        constraints(&object["spec"], &concerned).map_err(|why| format!("failed quota: {name}: {why}"))?;
    }
    let used = list(&quota["status"]["used"]);
    let unknown: Vec<&str> = concerned
        .iter()
        .filter(|key| !used.contains_key(**key))
        .map(|key| key.as_str())
        .collect();
    if !unknown.is_empty() {
        return Err(format!(
            "status unknown for quota: {name}, resources: {}",
            unknown.join(",")
        ));
    }
    let requested: ResourceList = added
        .iter()
        .filter(|(key, _)| hard.contains_key(*key))
        .map(|(key, quantity)| (key.clone(), *quantity))
        .collect();
    if requested.is_empty() {
        return Ok(None);
    }
    let mut exceeded = Vec::new();
    let mut charged = quota.clone();
    for (key, more) in &requested {
        let total = used.get(key).map_or(*more, |used| used.add(more));
        if hard.get(key).is_some_and(|hard| total > *hard) {
            exceeded.push(key.as_str());
        }
        charged["status"]["used"][key.as_str()] = total.to_string().into();
    }
    match exceeded.is_empty() {
        true => Ok(Some(charged)),
        false => Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            shown(&requested, &exceeded),
            shown(&used, &exceeded),
            shown(&hard, &exceeded)
        )),
    }
}

fn shown(list: &ResourceList, keys: &[&str]) -> String {
    let found = keys.iter().filter_map(|key| Some((*key, list.get(*key)?)));
    let pairs: Vec<String> = found
        .map(|(key, quantity): (&str, &Quantity)| format!("{key}={quantity}"))
        .collect();
    pairs.join(",")
}

/// Where a quota counts cpu or memory, every container must say how much it asks for: else a pod would use it uncounted.
fn constraints(spec: &Value, concerned: &[&String]) -> Result<(), String> {
    if spec["resources"]["requests"].is_object() || spec["resources"]["limits"].is_object() {
        return Ok(());
    }
    let mut missing: Vec<String> = Vec::new();
    for key in concerned {
        let (field, resource) = match key.as_str() {
            "cpu" | "memory" => ("requests", key.as_str()),
            other => match other.split_once('.') {
                Some((field @ ("requests" | "limits"), resource @ ("cpu" | "memory"))) => (field, resource),
                _ => continue,
            },
        };
        let containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
        let lacking = containers.filter(|container| container["resources"][field].get(resource).is_none());
        let mut names: Vec<&str> = lacking
            .map(|container| container["name"].as_str().unwrap_or(""))
            .collect();
        if !names.is_empty() {
            names.sort_unstable();
            missing.push(format!("{key} for: {}", names.join(",")));
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("must specify {}", missing.join("; "))),
    }
}

#[cfg(test)]
mod tests;
