//! Charges and refusals, with upstream's texts.

use super::*;
use crate::testing::Case;
use serde_json::json;

fn quota(spec: Value, hard: Value, used: Value) -> Value {
    json!({
        "kind": "resourcequotas", "metadata": {"namespace": "dev", "name": "q"},
        "spec": spec, "status": {"hard": hard, "used": used},
    })
}

fn pod(requests: Value) -> Value {
    let resources = json!({"requests": requests});
    json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

/// The new usage, or the refusal.
fn charge_pod(pod: Value, quota: Value) -> Result<Value, String> {
    let (effects, message) = Case::pod(Operation::Create, pod).effects(&ResourceQuota, &[quota]);
    match message.as_str() {
        "" => Ok(effects
            .into_iter()
            .next()
            .map_or(Value::Null, |effect| match effect {
                Effect::UpdateStatus { object, .. } => object["status"]["used"].clone(),
                Effect::Create { object, .. } => object,
            })),
        other => Err(other
            .strip_prefix("pods \"web\" is forbidden: ")
            .unwrap_or(other)
            .to_owned()),
    }
}

#[test]
fn usage_is_charged_and_the_excess_refused() {
    let hard = json!({"pods": "2", "requests.cpu": "1"});
    let used = |pods: &str, cpu: &str| json!({"pods": pods, "requests.cpu": cpu});
    assert_eq!(
        charge_pod(
            pod(json!({"cpu": "250m"})),
            quota(json!({}), hard.clone(), used("1", "500m"))
        ),
        Ok(json!({"pods": "2", "requests.cpu": "750m"}))
    );
    assert_eq!(
        charge_pod(pod(json!({"cpu": "750m"})), quota(json!({}), hard.clone(), used("2", "500m"))),
        Err("exceeded quota: q, requested: pods=1,requests.cpu=750m, used: pods=2,requests.cpu=500m, limited: \
             pods=2,requests.cpu=1"
            .to_owned())
    );
    assert_eq!(
        charge_pod(pod(json!({})), quota(json!({}), hard.clone(), used("0", "0"))),
        Err("failed quota: q: must specify requests.cpu for: c".to_owned())
    );
    assert_eq!(
        charge_pod(
            pod(json!({"cpu": "1"})),
            quota(json!({}), hard, json!({"pods": "0"}))
        ),
        Err("status unknown for quota: q, resources: requests.cpu".to_owned())
    );
}

#[test]
fn scopes_narrow_a_quota() {
    let hard = || json!({"pods": "0"});
    let used = || json!({"pods": "0"});
    let class = |operator: &str| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]},
        ]}})
    };
    for (spec, concerned) in [
        (json!({"scopes": ["BestEffort"]}), true),
        (json!({"scopes": ["NotBestEffort"]}), false),
        (json!({"scopes": ["Terminating"]}), false),
        (json!({"scopes": ["NotTerminating"]}), true),
        (class("In"), false),
        (class("NotIn"), true),
    ] {
        let answer = charge_pod(pod(json!({})), quota(spec.clone(), hard(), used()));
        assert_eq!(answer.is_err(), concerned, "{spec}");
    }
}

#[test]
fn objects_are_counted_by_both_names() {
    let hard = json!({"count/services": "5", "services.nodeports": "3", "count/deployments.apps": "0"});
    let used = json!({"count/services": "1", "services.nodeports": "1", "count/deployments.apps": "0"});
    let quota = quota(json!({}), hard, used);
    let service = |ports: usize| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": vec![json!({}); ports]}});
    let run = |object: Value, resource, old: Option<Value>| {
        let operation = if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        };
        let mut case = Case::new(operation, resource, object);
        case.old = old;
        case.effects(&ResourceQuota, std::slice::from_ref(&quota))
    };
    let services = ("", "Service", "services");
    let (effects, message) = run(service(2), services, None);
    assert_eq!((effects.len(), message.as_str()), (1, ""));
    let (_, message) = run(service(3), services, None);
    assert!(message.ends_with(
        "requested: services.nodeports=3, used: services.nodeports=1, limited: services.nodeports=3"
    ));
    // An update is charged for what it adds, here nothing.
    assert_eq!(
        run(service(3), services, Some(service(3))),
        (vec![], String::new())
    );
    let (_, message) = run(
        json!({"metadata": {"name": "d"}}),
        ("apps", "Deployment", "deployments"),
        None,
    );
    assert_eq!(
        message,
        "deployments.apps \"d\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: \
         count/deployments.apps=0, limited: count/deployments.apps=0"
    );
}
