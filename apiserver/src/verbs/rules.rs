//! What every kind's metadata goes through on create and update (`rest.BeforeCreate`, `rest.BeforeUpdate`). Pure.

use jiff::Timestamp;
use keelson_machinery::{FieldErrors, Path, Status, Value, meta, time};
use keelson_schema::managed;

use super::Target;

/// Fills in what the server gives a new object.
pub fn fill_metadata(object: &mut Value, now: Timestamp, uid: &str) {
    let metadata = meta::of_mut(object);
    metadata.remove("deletionTimestamp");
    metadata.remove("deletionGracePeriodSeconds");
    metadata.remove("selfLink");
    metadata.insert("creationTimestamp".to_owned(), time::format_rfc3339(now).into());
    metadata.insert("uid".to_owned(), uid.into());
}

/// Checks the namespace against the path's, and sets it.
///
/// # Errors
/// 400 where they differ.
pub fn place(object: &mut Value, target: &Target) -> Result<(), Status> {
    if !target.served.info.namespaced {
        let namespace = meta::namespace(object);
        if !namespace.is_empty() {
            // Upstream drops it for cluster-scoped kinds.
            meta::of_mut(object).remove("namespace");
        }
        return Ok(());
    }
    match meta::namespace(object) {
        "" => meta::set_str(object, "namespace", &target.namespace),
        own if own == target.namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// Checks the name against the path's, and sets it.
///
/// # Errors
/// 400 where they differ.
pub fn name(object: &mut Value, target: &Target) -> Result<(), Status> {
    match meta::name(object) {
        "" => meta::set_str(object, "name", &target.name),
        own if own == target.name => {}
        own => {
            return Err(Status::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({})",
                target.name
            )));
        }
    }
    Ok(())
}

/// A name out of `generateName`: the prefix, cut to 58 bytes, and five letters that spell no words.
pub fn generate_name(prefix: &str, random: &mut impl rand::Rng) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let end = (0..=prefix.len().min(58))
        .rev()
        .find(|at| prefix.is_char_boundary(*at))
        .unwrap_or(0);
    let mut name = prefix[..end].to_owned();
    for _ in 0..5 {
        name.push(char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    }
    name
}

/// The resourceVersion and uid an update was made on, against the stored ones.
///
/// # Errors
/// 409, or 422 where the kind wants a version and none was given.
pub fn check_version(object: &Value, old: &Value, target: &Target) -> Result<(), Status> {
    let resource = target.served.group_resource();
    let (version, stored) = (meta::resource_version(object), meta::resource_version(old));
    if version.is_empty() || version == "0" {
        if !target.served.kind.unconditional_update() {
            let mut errors = FieldErrors::default();
            errors.invalid(
                &Path::new("metadata").child("resourceVersion"),
                0,
                "must be specified for an update",
            );
            return Err(Status::invalid(
                &target.served.gvk.group_kind(),
                &target.name,
                &errors,
            ));
        }
    } else if version != stored {
        return Err(Status::modified(&resource, &target.name));
    }
    let uid = meta::uid(object);
    if !uid.is_empty() && uid != meta::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(old)
        );
        return Err(Status::conflict(&resource, &target.name, &why));
    }
    Ok(())
}

/// Keeps what no client may change by an update.
pub fn keep_metadata(object: &mut Value, old: &Value) {
    let kept = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "resourceVersion",
    ];
    let metadata = meta::of_mut(object);
    for field in kept {
        match old["metadata"].get(field) {
            Some(value) => {
                metadata.insert(field.to_owned(), value.clone());
            }
            None => {
                metadata.remove(field);
            }
        }
    }
    if metadata.get("generateName").is_none()
        && let Some(prefix) = old["metadata"].get("generateName")
    {
        metadata.insert("generateName".to_owned(), prefix.clone());
    }
}

/// Puts back the old times in managedFields where nothing else changed, so that a write of the same is no write.
pub fn ignore_managed_times(object: &mut Value, old: &Value) {
    let (new_fields, old_fields) = (
        &object["metadata"]["managedFields"],
        &old["metadata"]["managedFields"],
    );
    if new_fields == old_fields {
        return;
    }
    let (Some(new_list), Some(old_list)) = (new_fields.as_array(), old_fields.as_array()) else {
        return;
    };
    let same_but_times = new_list.len() == old_list.len()
        && new_list.iter().zip(old_list).all(|(new, old)| {
            [
                "manager",
                "operation",
                "apiVersion",
                "fieldsType",
                "fieldsV1",
                "subresource",
            ]
            .iter()
            .all(|field| new.get(field) == old.get(field))
        });
    if same_but_times && managed::same_but_for_owners(object, old) {
        let kept = old_fields.clone();
        meta::set(object, "managedFields", kept);
    }
}

/// Whether an update was the last one: deletion was asked for, and nothing holds the object any more.
pub fn is_finished(object: &Value) -> bool {
    meta::deletion_timestamp(object).is_some()
        && meta::finalizers(object).next().is_none()
        && meta::deletion_grace_period_seconds(object).unwrap_or(0) == 0
        && object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_keep_the_prefix_and_fit() {
        let mut random = rand::rng();
        let name = generate_name("web-", &mut random);
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(80), &mut random).len(), 63);
    }

    #[test]
    fn an_update_cannot_touch_what_the_server_owns() {
        let old = json!({"metadata": {"uid": "u", "creationTimestamp": "t", "generation": 3}});
        let mut new = json!({"metadata": {"uid": "x", "deletionTimestamp": "d", "generation": 9}});
        keep_metadata(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn a_new_time_alone_is_no_change() {
        let entry = |time: &str, manager: &str| json!({"manager": manager, "time": time, "fieldsV1": {}});
        let object = |time: &str, manager: &str, data: i32| json!({"metadata": {"managedFields": [entry(time, manager)]}, "data": data});
        let old = object("1", "a", 1);
        for (mut new, same) in [
            (object("2", "a", 1), true),
            (object("2", "b", 1), false),
            (object("2", "a", 2), false),
        ] {
            ignore_managed_times(&mut new, &old);
            assert_eq!(new == old, same, "{new}");
        }
    }

    #[test]
    fn an_object_is_finished_when_nothing_holds_it() {
        for (object, finished) in [
            (json!({"metadata": {"deletionTimestamp": "t"}}), true),
            (
                json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a"]}}),
                false,
            ),
            (
                json!({"metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}}),
                false,
            ),
            (
                json!({"metadata": {"deletionTimestamp": "t"}, "spec": {"finalizers": ["kubernetes"]}}),
                false,
            ),
            (json!({"metadata": {}}), false),
        ] {
            assert_eq!(is_finished(&object), finished, "{object}");
        }
    }
}
