//! Tables for the planner: a spec, what the runtime shows, what must follow.

use super::*;
use crate::runtime::state::SandboxSeen;
use serde_json::{Value, json};

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn one(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}))
}

fn sandbox(attempt: u32, ready: bool) -> SandboxSeen {
    SandboxSeen {
        id: format!("s{attempt}"),
        attempt,
        ready,
        created_at: i64::from(attempt),
        ips: vec!["10.0.0.2".into()],
        runtime_handler: String::new(),
    }
}

fn container(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> ContainerSeen {
    ContainerSeen {
        id: format!("{name}-{attempt}"),
        name: name.into(),
        sandbox_id: "s0".into(),
        attempt,
        state,
        created_at: Some(at(1 + i64::from(attempt))),
        started_at: Some(at(1 + i64::from(attempt))),
        finished_at: (state == ContainerState::Exited).then(|| at(100)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "i".into(),
        image_id: String::new(),
        hash: None,
        log_path: String::new(),
        user: None,
    }
}

fn seen(sandboxes: Vec<SandboxSeen>, containers: Vec<ContainerSeen>) -> Seen {
    let mut runtime = PodSeen {
        sandboxes,
        containers,
    };
    runtime.sort();
    Seen {
        runtime,
        ..Seen::default()
    }
}

/// A plan in one line.
fn text(plan: &PodPlan) -> String {
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|a| match a {
            PodAction::KillPod { .. } => "kill-pod".into(),
            PodAction::CreateSandbox { attempt } => format!("sandbox:{attempt}"),
            PodAction::KillContainer { name, reason, .. } => format!("kill:{name}:{reason:?}"),
            PodAction::StartContainer(s) => format!("start:{}:{}", s.name, s.restart_count),
        })
        .collect();
    words.extend(
        plan.waiting
            .iter()
            .map(|(name, w)| format!("wait:{name}:{}", w.reason)),
    );
    if plan.finished {
        words.push("finished".into());
    }
    words.join(" ")
}

fn check(pod: &Pod, seen: Seen, want: &str) {
    assert_eq!(text(&pod_actions(pod, &seen, at(101))), want, "{seen:?}");
}

#[test]
fn a_pod_from_nothing_to_running() {
    use ContainerState::*;
    check(&one("Always"), seen(vec![], vec![]), "sandbox:0 start:c:0");
    check(&one("Always"), seen(vec![sandbox(0, true)], vec![]), "start:c:0");
    check(
        &one("Always"),
        seen(vec![sandbox(0, true)], vec![container("c", 0, Running, 0)]),
        "",
    );
}

#[test]
fn ended_containers_follow_the_policy() {
    use ContainerState::*;
    for (policy, code, want) in [
        ("Always", 0, "start:c:1"),
        ("Always", 1, "start:c:1"),
        ("OnFailure", 0, "finished"),
        ("OnFailure", 1, "start:c:1"),
        ("Never", 0, "finished"),
        ("Never", 1, "finished"),
    ] {
        check(
            &one(policy),
            seen(vec![sandbox(0, true)], vec![container("c", 0, Exited, code)]),
            want,
        );
    }
}

#[test]
fn a_dead_sandbox_is_replaced_unless_the_pod_is_done() {
    use ContainerState::*;
    let dead = |policy: &str, code| {
        (
            one(policy),
            seen(vec![sandbox(0, false)], vec![container("c", 0, Exited, code)]),
        )
    };
    for (policy, code, want) in [
        ("Always", 137, "kill-pod sandbox:1 start:c:1"),
        ("OnFailure", 0, "finished"),
        ("OnFailure", 137, "kill-pod sandbox:1 start:c:1"),
        ("Never", 137, "finished"),
    ] {
        let (pod, seen) = dead(policy, code);
        check(&pod, seen, want);
    }
    check(
        &one("Always"),
        seen(vec![sandbox(0, true), sandbox(1, true)], vec![]),
        "kill-pod sandbox:2 start:c:0",
    );
}

#[test]
fn crash_loops_wait() {
    let mut s = seen(
        vec![sandbox(0, true)],
        vec![container("c", 1, ContainerState::Exited, 1)],
    );
    s.restarts.insert(
        "c".into(),
        Backoff {
            delay_s: 10,
            updated: at(90),
        },
    );
    let plan = pod_actions(&one("Always"), &s, at(101));
    assert_eq!(text(&plan), "wait:c:CrashLoopBackOff");
    assert_eq!(
        plan.waiting["c"].message,
        "back-off 10s restarting failed container=c pod=p_n(u)"
    );
    assert_eq!(plan.retry_after.unwrap().as_secs(), 9);
    assert_eq!(text(&pod_actions(&one("Always"), &s, at(110))), "start:c:2");
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    use ContainerState::*;
    let p = pod(
        json!({"initContainers": [{"name": "a"}, {"name": "side", "restartPolicy": "Always"}, {"name": "b"}],
        "containers": [{"name": "c"}]}),
    );
    let s = |c| seen(vec![sandbox(0, true)], c);
    check(&p, seen(vec![], vec![]), "sandbox:0 start:a:0");
    check(&p, s(vec![container("a", 0, Running, 0)]), "");
    check(&p, s(vec![container("a", 0, Exited, 1)]), "start:a:1");
    check(&p, s(vec![container("a", 0, Exited, 0)]), "start:side:0");
    let a = container("a", 0, Exited, 0);
    check(
        &p,
        s(vec![a.clone(), container("side", 0, Running, 0)]),
        "start:b:0",
    );
    let side = container("side", 0, Running, 0);
    check(
        &p,
        s(vec![a.clone(), side.clone(), container("b", 0, Exited, 0)]),
        "start:c:0",
    );
    check(
        &p,
        s(vec![side.clone(), container("b", 0, Exited, 0)]),
        "start:c:0",
    );
    let all = vec![
        a,
        container("side", 0, Exited, 1),
        container("b", 0, Exited, 0),
        container("c", 0, Running, 0),
    ];
    check(&p, s(all), "start:side:1");
    let never = pod(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "a"}], "containers": [{"name": "c"}]}),
    );
    check(&never, s(vec![container("a", 0, Exited, 1)]), "finished");
}

