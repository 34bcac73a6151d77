//! Pods that are refused, each with upstream's exact texts, and updates of pods.

#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use keelson_kinds::{Kind, find};
use keelson_machinery::Value;
use serde_json::json;

fn pods() -> &'static dyn Kind {
    find("", "pods").unwrap()
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "d", "resourceVersion": "1"}, "spec": {
        "containers": [{"name": "a", "image": "b:1"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

/// A pod whose one container has these fields beside name and image.
fn with(container: Value) -> Value {
    let mut all = json!({"name": "a", "image": "b:1"});
    for (key, value) in container.as_object().unwrap() {
        all[key] = value.clone();
    }
    pod(json!({"containers": [all]}))
}

fn created(mut obj: Value) -> Value {
    pods().set_defaults(&mut obj);
    pods().prepare_create(&mut obj);
    obj
}

fn create(obj: Value) -> Vec<String> {
    let errors = pods().validate(&created(obj), None);
    errors.0.iter().map(ToString::to_string).collect()
}

fn update(new: Value, old: Value) -> Vec<String> {
    let old = created(old);
    let mut new = new;
    pods().set_defaults(&mut new);
    pods().prepare_update(&mut new, &old);
    let errors = pods().validate(&new, Some(&old));
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn containers() {
    let table = [
        (json!({}), vec![]),
        (
            json!({"image": ""}),
            vec!["spec.containers[0].image: Required value"],
        ),
        (
            json!({"image": " b"}),
            vec![
                "spec.containers[0].image: Invalid value: \" b\": must not have leading or trailing whitespace",
            ],
        ),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            vec![
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
                 \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            vec![
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, \
                 inclusive",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]}),
            vec!["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
        ),
        (
            json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
            vec!["spec.containers[0].volumeMounts[0].name: Not found: \"none\""],
        ),
        (
            json!({"securityContext": {"runAsUser": -1}}),
            vec![
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, \
                 inclusive",
            ],
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu \
                 limit of 1",
            ],
        ),
        (
            json!({"resources": {"limits": {"cups": "1"}}}),
            vec![
                "spec.containers[0].resources.limits[cups]: Invalid value: \"cups\": must be a standard resource \
                 type or fully qualified",
                "spec.containers[0].resources.limits[cups]: Invalid value: \"cups\": must be a standard resource for \
                 containers",
                "spec.containers[0].resources.requests[cups]: Invalid value: \"cups\": must be a standard resource \
                 type or fully qualified",
                "spec.containers[0].resources.requests[cups]: Invalid value: \"cups\": must be a standard resource \
                 for containers",
            ],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.unknown"}}}]}),
            vec![
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.unknown\": error \
                 converting fieldPath: field label not supported: spec.unknown",
            ],
        ),
        (
            json!({"terminationMessagePolicy": "Shout"}),
            vec![
                "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Shout\": supported values: \
                 \"File\", \"FallbackToLogsOnError\"",
            ],
        ),
    ];
    for (container, expected) in table {
        assert_eq!(create(with(container.clone())), expected, "{container}");
    }
}

#[test]
fn probes() {
    let table = [
        (
            json!({"livenessProbe": {}}),
            vec!["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}, "successThreshold": 2}}),
            vec![
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 0, "path": "/"}, "timeoutSeconds": -1}}),
            vec![
                "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, \
                 inclusive",
                "spec.containers[0].readinessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal \
                 to 0",
            ],
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            vec![
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
                 terminationGracePeriodSeconds (30)",
            ],
        ),
    ];
    for (container, expected) in table {
        assert_eq!(create(with(container.clone())), expected, "{container}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn specs() {
    let table = [
        (json!({"containers": []}), vec!["spec.containers: Required value"]),
        (
            json!({"containers": [{"name": "a", "image": "b:1"}, {"name": "a", "image": "b:1"}]}),
            vec!["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"restartPolicy": "Perhaps"}),
            vec![
                "spec.restartPolicy: Unsupported value: \"Perhaps\": supported values: \"Always\", \"OnFailure\", \
                 \"Never\"",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            vec!["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            vec!["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {}}]}),
            vec!["spec.volumes[0].secret.secretName: Required value"],
        ),
        (
            json!({"volumes": [{"name": "v"}, {"name": "v"}]}),
            vec!["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            json!({"tolerations": [{"operator": "Equal", "value": "x"}]}),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is \
                 empty, which means \"match all values and all keys\"",
            ],
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": []}}}}),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: \
                 Required value: must have at least one node selector term",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Cry",
                "labelSelector": {}}]}),
            vec![
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Cry\": supported values: \
                 \"DoNotSchedule\", \"ScheduleAnyway\"",
            ],
        ),
        (
            json!({"hostNetwork": true, "containers": [{"name": "a", "image": "b:1",
                "ports": [{"containerPort": 80, "hostPort": 81}]}]}),
            vec![
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when \
                 `hostNetwork` is true",
            ],
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "b:1"}]}),
            vec!["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            json!({"nodeName": "n", "schedulingGates": [{"name": "a/b"}]}),
            vec!["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "b:1", "livenessProbe": {"exec": {"command": ["x"]}}}]}),
            vec![
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(create(pod(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn updates() {
    let old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
    let mut image = old.clone();
    image["spec"]["containers"][0]["image"] = "b:2".into();
    let tolerations = image["spec"]["tolerations"].as_array_mut().unwrap();
    tolerations.push(json!({"key": "b", "operator": "Exists"}));
    assert_eq!(update(image, old.clone()), Vec::<String>::new());

    let mut added = old.clone();
    let containers = added["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "x", "image": "b:1"}));
    assert_eq!(
        update(added, old.clone()),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );

    let mut dropped = old.clone();
    dropped["spec"]["tolerations"] = json!([]);
    assert_eq!(
        update(dropped, old.clone()),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );

    let mut command = old.clone();
    command["spec"]["containers"][0]["command"] = json!(["x"]);
    assert_eq!(
        update(command, old),
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)\n- containers[0].command: null\n+ containers[0].command: [\"x\"]",
        ]
    );
}

#[test]
fn generation_counts_changes_of_the_spec() {
    let old = created(pod(json!({})));
    assert_eq!(old["metadata"]["generation"], 1);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "b:2".into();
    new["status"] = json!({"phase": "Failed"});
    pods().prepare_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(
        new["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

#[test]
fn deletion_is_graceful_where_the_pod_runs() {
    let running = pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}));
    let mut ended = running.clone();
    ended["status"]["phase"] = "Succeeded".into();
    for (obj, asked, expected) in [
        (&running, None, 30),
        (&running, Some(5), 5),
        (&running, Some(0), 0),
        (&running, Some(-1), 1),
        (&ended, None, 0),
        (&pod(json!({})), None, 0),
    ] {
        assert_eq!(pods().graceful_delete(obj, asked), Some(expected), "{asked:?}");
    }
}

#[test]
fn ephemeral_containers_are_added_only() {
    let part = pods().subresource("ephemeralcontainers").unwrap();
    let old = created(pod(json!({})));
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] =
        json!([{"name": "debug", "image": "b:1", "targetContainerName": "a"}]);
    new["spec"]["nodeName"] = "elsewhere".into();
    pods().set_defaults(&mut new);
    part.prepare_update(&mut new, &old);
    assert!(part.validate(&new, &old).is_empty());
    assert_eq!(new["spec"].get("nodeName"), None, "nothing else changes");

    let mut gone = new.clone();
    gone["spec"]["ephemeralContainers"] = json!([]);
    part.prepare_update(&mut gone, &new);
    assert_eq!(
        part.validate(&gone, &new).to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"
    );
}

#[test]
fn resize_changes_cpu_and_memory_only() {
    let part = pods().subresource("resize").unwrap();
    let amounts = |cpu: &str| with(json!({"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}));
    let old = created(amounts("1"));
    let mut new = created(amounts("2"));
    part.prepare_update(&mut new, &old);
    assert!(part.validate(&new, &old).is_empty());
    assert_eq!(new["metadata"]["generation"], 2);

    let mut none = created(with(json!({})));
    part.prepare_update(&mut none, &old);
    let errors = part.validate(&none, &old).to_string();
    assert!(errors.contains("resource requests cannot be removed"), "{errors}");
    assert!(
        errors.contains("Pod QOS Class may not change as a result of resizing"),
        "{errors}"
    );
}
