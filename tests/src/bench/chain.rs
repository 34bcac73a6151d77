//! The event chain, from kubectl to running containers and back, timed by watching from outside; below the medians
//! the components' own numbers say where the time of a round goes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::watcher;

use super::{median, seconds, steps};

/// How long one round may take.
const ROUND_LIMIT: Duration = Duration::from_secs(180);

/// Options of the chain benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kubeconfig of the cluster
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Image that is present on the nodes
    #[arg(long, default_value = "keelson.local/web:1")]
    image: String,
    /// Sizes of the Deployment
    #[arg(long, value_delimiter = ',', default_value = "1,10,30")]
    replicas: Vec<usize>,
    /// Rounds of each size; the median counts
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Namespace to work in; made and removed
    #[arg(long, default_value = "keelson-bench")]
    namespace: String,
    /// Directory of NAME.pid files of the cluster's processes on this machine, to show their CPU
    #[arg(long)]
    run_dir: Option<PathBuf>,
}

/// When things were seen, counted from the start of kubectl.
#[derive(Clone, Debug, Default)]
struct Seen {
    kubectl_returned: Duration,
    replica_set: Duration,
    pod_first: Duration,
    pod_last: Duration,
    bound_last: Duration,
    running_first: Duration,
    running_last: Duration,
    gone: Duration,
}

/// A row of the table: a name, and what it reads of a round.
type Row = (&'static str, fn(&Seen) -> Duration);

const ROWS: &[Row] = &[
    ("kubectl returned", |seen| seen.kubectl_returned),
    ("ReplicaSet seen", |seen| seen.replica_set),
    ("first Pod seen", |seen| seen.pod_first),
    ("last Pod seen", |seen| seen.pod_last),
    ("last Pod bound", |seen| seen.bound_last),
    ("first Pod Running", |seen| seen.running_first),
    ("all Running", |seen| seen.running_last),
    ("deleted to gone", |seen| seen.gone),
];

/// Runs all rounds and prints a table of medians in seconds.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let client = keelson_client::connect(Some(options.kubeconfig.as_path()), "keelson-bench").await?;
    make_namespace(&client, &options.namespace).await?;
    let mut columns = Vec::new();
    for &replicas in &options.replicas {
        let mut rounds = Vec::new();
        let before = steps::read(&client, options.run_dir.as_deref()).await?;
        for round in 0..options.rounds {
            let seen = tokio::time::timeout(ROUND_LIMIT, one_round(options, &client, replicas))
                .await
                .with_context(|| {
                    format!("{replicas} replicas: not done within {} s", ROUND_LIMIT.as_secs())
                })??;
            eprintln!(
                "{replicas} replicas, round {}: Running {} s, gone {} s",
                round + 1,
                seconds(seen.running_last),
                seconds(seen.gone)
            );
            rounds.push(seen);
        }
        let after = steps::read(&client, options.run_dir.as_deref()).await?;
        println!(
            "{replicas} replicas, means of {} rounds (calls overlap):",
            options.rounds
        );
        after.print_since(&before, options.rounds);
        println!();
        columns.push(rounds);
    }
    print_medians(options, &columns);
    Api::<Namespace>::all(client)
        .delete(&options.namespace, &DeleteParams::default())
        .await?;
    Ok(())
}

fn print_medians(options: &Options, columns: &[Vec<Seen>]) {
    print!("{:20}", "median, seconds");
    options
        .replicas
        .iter()
        .for_each(|replicas| print!("{replicas:>10}"));
    println!();
    for (name, read) in ROWS {
        print!("{name:20}");
        for rounds in columns {
            print!("{:>10}", seconds(median(rounds.iter().map(read).collect())));
        }
        println!();
    }
}

async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?;
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).context("create the namespace"),
    }
    // Pods are refused until the namespace has its service account.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), name);
    let made = kube::runtime::wait::await_condition(accounts, "default", |found: Option<&_>| found.is_some());
    tokio::time::timeout(Duration::from_secs(30), made)
        .await
        .context("wait for the default service account")??;
    Ok(())
}

async fn kubectl(options: &Options, arguments: &[String]) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&options.kubeconfig)
        .args(["-n", &options.namespace])
        .args(arguments)
        .output()
        .await
        .context("run kubectl")?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

async fn one_round(options: &Options, client: &Client, replicas: usize) -> anyhow::Result<Seen> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &options.namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &options.namespace);
    let mut pods = watcher(pods, watcher::Config::default()).boxed();
    let mut sets = watcher(sets, watcher::Config::default()).boxed();
    until_listed(&mut pods).await?;
    until_listed(&mut sets).await?;
    let mut seen = Seen::default();
    let began = Instant::now();
    let arguments = ["create", "deployment", "bench"].map(str::to_owned).into_iter();
    let more = [
        format!("--image={}", options.image),
        format!("--replicas={replicas}"),
    ];
    let arguments: Vec<String> = arguments.chain(more).collect();
    let mut created = Box::pin(kubectl(options, &arguments));
    let mut returned = false;
    let mut state: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    loop {
        tokio::select! {
            outcome = &mut created, if !returned => {
                outcome?;
                returned = true;
                seen.kubectl_returned = began.elapsed();
            }
            event = sets.try_next() => {
                if let Some(watcher::Event::Apply(_)) = event? && seen.replica_set.is_zero() {
                    seen.replica_set = began.elapsed();
                }
            }
            event = pods.try_next() => {
                let Some(watcher::Event::Apply(pod)) = event? else { continue };
                note(&mut seen, &mut state, &pod, began.elapsed());
                if state.len() == replicas && state.values().all(|(_, running)| *running) {
                    break;
                }
            }
        }
    }
    if !returned {
        created.await?;
    }
    seen.gone = delete(options, &mut pods, &mut state).await?;
    Ok(seen)
}

fn note(seen: &mut Seen, state: &mut BTreeMap<String, (bool, bool)>, pod: &Pod, at: Duration) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if !state.contains_key(&name) {
        if state.is_empty() {
            seen.pod_first = at;
        }
        seen.pod_last = at;
    }
    let (bound, running) = state.entry(name).or_default();
    if !*bound && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        *bound = true;
        seen.bound_last = at;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !*running && phase == Some("Running") {
        *running = true;
        if seen.running_first.is_zero() {
            seen.running_first = at;
        }
        seen.running_last = at;
    }
}

type Events<K> = futures::stream::BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>;

async fn until_listed<K>(events: &mut Events<K>) -> anyhow::Result<()> {
    while let Some(event) = events.try_next().await? {
        if matches!(event, watcher::Event::InitDone) {
            return Ok(());
        }
    }
    bail!("the watch ended")
}

async fn delete(
    options: &Options,
    pods: &mut Events<Pod>,
    state: &mut BTreeMap<String, (bool, bool)>,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let arguments = ["delete", "deployment", "bench"].map(str::to_owned);
    let mut deleted = Box::pin(kubectl(options, &arguments));
    let mut returned = false;
    let mut gone = Duration::ZERO;
    while !(returned && state.is_empty()) {
        tokio::select! {
            outcome = &mut deleted, if !returned => {
                outcome?;
                returned = true;
            }
            event = pods.try_next() => {
                if let Some(watcher::Event::Delete(pod)) = event? {
                    state.remove(pod.metadata.name.as_deref().unwrap_or_default());
                    gone = began.elapsed();
                }
            }
        }
    }
    Ok(gone)
}
