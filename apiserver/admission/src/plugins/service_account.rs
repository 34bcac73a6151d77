//! ServiceAccount: every pod runs as a service account, and gets its token mounted.
//!
//! The token comes through a projected volume `kube-api-access-xxxxx` with the cluster's CA and the namespace. Accounts
//! annotated `kubernetes.io/enforce-mountable-secrets` limit their pods to the Secrets they list.

use keelson_auth::pod_references::{Referenced, is_mirror, refers_any};
use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::{Value, json};

use crate::value::{items, items_mut, push, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const ACCOUNTS: GroupResource = GroupResource::new("", "serviceaccounts");
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

pub struct ServiceAccount;

impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        match a.operation {
            Operation::Create => a.is("", "pods"),
            Operation::Update => a.is_any("", "pods") && a.subresource == "ephemeralcontainers",
            _ => false,
        }
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.operation != Operation::Create || is_mirror(pod) {
            return Ok(());
        }
        if str_of(&pod["spec"]["serviceAccountName"]).is_empty() {
            pod["spec"]["serviceAccountName"] = "default".into();
        }
        // The old name of the field is kept in step, as upstream's conversion does.
        pod["spec"]["serviceAccount"] = pod["spec"]["serviceAccountName"].clone();
        let account = account(a, pod, reader)?;
        if automounts(pod, &account) {
            mount_token(&mut pod["spec"], a.name_suffix);
        }
        let secrets = &account["imagePullSecrets"];
        if items(&pod["spec"]["imagePullSecrets"]).next().is_none() && items(secrets).next().is_some() {
            pod["spec"]["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if is_mirror(pod) {
            return validate_mirror(pod).map_err(|why| a.forbidden(pod, why));
        }
        if str_of(&pod["spec"]["serviceAccountName"]).is_empty() {
            let why = format!("no service account specified for pod {}/{}", a.namespace, a.name);
            return Err(a.forbidden(pod, &why));
        }
        let account = account(a, pod, reader)?;
        match meta::annotation(&account, ENFORCE_ANNOTATION) {
            Some("true") => limit_secrets(&account, pod).map_err(|why| a.forbidden(pod, &why)),
            _ => Ok(()),
        }
    }
}

fn account(
    a: &AdmissionAttributes<'_>,
    pod: &Value,
    reader: &dyn ObjectReader,
) -> Result<std::sync::Arc<Value>, Status> {
    let name = str_of(&pod["spec"]["serviceAccountName"]);
    reader.get(&ACCOUNTS, Some(a.namespace), name).ok_or_else(|| {
        let namespace = a.namespace;
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        a.forbidden(pod, &why)
    })
}

/// The pod's word counts over the account's; both default to yes.
fn automounts(pod: &Value, account: &Value) -> bool {
    let pod = pod["spec"]["automountServiceAccountToken"].as_bool();
    pod.or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true)
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let existing = items(&spec["volumes"])
        .map(|volume| str_of(&volume["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        for container in items_mut(spec, field) {
            if items(&container["volumeMounts"]).any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            push(&mut container["volumeMounts"], mount);
            needed = true;
        }
    }
    if existing.is_none() && needed {
        push(&mut spec["volumes"], token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
            "defaultMode": 420,
        },
    })
}

fn validate_mirror(pod: &Value) -> Result<(), &'static str> {
    if !str_of(&pod["spec"]["serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if refers_any(pod, Referenced::Secret) {
        return Err("a mirror pod may not reference secrets");
    }
    let mut sources =
        items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    match sources.any(|source| source["serviceAccountToken"].is_object()) {
        true => Err("a mirror pod may not use service account token volume projections"),
        false => Ok(()),
    }
}

