//! The rules in a real kernel: a host and two pods as network namespaces, real TCP connections through service
//! addresses. Needs root, iproute2, nft and busybox, as the machines that run kube-proxy have them.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use kube_proxy::model::{Entry, Family, NodeInfo, ServiceInfo, ServiceName, Slice};
use kube_proxy::render::{Dialect, MASQUERADE_BIT};
use kube_proxy::service_rules::Context;
use kube_proxy::table::Table;
use serde_json::{Value, json};

/// Namespaces of one test; taken away at the end, whatever happened.
struct World {
    prefix: String,
    servers: Vec<Child>,
}

impl World {
    /// `host` with 10.11.0.1 towards pod `a` (10.11.0.2) and 10.11.1.1 towards pod `b` (10.11.1.2).
    fn new(name: &str) -> Self {
        let world = Self {
            prefix: format!("ksched-{}-{name}", std::process::id()),
            servers: Vec::new(),
        };
        let host = world.ns("host");
        run("ip", &["netns", "add", &host]);
        world.inside("host", &["ip", "link", "set", "lo", "up"]);
        world.inside("host", &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        for (nth, pod) in ["a", "b"].into_iter().enumerate() {
            let ns = world.ns(pod);
            let (link, gateway, address) = (
                format!("to-{pod}"),
                format!("10.11.{nth}.1/24"),
                format!("10.11.{nth}.2/24"),
            );
            run("ip", &["netns", "add", &ns]);
            let peer = ["peer", "name", "eth0", "netns", &ns];
            world.inside(
                "host",
                &[&["ip", "link", "add", &link, "type", "veth"], &peer[..]].concat(),
            );
            world.inside("host", &["ip", "address", "add", &gateway, "dev", &link]);
            world.inside("host", &["ip", "link", "set", &link, "up"]);
            world.inside(pod, &["ip", "address", "add", &address, "dev", "eth0"]);
            world.inside(pod, &["ip", "link", "set", "lo", "up"]);
            world.inside(pod, &["ip", "link", "set", "eth0", "up"]);
            let via = gateway.trim_end_matches("/24");
            world.inside(pod, &["ip", "route", "add", "default", "via", via]);
        }
        // A host has one; without it the kernel would refuse service addresses before any rule sees them.
        world.inside("host", &["ip", "route", "add", "default", "via", "10.11.0.2"]);
        world
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn command(&self, ns: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(ns)]).args(args);
        command
    }

    fn inside(&self, ns: &str, args: &[&str]) {
        check(args, self.command(ns, args).output().unwrap());
    }

    /// A server in a pod that answers every connection with the pod's name; returns once it listens.
    fn serve(&mut self, pod: &str) {
        let answer = format!("{}/answer-{}", std::env::temp_dir().display(), self.ns(pod));
        std::fs::write(&answer, format!("#!/bin/sh\necho {pod}\n")).unwrap();
        run("chmod", &["+x", &answer]);
        let args = ["busybox", "nc", "-ll", "-p", "8080", "-e", &answer];
        let child = self.command(pod, &args).stdout(Stdio::null()).spawn().unwrap();
        self.servers.push(child);
        while self.connect(pod, "127.0.0.1", "8080").is_empty() {
            std::thread::yield_now();
        }
    }

    /// What a connection from a namespace reads; empty when it is refused.
    fn connect(&self, from: &str, ip: &str, port: &str) -> String {
        let output = self
            .command(from, &["busybox", "nc", "-w", "5", ip, port])
            .stdin(Stdio::null())
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).trim().to_owned()
    }

    fn nft(&self, text: &str) {
        let mut child = self
            .command("host", &["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        check(&[text], child.wait_with_output().unwrap());
    }

    fn listed(&self) -> String {
        let output = self
            .command("host", &["nft", "list", "table", "ip", "kube-proxy"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &mut self.servers {
            _ = server.kill();
            _ = server.wait();
        }
        for name in ["a", "b", "host"] {
            _ = std::fs::remove_file(format!(
                "{}/answer-{}",
                std::env::temp_dir().display(),
                self.ns(name)
            ));
            _ = Command::new("ip").args(["netns", "del", &self.ns(name)]).output();
        }
    }
}

fn run(program: &str, args: &[&str]) {
    check(args, Command::new(program).args(args).output().unwrap());
}

fn check(what: &[&str], output: Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", what.join(" "));
}

fn name() -> ServiceName {
    ServiceName {
        namespace: "ns".into(),
        name: "web".into(),
    }
}

fn entry(spec: Value, endpoints: &[&str]) -> Entry {
    let mut service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {
        "clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|ip| json!({"addresses": [ip], "nodeName": "here"}))
        .collect();
    let slice = json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080}]});
    Entry {
        info: ServiceInfo::new(&serde_json::from_value(service).unwrap()),
        slices: [(
            "s".to_owned(),
            Slice::new(&serde_json::from_value(slice).unwrap(), "here"),
        )]
        .into(),
    }
}

