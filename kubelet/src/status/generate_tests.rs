//! Tables: what the runtime shows and the phase, states and conditions that follow.

use super::*;
use crate::runtime::state::{ContainerSeen, ContainerState, PodSeen, SandboxSeen};
use serde_json::{Value, json};

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec}),
    )
    .unwrap()
}

fn container(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> ContainerSeen {
    ContainerSeen {
        id: format!("{name}-{attempt}"),
        name: name.into(),
        sandbox_id: "s".into(),
        attempt,
        state,
        created_at: Some(at(i64::from(attempt) + 1)),
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "i".into(),
        image_id: "sha".into(),
        hash: None,
        log_path: String::new(),
        user: None,
    }
}

fn seen(containers: Vec<ContainerSeen>) -> Seen {
    let sandbox = SandboxSeen {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at: 1,
        ips: vec!["10.0.0.9".into()],
        runtime_handler: String::new(),
    };
    let mut runtime = PodSeen {
        sandboxes: vec![sandbox],
        containers,
    };
    runtime.sort();
    Seen {
        runtime,
        ..Seen::default()
    }
}

fn line(status: &PodStatus) -> String {
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.status == "True")
        .map(|c| c.type_.clone())
        .collect();
    format!(
        "{} [{}]",
        status.phase.as_deref().unwrap_or_default(),
        conditions.join(" ")
    )
}

fn check(spec: Value, containers: Vec<ContainerSeen>, stopped: bool, want: &str) -> PodStatus {
    let known = Known {
        stopped,
        runtime_name: "containerd".into(),
        ..Known::default()
    };
    let status = generate(&pod(spec), &seen(containers), &known, at(50));
    assert_eq!(line(&status), want);
    status
}

#[test]
fn phases_and_conditions() {
    use ContainerState::*;
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]});
    let up = "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled";
    check(
        spec("Always"),
        vec![],
        false,
        "Pending [PodReadyToStartContainers Initialized PodScheduled]",
    );
    let status = check(
        spec("Always"),
        vec![container("c", 0, Running, 0)],
        false,
        &format!("Running [{up}]"),
    );
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(status.observed_generation, Some(3));
    let c = &status.container_statuses.unwrap()[0];
    assert_eq!(
        (c.container_id.as_deref(), c.ready, c.started),
        (Some("containerd://c-0"), true, Some(true))
    );
    check(
        spec("Always"),
        vec![container("c", 0, Exited, 1)],
        false,
        "Running [PodReadyToStartContainers Initialized PodScheduled]",
    );
    check(
        spec("Never"),
        vec![container("c", 0, Exited, 0)],
        false,
        "Running [PodReadyToStartContainers Initialized PodScheduled]",
    );
    check(
        spec("Never"),
        vec![container("c", 0, Exited, 0)],
        true,
        "Succeeded [PodReadyToStartContainers Initialized PodScheduled]",
    );
    check(
        spec("Never"),
        vec![container("c", 0, Exited, 1)],
        true,
        "Failed [PodReadyToStartContainers Initialized PodScheduled]",
    );
}

#[test]
fn init_containers_hold_the_pod_pending() {
    use ContainerState::*;
    let spec = json!({"initContainers": [{"name": "a"}], "containers": [{"name": "c"}]});
    let status = check(
        spec.clone(),
        vec![container("a", 0, Running, 0)],
        false,
        "Pending [PodReadyToStartContainers PodScheduled]",
    );
    let waiting = status.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    check(
        spec,
        vec![container("a", 0, Exited, 0), container("c", 0, Running, 0)],
        false,
        "Running [PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled]",
    );
}

#[test]
fn a_crash_loop_shows_why_it_waits_and_how_it_ended() {
    let mut known = Known {
        runtime_name: "containerd".into(),
        ..Known::default()
    };
    known.waiting.insert(
        "c".into(),
        crate::plan::actions::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: "back-off 10s".into(),
        },
    );
    let s = seen(vec![container("c", 1, ContainerState::Exited, 7)]);
    let status = generate(&pod(json!({"containers": [{"name": "c"}]})), &s, &known, at(50));
    let c = &status.container_statuses.unwrap()[0];
    assert_eq!(c.restart_count, 1);
    assert_eq!(
        c.state.clone().unwrap().waiting.unwrap().reason.as_deref(),
        Some("CrashLoopBackOff")
    );
    assert_eq!(c.last_state.clone().unwrap().terminated.unwrap().exit_code, 7);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn a_refused_pod_fails_with_its_reason() {
    let known = Known {
        failed: Some(("NodePorts".into(), "m".into())),
        stopped: true,
        ..Known::default()
    };
    let status = generate(
        &pod(json!({"containers": [{"name": "c"}]})),
        &Seen::default(),
        &known,
        at(50),
    );
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("NodePorts"))
    );
    assert_eq!(status.container_statuses, None);
    // A kubelet that starts later only knows the API server's copy; it adds nothing to it.
    let mut refused = pod(json!({"containers": [{"name": "c"}]}));
    refused.status = Some(status.clone());
    let again = generate(&refused, &Seen::default(), &Known::default(), at(90));
    assert_eq!(
        (again.container_statuses, again.conditions, again.reason),
        (None, None, status.reason)
    );
}