#[test]
fn failed_probes_and_changed_definitions_kill() {
    let mut s = seen(
        vec![sandbox(0, true)],
        vec![container("c", 0, ContainerState::Running, 0)],
    );
    s.probes.insert(
        "c-0".into(),
        Verdicts {
            live: Some(false),
            ..Verdicts::default()
        },
    );
    check(&one("Always"), s.clone(), "kill:c:Liveness");
    s.probes.insert(
        "c-0".into(),
        Verdicts {
            started: Some(false),
            ..Verdicts::default()
        },
    );
    check(&one("Always"), s.clone(), "kill:c:Startup");
    s.probes.clear();
    s.runtime.containers[0].hash = Some(1);
    check(&one("Always"), s, "kill:c:Changed");
}

#[test]
fn failed_starts_wait_for_their_time() {
    let mut s = seen(vec![sandbox(0, true)], vec![]);
    s.retry_at.insert("c".into(), at(111));
    let plan = pod_actions(&one("Always"), &s, at(101));
    assert_eq!(
        (text(&plan).as_str(), plan.retry_after.unwrap().as_secs()),
        ("", 10)
    );
    let mut s = seen(vec![], vec![]);
    s.sandbox_retry_at = Some(at(105));
    assert_eq!(
        pod_actions(&one("Always"), &s, at(101))
            .retry_after
            .unwrap()
            .as_secs(),
        4
    );
}

#[test]
fn exit_code_rules_beat_the_policy() {
    let p = pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}),
    );
    let s = |code| {
        seen(
            vec![sandbox(0, true)],
            vec![container("c", 0, ContainerState::Exited, code)],
        )
    };
    check(&p, s(42), "start:c:1");
    check(&p, s(1), "finished");
}