/// Brings a host's table to one service.
fn sync(world: &World, table: &mut Table, entry: Option<Entry>) -> String {
    let context = Context {
        node: NodeInfo {
            name: "here".into(),
            ..NodeInfo::default()
        },
        cluster_cidrs: vec!["10.11.0.0/16".parse().unwrap()],
        masquerade_all: false,
    };
    let model: BTreeMap<_, _> = entry.map(|e| (name(), e)).into_iter().collect();
    let changed: BTreeSet<_> = [name()].into();
    let text = table.update(&model, &changed, &context, &["10.11.0.1".parse().unwrap()]);
    world.nft(&text);
    text
}

fn table() -> Table {
    Table::new(Dialect {
        family: Family::V4,
        masquerade_bit: MASQUERADE_BIT,
    })
}

const BOTH: &[&str] = &["10.11.0.2", "10.11.1.2"];

#[test]
fn connections_reach_ready_endpoints_from_everywhere() {
    let mut world = World::new("reach");
    world.serve("a");
    world.serve("b");
    let mut table = table();
    sync(&world, &mut table, Some(entry(json!({}), BOTH)));
    for from in ["a", "b", "host"] {
        let answers: BTreeSet<String> = (0..40).map(|_| world.connect(from, "10.96.0.5", "80")).collect();
        assert_eq!(answers, ["a".to_owned(), "b".to_owned()].into(), "from {from}");
    }
    assert_ne!(
        world.connect("b", "10.11.0.1", "30080"),
        "",
        "node port from a pod"
    );
    assert_ne!(
        world.connect("host", "10.11.0.1", "30080"),
        "",
        "node port from the host"
    );

    let text = sync(&world, &mut table, Some(entry(json!({}), &BOTH[1..])));
    assert!(!text.contains("delete table"), "only the difference: {text}");
    for _ in 0..10 {
        assert_eq!(world.connect("a", "10.96.0.5", "80"), "b");
    }
    assert_eq!(
        world.connect("a", "10.96.0.5", "81"),
        "",
        "a port the service does not have"
    );

    sync(&world, &mut table, Some(entry(json!({}), &[])));
    assert_eq!(world.connect("a", "10.96.0.5", "80"), "", "no endpoint");
    sync(&world, &mut table, None);
    assert!(
        !world.listed().contains("web"),
        "nothing of the service stays: {}",
        world.listed()
    );
}

#[test]
fn clients_stay_with_their_endpoint() {
    let mut world = World::new("stay");
    world.serve("a");
    world.serve("b");
    let mut table = table();
    sync(
        &world,
        &mut table,
        Some(entry(json!({"sessionAffinity": "ClientIP"}), BOTH)),
    );
    let answers: BTreeSet<String> = (0..20)
        .map(|_| world.connect("host", "10.96.0.5", "80"))
        .collect();
    assert!(answers.len() == 1 && !answers.contains(""), "{answers:?}");
}

#[test]
fn every_kind_of_service_is_accepted_by_nft_and_taken_away_again() {
    let world = World::new("kinds");
    let kinds = [
        json!({"externalIPs": ["198.51.100.1"], "sessionAffinity": "ClientIP"}),
        json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
        json!({"externalIPs": ["198.51.100.2"], "ports": [
            {"name": "", "port": 53, "protocol": "UDP"}, {"name": "s", "port": 5, "protocol": "SCTP"}]}),
    ];
    let mut table = table();
    for kind in kinds {
        for endpoints in [BOTH, &BOTH[..1], &[]] {
            sync(&world, &mut table, Some(entry(kind.clone(), endpoints)));
        }
    }
    sync(&world, &mut table, None);
    assert!(!world.listed().contains("web"), "{}", world.listed());
    table.failed();
    sync(&world, &mut table, Some(entry(json!({}), BOTH)));
    assert!(world.listed().contains("endpoint-"), "{}", world.listed());
}
