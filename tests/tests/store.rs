//! Runs every transcript of `tests/store` against kube-store and against a real etcd, with the same text.
//!
//! Each run has servers of its own: empty directories, free ports. Transcripts of `tests/store` run on one member;
//! those of `tests/store/three` on three members with client certificates, as do some of the others. The reference and
//! `etcdctl` are those of `tests/reference/fetch.sh etcd`. What is missing fails: nothing is skipped in silence.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::{certificates, programs};
use keelson_tests::transcript;
use libtest_mimic::{Arguments, Failed, Trial};

/// How long servers may take to serve.
const START: Duration = Duration::from_secs(30);
/// Flags of every server: authentication tokens live three seconds without use.
const FLAGS: &[&str] = &["--auth-token-ttl=3"];
/// Transcripts that say nothing of a single server, and run on three members as well.
const ANYWHERE: &[&str] = &["put", "get", "del", "txn", "watch", "lease", "lock", "compaction"];

#[derive(Clone, Copy)]
enum Server {
    Ours,
    Reference,
}

fn main() {
    let arguments = Arguments::from_args();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("store");
    let mut trials = Vec::new();
    for (server, title) in [(Server::Ours, "kube-store"), (Server::Reference, "etcd")] {
        let mut add = |file: PathBuf, members: usize| {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let test = match members {
                1 => format!("{title}::{name}"),
                _ => format!("{title}::three::{name}"),
            };
            trials.push(Trial::test(test, move || {
                scenario(server, &file, members).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        };
        for file in texts(&dir) {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if ANYWHERE.contains(&name.as_str()) {
                add(file.clone(), 3);
            }
            add(file, 1);
        }
        for file in texts(&dir.join("three")) {
            add(file, 3);
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn texts(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the suite's directory is part of the tree")
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    files.sort();
    files
}

fn scenario(server: Server, file: &Path, members: usize) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let steps = transcript::parse(&text).with_context(|| format!("parse {}", file.display()))?;
    let reference = programs::reference()?;
    let program = match server {
        Server::Ours => programs::kube_store()?,
        Server::Reference => reference.join("etcd"),
    };
    let dir = tempfile::tempdir().context("make a directory for the transcript")?;
    let work = dir.path().join("work");
    std::fs::create_dir_all(&work)?;
    let tls = (members > 1)
        .then(|| certificates::make(&dir.path().join("pki"), "client"))
        .transpose()?;
    let mut cluster = Cluster::new(Plan {
        program: program.clone(),
        members,
        dir: dir.path(),
        network: None,
        tls: tls.clone(),
        flags: FLAGS.iter().map(|flag| (*flag).to_owned()).collect(),
    })?;
    if members == 1 {
        cluster.members[0].name = "default".to_owned();
    }
    cluster.start_all()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut env: Vec<(String, String)> = vec![
        ("PATH".to_owned(), format!("{}:{path}", reference.display())),
        ("ETCDCTL_API".to_owned(), "3".to_owned()),
        ("ETCDCTL_ENDPOINTS".to_owned(), cluster.client_urls().join(",")),
        ("HOME".to_owned(), work.display().to_string()),
        ("LC_ALL".to_owned(), "C".to_owned()),
    ];
    if let Some(tls) = &tls {
        for (name, file) in [
            ("ETCDCTL_CACERT", &tls.ca),
            ("ETCDCTL_CERT", &tls.client_cert),
            ("ETCDCTL_KEY", &tls.client_key),
        ] {
            env.push((name.to_owned(), file.display().to_string()));
        }
    }
    eventually(START, || {
        let mut healthy = Command::new("etcdctl");
        healthy.args(["endpoint", "health"]).envs(env.clone());
        programs::run(&mut healthy).map(drop)
    })
    .with_context(|| cluster.tails())?;
    transcript::run(&steps, &work, &env).with_context(|| format!("against {}", program.display()))
}
