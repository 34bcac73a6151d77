//! DELETE: at once, after a grace period, or once the finalizers are gone (`rest.BeforeDelete`, `Store.Delete`).

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use keelson_admission::Operation;
use keelson_machinery::{Status, Value, meta, time};
use serde_json::json;

use super::Target;
use super::admit::Write;
use super::delete_options::{DeleteOptions, Propagation};
use super::transaction::{Current, Done, Outcome, Transaction};
use crate::context::Context;
use crate::forms::object;
use crate::server::Server;
use crate::wire::Response;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Resources whose DELETE answers with the object instead of a `Status`.
const SHOW_DELETED: &[&str] = &[
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
    "services",
];

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let options = DeleteOptions::read(context).await?;
    let done = run(server, context, target, &options).await?;
    respond(target, &options, &done)
}

/// Deletes one object as the request's user.
pub async fn run(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Done, Status> {
    let served = &target.served;
    let mut transaction = Transaction::begin(server, &served.hub, target.key());
    loop {
        let decided = match transaction.current() {
            None => Err(target.not_found()),
            Some(current) => decide(server, context, target, current, options).await,
        };
        match decided {
            Ok(outcome) => {
                if let Some(done) = transaction.commit(outcome).await? {
                    return Ok(done);
                }
            }
            Err(status) => {
                if !transaction.reconsider().await? {
                    return Err(status);
                }
            }
        }
    }
}

async fn decide(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    current: &Current,
    options: &DeleteOptions,
) -> Result<Outcome, Status> {
    let old: &Value = &current.value;
    check_preconditions(target, old, options)?;
    let mut write = Write::new(target, Operation::Delete, Some(old), options.dry_run);
    write.options = &options.value;
    let mut nothing = Value::Null;
    write.mutate(server, context, &mut nothing).await?;
    write.validate(server, context, &nothing).await?;
    let outcome = plan(
        old,
        options,
        context.now,
        |grace| target.served.kind.graceful_delete(old, grace),
        target.served.kind.orphans_by_default(),
    );
    Ok(match (options.dry_run, outcome) {
        (true, Outcome::Remove(last)) => Outcome::Show(last.unwrap_or_else(|| old.clone())),
        (true, Outcome::Put(value)) => Outcome::Show(value),
        (_, outcome) => outcome,
    })
}

fn check_preconditions(target: &Target, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let checks = [
        ("UID", &options.uid, meta::uid(old)),
        (
            "ResourceVersion",
            &options.resource_version,
            meta::resource_version(old),
        ),
    ];
    for (what, wanted, actual) in checks {
        if let Some(wanted) = wanted
            && wanted != actual
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
            );
            return Err(Status::conflict(
                &target.served.group_resource(),
                &target.name,
                &why,
            ));
        }
    }
    Ok(())
}

/// What a delete does to the object. `graceful`: the kind's answer to the asked-for grace period.
pub fn plan(
    old: &Value,
    options: &DeleteOptions,
    now: Timestamp,
    graceful: impl Fn(Option<i64>) -> Option<i64>,
    orphans_by_default: bool,
) -> Outcome {
    let mut object = old.clone();
    let mut grace = None;
    if meta::deletion_timestamp(old).is_some() {
        let left = meta::deletion_grace_period_seconds(old).unwrap_or(0);
        if left != 0 {
            // Only a shorter period than the one that runs changes anything.
            match options.grace_s {
                Some(asked) if asked < left => {
                    let started = meta::deletion_timestamp(old)
                        .and_then(|text| time::parse(text).ok())
                        .and_then(|at| at.checked_sub(SignedDuration::from_secs(left)).ok())
                        .unwrap_or(now);
                    mark(&mut object, started, asked.max(0));
                    grace = Some(asked.max(0));
                }
                _ => return Outcome::Put(object),
            }
        }
    } else if let Some(period) = graceful(options.grace_s) {
        mark(&mut object, now, period);
        count_generation(&mut object);
        grace = Some(period);
    }
    set_finalizers(&mut object, options, orphans_by_default);
    let held = meta::finalizers(&object).next().is_some()
        || object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
    if held && grace.is_none() && meta::deletion_timestamp(&object).is_none() {
        mark(&mut object, now, 0);
        count_generation(&mut object);
        if object["kind"] == "Namespace" {
            meta::of_mut(&mut object).remove("deletionGracePeriodSeconds");
            object["status"]["phase"] = "Terminating".into();
        }
    }
    match held || grace.is_some_and(|grace| grace > 0) {
        true => Outcome::Put(object),
        false => Outcome::Remove((object != *old).then_some(object)),
    }
}

fn mark(object: &mut Value, from: Timestamp, grace: i64) {
    let end = from.checked_add(SignedDuration::from_secs(grace)).unwrap_or(from);
    meta::set_str(object, "deletionTimestamp", &time::format_rfc3339(end));
    meta::set(object, "deletionGracePeriodSeconds", grace.into());
}

