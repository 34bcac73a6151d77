//! ResourceQuota controller: puts right what a quota says is used.
//!
//! Admission charges what is made; this counts what is there: after a quota changed, after something in its namespace
//! went, and every five minutes. It reads the server's own lists, not caches, and writes the status against the version
//! it started from: a charge that came in between is a conflict, and everything is counted again. What an object uses
//! is decided by the library admission decides it with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use keelson_admission::quota;
use keelson_client::{Event, Informer, Key};
use keelson_controller::runtime::WorkError;
use keelson_controller::{Action, Plan, Queue};
use keelson_machinery::GroupResource;
use keelson_machinery::quantity::Quantity;
use kube::Client;
use serde_json::Value;

use crate::context::Context;
use crate::{discovery, pods};

const NAME: &str = "resourcequota-controller";
/// How often a quota is counted though nothing is known to have changed (--resource-quota-sync-period's default).
const RESYNC: Duration = Duration::from_secs(300);
/// Core resources that have names of their own in a quota.
const CORE: [&str; 7] = [
    "pods",
    "services",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
];

/// Starts the controller.
pub fn start(context: &Context) {
    let quotas = context.informer::<ResourceQuota>();
    let queue: Queue<Key> = Queue::default();
    let changed = queue.clone();
    quotas.on(move |event| {
        // Charges change the status alone, and are right.
        let news = match event {
            Event::Added(quota) => Some(quota),
            Event::Modified { old, new } => (old.spec != new.spec).then_some(new),
            Event::Deleted(_) => None,
        };
        news.into_iter()
            .for_each(|quota| changed.add(Key::of(quota.as_ref())));
    });
    on_less(context, &quotas, &queue);
    let counter = Arc::new(Counter {
        quotas,
        client: context.client.clone(),
    });
    let executor = context.executor(NAME);
    let workers = context.config.concurrent.resource_quota_syncs;
    context.drive(NAME, queue, workers, move |key: Key| {
        let (counter, executor) = (counter.clone(), executor.clone());
        async move {
            let Some(quota) = counter.quotas.get_key(&key) else {
                return Ok(None);
            };
            let objects = counter.objects(&quota).await?;
            executor
                .execute(reconcile(&quota, &objects))
                .await
                .map_err(|failure| WorkError {
                    error: failure.message,
                    expected: failure.code == 409,
                })?;
            Ok(Some(RESYNC))
        }
    });
}

/// Has the quotas of a namespace counted when something in it went, ended, or came to use less.
fn on_less(context: &Context, quotas: &Informer<ResourceQuota>, queue: &Queue<Key>) {
    let (quotas, queue) = (quotas.clone(), queue.clone());
    let recount = Arc::new(move |namespace: &str| {
        for quota in quotas.list_namespace(namespace) {
            queue.add(Key::of(quota.as_ref()));
        }
    });
    let gone = recount.clone();
    context.on_gone(move |namespace| gone(namespace));
    let ended = recount.clone();
    context.informer::<Pod>().on(move |event| {
        if let Event::Modified { old, new } = event
            && (pods::is_finished(new) && !pods::is_finished(old) || old.spec != new.spec)
        {
            ended(new.metadata.namespace.as_deref().unwrap_or_default());
        }
    });
    context.informer::<Service>().on(move |event| {
        if let Event::Modified { old, new } = event
            && old.spec != new.spec
        {
            recount(new.metadata.namespace.as_deref().unwrap_or_default());
        }
    });
}

struct Counter {
    quotas: Informer<ResourceQuota>,
    client: Client,
}

type Objects = Vec<(GroupResource, Value)>;

impl Counter {
    /// Everything in the quota's namespace that may use what it names.
    async fn objects(&self, quota: &ResourceQuota) -> Result<Objects, kube::Error> {
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let mut objects = Vec::new();
        for resource in counted(quota) {
            let Some(path) = self.path(&resource, namespace).await? else {
                // Nothing is served that could use it: it counts as none.
                continue;
            };
            let request = http::Request::get(path).body(Vec::new());
            let mut list: Value = self
                .client
                .request(request.map_err(kube::Error::HttpError)?)
                .await?;
            if let Value::Array(items) = list["items"].take() {
                objects.extend(items.into_iter().map(|item| (resource.clone(), item)));
            }
        }
        Ok(objects)
    }