fn limit_secrets(account: &Value, pod: &Value) -> Result<(), String> {
    let spec = &pod["spec"];
    let name = meta::name(account);
    let mountable = |secret: &str| items(&account["secrets"]).any(|own| own["name"] == secret);
    let refused = |what: String| {
        format!("{what} is not allowed because service account {name} does not reference that")
    };
    for volume in items(&spec["volumes"]) {
        let secret = str_of(&volume["secret"]["secretName"]);
        if !secret.is_empty() && !mountable(secret) {
            return Err(refused(format!("volume with secret.secretName=\"{secret}\"")) + " secret");
        }
    }
    let kinds = [
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ];
    for (field, kind) in kinds {
        for container in items(&spec[field]) {
            let who = format!("{kind} {} with", str_of(&container["name"]));
            for variable in items(&container["env"]) {
                let secret = str_of(&variable["valueFrom"]["secretKeyRef"]["name"]);
                if !secret.is_empty() && !mountable(secret) {
                    let variable = str_of(&variable["name"]);
                    let what = format!("{who} envVar {variable} referencing secret.secretName={secret:?}");
                    return Err(refused(what) + " secret");
                }
            }
            for from in items(&container["envFrom"]) {
                let secret = str_of(&from["secretRef"]["name"]);
                if !secret.is_empty() && !mountable(secret) {
                    let what = format!("{who} envFrom referencing secret.secretName={secret:?}");
                    return Err(refused(what) + " secret");
                }
            }
        }
    }
    for secret in items(&spec["imagePullSecrets"]).map(|secret| str_of(&secret["name"])) {
        if !items(&account["imagePullSecrets"]).any(|own| own["name"] == secret) {
            return Err(refused(format!("imagePullSecret=\"{secret}\"")) + " imagePullSecret");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    fn account(extra: Value) -> Value {
        let mut account =
            json!({"kind": "serviceaccounts", "metadata": {"namespace": "dev", "name": "default"}});
        for (key, value) in extra.as_object().unwrap() {
            account[key.as_str()] = value.clone();
        }
        account
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}})
    }

    #[test]
    fn the_token_volume_is_upstreams() {
        let case = Case::pod(Operation::Create, pod());
        let done = case.run(
            &ServiceAccount,
            &[account(json!({"imagePullSecrets": [{"name": "pull"}]}))],
        );
        let spec = done.object().unwrap()["spec"].clone();
        let mount = json!({
            "name": "kube-api-access-x7x2z", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        });
        assert_eq!(
            spec,
            json!({
                "containers": [{"name": "c", "volumeMounts": [mount]}],
                "serviceAccountName": "default", "serviceAccount": "default",
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [token_volume("kube-api-access-x7x2z")],
            })
        );
    }

    #[test]
    fn tokens_are_mounted_unless_refused() {
        let no = json!({"automountServiceAccountToken": false});
        for (in_pod, in_account, mounted) in [
            (Value::Null, json!({}), true),
            (Value::Null, no.clone(), false),
            (true.into(), no, true),
            (false.into(), json!({}), false),
        ] {
            let mut pod = pod();
            pod["spec"]["automountServiceAccountToken"] = in_pod;
            let done = Case::pod(Operation::Create, pod).run(&ServiceAccount, &[account(in_account)]);
            assert_eq!(done.object().unwrap()["spec"]["volumes"].is_array(), mounted);
        }
    }

    #[test]
    fn refusals_are_upstreams() {
        let enforcing = account(json!({
            "metadata": {"namespace": "dev", "name": "default", "annotations": {ENFORCE_ANNOTATION: "true"}},
            "secrets": [{"name": "own"}],
        }));
        let mut mounts = pod();
        mounts["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "other"}}]);
        let mut mirror = pod();
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["spec"]["serviceAccountName"] = "default".into();
        for (pod, accounts, message) in [
            (
                pod(),
                vec![],
                "error looking up service account dev/default: serviceaccount \"default\" not found",
            ),
            (
                mounts,
                vec![enforcing],
                "volume with secret.secretName=\"other\" is not allowed because service account default does not \
                 reference that secret",
            ),
            (mirror, vec![], "a mirror pod may not reference service accounts"),
        ] {
            let done = Case::pod(Operation::Create, pod).run(&ServiceAccount, &accounts);
            assert_eq!(done.message(), format!("pods \"web\" is forbidden: {message}"));
        }
    }
}