fn count_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", (generation + 1).into());
    }
}

/// Adds or drops the garbage collector's finalizers as the options say.
fn set_finalizers(object: &mut Value, options: &DeleteOptions, orphans_by_default: bool) {
    let has = |name: &str| meta::finalizers(object).any(|finalizer| finalizer == name);
    let orphan = match (options.orphan, options.propagation) {
        (Some(orphan), _) => orphan,
        (None, Some(policy)) => policy == Propagation::Orphan,
        (None, None) if has(ORPHAN) => true,
        (None, None) if has(FOREGROUND) => false,
        (None, None) => orphans_by_default,
    };
    let foreground = match (options.orphan, options.propagation) {
        (Some(_), _) => false,
        (None, Some(policy)) => policy == Propagation::Foreground,
        (None, None) => has(FOREGROUND) && !orphan,
    };
    if orphan == has(ORPHAN) && foreground == has(FOREGROUND) {
        return;
    }
    let mut finalizers: Vec<Value> = meta::finalizers(object)
        .filter(|finalizer| !matches!(*finalizer, ORPHAN | FOREGROUND))
        .map(Value::from)
        .collect();
    if orphan {
        finalizers.push(ORPHAN.into());
    }
    if foreground {
        finalizers.push(FOREGROUND.into());
    }
    match finalizers.is_empty() {
        true => drop(meta::of_mut(object).remove("finalizers")),
        false => meta::set(object, "finalizers", finalizers.into()),
    }
}

fn respond(target: &Target, options: &DeleteOptions, done: &Done) -> Result<Response, Status> {
    let info = &target.served.info;
    let code = match !done.removed && options.orphan == Some(false) {
        true => StatusCode::ACCEPTED,
        false => StatusCode::OK,
    };
    let shows = !done.removed || (info.group.is_empty() && SHOW_DELETED.contains(&info.resource.as_ref()));
    if shows {
        return object::respond(code, &target.served, &done.json, target.form, target.view);
    }
    let value: Value = serde_json::from_slice(&done.json).unwrap_or(Value::Null);
    let mut details = json!({"name": target.name, "kind": info.resource, "uid": meta::uid(&value)});
    if !info.group.is_empty() {
        details["group"] = info.group.as_ref().into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    object::respond_value(code, &status, target.form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn delete(object: Value, options: Value, graceful: Option<i64>) -> Outcome {
        let options = DeleteOptions::parse(options).unwrap();
        plan(
            &object,
            &options,
            at("2026-01-01T00:00:00Z"),
            |asked| graceful.map(|period| asked.unwrap_or(period)),
            false,
        )
    }

    #[test]
    fn an_object_that_nothing_holds_goes_at_once() {
        let outcome = delete(json!({"metadata": {"name": "x"}}), json!({}), None);
        assert!(matches!(outcome, Outcome::Remove(None)), "{outcome:?}");
    }

    #[test]
    fn a_pod_stays_for_its_grace_period() {
        let Outcome::Put(object) = delete(json!({"metadata": {"generation": 1}}), json!({}), Some(30)) else {
            panic!("removed");
        };
        assert_eq!(object["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(object["metadata"]["generation"], 2);
        let again = delete(object.clone(), json!({"gracePeriodSeconds": 40}), Some(30));
        assert!(matches!(again, Outcome::Put(same) if same == object));
        let Outcome::Put(shorter) = delete(object.clone(), json!({"gracePeriodSeconds": 5}), Some(30)) else {
            panic!("removed");
        };
        assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        let now = delete(object, json!({"gracePeriodSeconds": 0}), Some(30));
        assert!(matches!(now, Outcome::Remove(Some(_))), "{now:?}");
    }

    #[test]
    fn finalizers_hold_and_propagation_adds_its_own() {
        let Outcome::Put(held) = delete(json!({"metadata": {"finalizers": ["a"]}}), json!({}), None) else {
            panic!("removed");
        };
        assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
        for (policy, finalizer) in [("Foreground", FOREGROUND), ("Orphan", ORPHAN)] {
            let Outcome::Put(object) = delete(
                json!({"metadata": {}}),
                json!({"propagationPolicy": policy}),
                None,
            ) else {
                panic!("removed");
            };
            assert_eq!(object["metadata"]["finalizers"], json!([finalizer]));
        }
        let background = delete(
            json!({"metadata": {"finalizers": ["orphan"]}}),
            json!({"propagationPolicy": "Background"}),
            None,
        );
        assert!(matches!(background, Outcome::Remove(Some(_))));
    }

    #[test]
    fn a_namespace_waits_for_its_contents() {
        let namespace = json!({"kind": "Namespace", "metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Outcome::Put(object) = delete(namespace, json!({}), None) else {
            panic!("removed");
        };
        assert_eq!(object["status"]["phase"], "Terminating");
        assert!(meta::deletion_timestamp(&object).is_some());
    }
}