    async fn path(&self, resource: &GroupResource, namespace: &str) -> Result<Option<String>, kube::Error> {
        let plural = &resource.resource;
        if resource.group.is_empty() {
            return Ok(Some(format!("/api/v1/namespaces/{namespace}/{plural}")));
        }
        let found = discovery::fetch(&self.client).await?.resources;
        let served = found
            .iter()
            .find(|r| r.group == *resource.group && r.plural == **plural && r.can(&["list"]));
        Ok(served.map(|served| served.path(Some(namespace))))
    }
}

fn hard(quota: &ResourceQuota) -> BTreeMap<String, ApiQuantity> {
    let spec = quota.spec.as_ref();
    spec.and_then(|spec| spec.hard.clone()).unwrap_or_default()
}

/// The resources whose objects may use what the quota names.
fn counted(quota: &ResourceQuota) -> Vec<GroupResource> {
    let hard = hard(quota);
    let named = hard.keys().filter_map(|name| name.strip_prefix("count/"));
    let named = named.map(|name| {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        GroupResource {
            group: group.to_owned().into(),
            resource: resource.to_owned().into(),
        }
    });
    let core = CORE.map(|resource| GroupResource::new("", resource));
    let tracked = |resource: &GroupResource| hard.keys().any(|name| quota::tracks(resource, name));
    let mut all: Vec<GroupResource> = named.chain(core.into_iter().filter(tracked)).collect();
    all.sort_by_key(ToString::to_string);
    all.dedup();
    all
}

fn reconcile(quota: &ResourceQuota, objects: &[(GroupResource, Value)]) -> Plan {
    if quota.metadata.deletion_timestamp.is_some() {
        return Plan::nothing();
    }
    let hard = hard(quota);
    let Ok(value) = serde_json::to_value(quota) else {
        return Plan::nothing();
    };
    let mut used: BTreeMap<String, Quantity> = hard
        .keys()
        .map(|name| (name.clone(), Quantity::from_i64(0)))
        .collect();
    let concerned = objects
        .iter()
        .filter(|(resource, object)| quota::in_scopes(resource, &value, object));
    for (resource, object) in concerned {
        for (name, more) in quota::usage(resource, object) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = sum.add(&more);
            }
        }
    }
    let used: BTreeMap<String, ApiQuantity> = used
        .into_iter()
        .map(|(name, sum)| (name, ApiQuantity(sum.to_string())))
        .collect();
    let status = ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(used),
    };
    if quota.status.as_ref() == Some(&status) {
        return Plan::nothing();
    }
    let mut updated = quota.clone();
    updated.status = Some(status);
    Plan::of(vec![Action::update_status(&updated)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(hard: Value, scopes: Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard, "scopes": scopes},
        }))
        .unwrap()
    }

    fn pod(phase: &str, cpu: Option<&str>) -> (GroupResource, Value) {
        let requests = cpu.map_or(json!({}), |cpu| json!({"cpu": cpu}));
        let object = json!({
            "metadata": {"name": "p"}, "status": {"phase": phase},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
        });
        (GroupResource::new("", "pods"), object)
    }

    #[test]
    fn what_is_there_is_summed() {
        let deployment = (
            GroupResource::new("apps", "deployments"),
            json!({"metadata": {"name": "d"}}),
        );
        let objects = [
            pod("Running", Some("250m")),
            pod("Pending", Some("1")),
            pod("Succeeded", Some("4")),
            deployment,
        ];
        let hard = json!({"pods": "5", "requests.cpu": "2", "count/deployments.apps": "1", "secrets": "3"});
        let mut quota = quota(hard.clone(), json!([]));
        let plan = reconcile(&quota, &objects);
        let status = plan.actions[0].body["status"].clone();
        assert_eq!(status["hard"], hard);
        let used =
            json!({"pods": "2", "requests.cpu": "1250m", "count/deployments.apps": "1", "secrets": "0"});
        assert_eq!(status["used"], used);
        quota.status = serde_json::from_value(status).unwrap();
        assert_eq!(reconcile(&quota, &objects), Plan::nothing());
    }

    #[test]
    fn scopes_narrow_what_counts() {
        let quota = quota(json!({"pods": "5"}), json!(["BestEffort"]));
        let plan = reconcile(&quota, &[pod("Running", Some("1")), pod("Running", None)]);
        assert_eq!(plan.actions[0].body["status"]["used"], json!({"pods": "1"}));
    }

    #[test]
    fn only_what_is_named_is_listed() {
        let quota = quota(
            json!({"requests.cpu": "1", "count/jobs.batch": "1", "services.nodeports": "1"}),
            json!([]),
        );
        let names: Vec<String> = counted(&quota).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["jobs.batch", "pods", "services"]);
    }
}
