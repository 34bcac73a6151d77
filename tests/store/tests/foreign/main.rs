//! The etcd-client crate as a foreign client: the same code against kube-store and against etcd, with equal answers.
//!
//! Every answer is written down as the client shows it, without what two clusters cannot have in common (identities, the
//! Raft term, sizes, versions, what time has left of a lease). The two transcripts must be the same, line by line.

mod users;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, Compare, CompareOp, DeleteOptions,
    Error, GetOptions, KeyValue, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, MemberAddOptions,
    ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, WatchFilterType,
    WatchOptions, WatchStream,
};
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::programs;
use regex::Regex;

const SERVE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the whole script may take.
const SCRIPT: Duration = Duration::from_secs(60);
const LEASE: i64 = 4_242;

/// What the client saw, line by line.
#[derive(Default)]
struct Transcript {
    lines: Vec<String>,
}

impl Transcript {
    fn say<T: Debug>(&mut self, what: &str, answer: Result<T, Error>) {
        let shown = match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(other) => format!("{other:?}"),
        };
        self.lines.push(format!("{what}: {}", anonymous(&shown)));
    }
}

/// Without what two clusters do not have in common.
fn anonymous(text: &str) -> String {
    let hidden = [
        r"(cluster_id|member_id|raft_term|raft_index|raft_applied_index|leader|db_size\w*): \d+",
        r"(\bid): \d{6,}",
        r#"(version|storage_version|token): "[^"]*""#,
        r#"(peer_ur_ls|client_ur_ls): \[[^\]]*\]"#,
        r"(hash): \d+",
    ];
    let mut text = text.to_owned();
    for pattern in hidden {
        let pattern = Regex::new(pattern).expect("a constant");
        text = pattern.replace_all(&text, "$1: ..").into_owned();
    }
    text
}

fn serve(program: &Path, dir: &Path) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::new(Plan {
        program: program.to_owned(),
        members: 1,
        dir,
        network: None,
        tls: None,
        flags: vec!["--max-txn-ops=8".to_owned()],
    })?;
    cluster.start_all()?;
    Ok(cluster)
}

/// What the client sees of a server.
fn transcript(program: &Path) -> anyhow::Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let mut cluster = serve(program, dir.path())?;
    let url = cluster.members[0].client_url.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let client = eventually(SERVE, || {
        runtime.block_on(async {
            let mut client = Client::connect([&url], None).await?;
            client.get("serving", None).await?;
            anyhow::Ok(client)
        })
    })
    .with_context(|| cluster.tails())?;
    let mut seen = Transcript::default();
    let outcome = runtime.block_on(async {
        let whole = tokio::time::timeout(SCRIPT, script(client, &url, &mut seen)).await;
        whole.context("a request is not answered")?
    });
    outcome.with_context(|| format!("after {:#?}\n{}", seen.lines.last(), cluster.tails()))?;
    cluster.stop_all()?;
    Ok(seen.lines)
}

async fn script(mut client: Client, url: &str, seen: &mut Transcript) -> anyhow::Result<()> {
    keys(&mut client, seen).await;
    ranges(&mut client, seen).await;
    deletions(&mut client, seen).await;
    transactions(&mut client, seen).await;
    watches(&mut client, seen).await?;
    leases(&mut client, seen).await?;
    locks(&mut client, seen).await?;
    elections(&mut client, seen).await?;
    maintenance(&mut client, seen).await?;
    members(&mut client, seen).await;
    users::script(&mut client, url, seen).await
}

async fn keys(client: &mut Client, seen: &mut Transcript) {
    for number in 0..6u8 {
        let key = format!("k/{}", char::from(b'f' - number));
        seen.say("put", client.put(key, [number % 3 + b'0'], None).await);
    }
    let options = PutOptions::new().with_prev_key();
    seen.say("put, prev", client.put("k/a", "again", Some(options)).await);
    let options = PutOptions::new().with_ignore_value().with_prev_key();
    seen.say("ignore value", client.put("k/a", "", Some(options.clone())).await);
    seen.say("value given", client.put("k/a", "x", Some(options.clone())).await);
    seen.say("no such key", client.put("none", "", Some(options)).await);
    seen.say("no key", client.put("", "x", None).await);
    let lease = PutOptions::new().with_lease(99);
    seen.say("no lease", client.put("k/a", "x", Some(lease)).await);
}

async fn ranges(client: &mut Client, seen: &mut Transcript) {
    let all = || GetOptions::new().with_prefix();
    for target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
            // Go's sort may swap what is equal, so only what is sorted by is compared.
            let answer = client.get("k/", Some(all().with_sort(target, order))).await;
            let sorted = answer.map(|answer| {
                let by = |kv: &KeyValue| match target {
                    SortTarget::Key => (0, kv.key().to_vec()),
                    SortTarget::Version => (kv.version(), Vec::new()),
                    SortTarget::Create => (kv.create_revision(), Vec::new()),
                    SortTarget::Mod => (kv.mod_revision(), Vec::new()),
                    SortTarget::Value => (0, kv.value().to_vec()),
                };
                answer.kvs().iter().map(by).collect::<Vec<_>>()
            });
            seen.say(&format!("{target:?} {order:?}"), sorted);
        }
    }
    let many = [
        all().with_limit(2),
        all()
            .with_limit(2)
            .with_sort(SortTarget::Value, SortOrder::Descend),
        all().with_count_only(),
        all().with_revision(4),
        all().with_revision(1),
        all().with_revision(999),
        all().with_min_mod_revision(4),
        all().with_max_mod_revision(4),
        all().with_min_create_revision(5),
        all().with_max_create_revision(3),
        all().with_max_create_revision(3).with_limit(1),
        all().with_serializable(),
        GetOptions::new().with_all_keys(),
        GetOptions::new().with_from_key(),
        GetOptions::new().with_range("k/c"),
        GetOptions::new().with_range("a"),
    ];
    for options in many {
        seen.say("get", client.get("k/", Some(options)).await);
    }
    seen.say("no key", client.get("", None).await);
}

async fn deletions(client: &mut Client, seen: &mut Transcript) {
    let gone = DeleteOptions::new().with_prev_key();
    seen.say("delete", client.delete("k/f", Some(gone.clone())).await);
    seen.say("delete again", client.delete("k/f", Some(gone)).await);
    let range = DeleteOptions::new().with_range("k/c").with_prev_key();
    seen.say("delete a range", client.delete("k/", Some(range)).await);
    seen.say("no key", client.delete("", None).await);
    let past = GetOptions::new().with_prefix().with_revision(9);
    seen.say("the past", client.get("k/", Some(past.clone())).await);
    let physical = CompactionOptions::new().with_physical();
    seen.say("compact", client.compact(9, Some(physical)).await);
    seen.say("compact again", client.compact(9, None).await);
    seen.say("compact the future", client.compact(999, None).await);
    seen.say("at the compaction", client.get("k/", Some(past)).await);
    let older = GetOptions::new().with_revision(8);
    seen.say("before it", client.get("k/", Some(older)).await);
}

async fn transactions(client: &mut Client, seen: &mut Transcript) {
    let put = |key: &str, value: &str| TxnOp::put(key, value, Some(PutOptions::new().with_prev_key()));
    let get = |key: &str| TxnOp::get(key, Some(GetOptions::new().with_prefix()));
    seen.say("txn", client.txn(Txn::new().and_then([put("t", "m")])).await);
    let compares = |op: CompareOp| {
        [
            Compare::version("t", op, 1),
            Compare::create_revision("t", op, 12),
            Compare::mod_revision("t", op, 12),
            Compare::value("t", op, "m"),
            Compare::lease("t", op, 0),
            Compare::version("none", op, 0),
            Compare::value("none", op, "m"),
            Compare::lease("none", op, 0),
            Compare::version("k/", op, 1).with_prefix(),
            Compare::value("k/", op, "1").with_range("k/z"),
            Compare::mod_revision("nothing/", op, 5).with_prefix(),
        ]
    };
    let ops = [
        CompareOp::Equal,
        CompareOp::Greater,
        CompareOp::Less,
        CompareOp::NotEqual,
    ];
    for op in ops {
        for compare in compares(op) {
            let what = format!("{compare:?}");
            let answer = client.txn(Txn::new().when([compare])).await;
            seen.lines.push(format!(
                "{what}: {:?}",
                answer.map(|answer| answer.succeeded()).ok()
            ));
        }
    }
    let inner = Txn::new()
        .when([Compare::value("t", CompareOp::Equal, "m")])
        .and_then([put("u", "1"), get("u")])
        .or_else([put("v", "1")]);
    let nested = Txn::new()
        .when([Compare::version("t", CompareOp::Greater, 0)])
        .and_then([get("t"), TxnOp::txn(inner), TxnOp::delete("k/d", None), get("u")]);
    seen.say("nested", client.txn(nested).await);
    let failing = Txn::new()
        .when([Compare::version("t", CompareOp::Equal, 77)])
        .and_then([put("t", "n")])
        .or_else([get("t"), get("u")]);
    seen.say("else", client.txn(failing).await);
    seen.say(
        "twice",
        client
            .txn(Txn::new().and_then([put("w", "1"), put("w", "2")]))
            .await,
    );
    let overlap = [put("w", "1"), TxnOp::delete("w", None)];
    seen.say("put and delete", client.txn(Txn::new().and_then(overlap)).await);
    let many: Vec<TxnOp> = (0..9).map(|number| put(&format!("m{number}"), "")).collect();
    seen.say("too many", client.txn(Txn::new().and_then(many)).await);
    seen.say("no key", client.txn(Txn::new().and_then([put("", "1")])).await);
    let future = TxnOp::get("t", Some(GetOptions::new().with_revision(999)));
    seen.say(
        "the future",
        client.txn(Txn::new().and_then([put("w", "1"), future])).await,
    );
    seen.say("empty", client.txn(Txn::new()).await);
    seen.say("nothing came of it", client.get("w", None).await);
}

/// The next so many events of a stream, one line each; watch ids and revisions included.
async fn events(stream: &mut WatchStream, seen: &mut Transcript, mut wanted: usize) -> anyhow::Result<()> {
    while wanted > 0 {
        let next = tokio::time::timeout(ANSWER, stream.message()).await;
        let response = next.context("no event in time")??.context("the stream ended")?;
        ensure!(!response.canceled(), "{response:?}");
        for event in response.events() {
            let key = event
                .kv()
                .map(|kv| String::from_utf8_lossy(kv.key()).into_owned());
            let line = format!("event of {}: {key:?} {event:?}", response.watch_id());
            seen.lines.push(line);
            wanted = wanted.saturating_sub(1);
        }
    }
    Ok(())
}

/// The next answer of a stream as it is.
async fn answer(stream: &mut WatchStream, what: &str, seen: &mut Transcript) -> anyhow::Result<()> {
    let next = tokio::time::timeout(ANSWER, stream.message()).await;
    seen.say(what, next.with_context(|| format!("{what}: nothing in time"))?);
    Ok(())
}

async fn watches(client: &mut Client, seen: &mut Transcript) -> anyhow::Result<()> {
    let mut stream = client
        .watch("w/", Some(WatchOptions::new().with_prefix()))
        .await?;
    answer(&mut stream, "created", seen).await?;
    client.put("w/a", "1", None).await?;
    client.put("w/a", "2", None).await?;
    client.delete("w/a", None).await?;
    events(&mut stream, seen, 3).await?;
    stream.request_progress().await?;
    answer(&mut stream, "progress", seen).await?;
    let prev = WatchOptions::new().with_prefix().with_prev_key().with_watch_id(7);
    stream.watch("w/", Some(prev.clone())).await?;
    answer(&mut stream, "created by id", seen).await?;
    stream.watch("w/", Some(prev)).await?;
    answer(&mut stream, "the same id", seen).await?;
    let range = WatchOptions::new().with_range("a");
    stream.watch("w/", Some(range)).await?;
    answer(&mut stream, "an empty range", seen).await?;
    stream.cancel(0).await?;
    answer(&mut stream, "cancelled", seen).await?;
    stream.cancel(55).await?;
    client.put("w/b", "1", None).await?;
    client.put("w/b", "2", None).await?;
    client.delete("w/b", None).await?;
    events(&mut stream, seen, 3).await?;
    for filter in [WatchFilterType::NoPut, WatchFilterType::NoDelete] {
        let options = WatchOptions::new()
            .with_prefix()
            .with_filters([filter])
            .with_start_revision(12)
            .with_fragment();
        let mut filtered = client.watch("w/", Some(options)).await?;
        answer(&mut filtered, "created", seen).await?;
        let wanted = if filter == WatchFilterType::NoPut { 2 } else { 4 };
        events(&mut filtered, seen, wanted).await?;
    }
    let past = WatchOptions::new().with_start_revision(5);
    let mut compacted = client.watch("k/", Some(past)).await?;
    answer(&mut compacted, "created", seen).await?;
    answer(&mut compacted, "compacted", seen).await
}

async fn leases(client: &mut Client, seen: &mut Transcript) -> anyhow::Result<()> {
    let id = LeaseGrantOptions::new().with_id(LEASE);
    seen.say("grant", client.lease_grant(600, Some(id.clone())).await);
    seen.say("grant again", client.lease_grant(600, Some(id)).await);
    seen.say("too long", client.lease_grant(9_000_000_001, None).await);
    for key in ["l/b", "l/a", "l/c"] {
        let options = PutOptions::new().with_lease(LEASE);
        seen.say("attach", client.put(key, "1", Some(options)).await);
    }
    let keep = PutOptions::new().with_ignore_lease();
    seen.say("keep the lease", client.put("l/a", "2", Some(keep)).await);
    seen.say("drop the lease", client.put("l/c", "2", None).await);
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(LEASE, Some(keys)).await?;
    ensure!((590..=600).contains(&left.ttl()), "{left:?}");
    let mut attached = left.keys().to_vec();
    attached.sort();
    seen.lines.push(format!("{} {attached:?}", left.granted_ttl()));
    seen.say("no such lease", client.lease_time_to_live(1, None).await);
    let (mut keeper, mut answers) = client.lease_keep_alive(LEASE).await?;
    keeper.keep_alive().await?;
    seen.say("kept alive", answers.message().await);
    match client.lease_keep_alive(1).await {
        Ok((_, mut answers)) => seen.say("keep none alive", answers.message().await),
        Err(error) => seen.say::<()>("keep none alive", Err(error)),
    }
    seen.say("leases", client.leases().await);
    seen.say("revoke", client.lease_revoke(LEASE).await);
    seen.say("revoke again", client.lease_revoke(LEASE).await);
    seen.say(
        "what is left",
        client.get("l/", Some(GetOptions::new().with_prefix())).await,
    );
    Ok(())
}

async fn locks(client: &mut Client, seen: &mut Transcript) -> anyhow::Result<()> {
    for id in [11, 12] {
        let options = LeaseGrantOptions::new().with_id(id);
        client.lease_grant(600, Some(options)).await?;
    }
    let with = |id| Some(LockOptions::new().with_lease(id));
    let first = client.lock("lock", with(11)).await?;
    seen.lines
        .push(format!("locked {:?}", String::from_utf8_lossy(first.key())));
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("lock", with(12)).await });
    // The second waits in the queue, where its key can be seen.
    let queued = GetOptions::new().with_prefix().with_keys_only();
    while client.get("lock/", Some(queued.clone())).await?.kvs().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(!waiting.is_finished(), "two hold the lock");
    seen.say("queue", client.get("lock/", Some(queued)).await);
    seen.say("unlock", client.unlock(first.key()).await);
    let second = tokio::time::timeout(ANSWER, waiting).await???;
    seen.lines
        .push(format!("locked {:?}", String::from_utf8_lossy(second.key())));
    seen.say("unlock", client.unlock(second.key()).await);
    seen.say("a lease that is none", client.lock("lock", with(13)).await);
    Ok(())
}

async fn elections(client: &mut Client, seen: &mut Transcript) -> anyhow::Result<()> {
    seen.say("no leader", client.leader("vote").await);
    // etcd's stream opens with the first leader.
    let mut other = client.clone();
    let observed = tokio::spawn(async move { other.observe("vote").await?.message().await });
    let elected = client.campaign("vote", "one", 11).await?;
    let leader = elected.leader().context("a campaign ends with a leader")?.clone();
    seen.say("elected", Ok(&elected));
    seen.say("leader", client.leader("vote").await);
    seen.say("observed", tokio::time::timeout(ANSWER, observed).await??);
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.campaign("vote", "two", 12).await });
    let queued = GetOptions::new().with_prefix().with_count_only();
    while client.get("vote/", Some(queued.clone())).await?.count() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let options = || Some(ProclaimOptions::new().with_leader(leader.clone()));
    seen.say("proclaim", client.proclaim("uno", options()).await.map(|_| ()));
    let resign = ResignOptions::new().with_leader(leader.clone());
    seen.say("resign", client.resign(Some(resign)).await.map(|_| ()));
    let second = tokio::time::timeout(ANSWER, waiting).await???;
    let name = second
        .leader()
        .map(|leader| String::from_utf8_lossy(leader.name()).into_owned());
    seen.lines.push(format!("elected {name:?}"));
    seen.say(
        "proclaim without leading",
        client.proclaim("uno", options()).await,
    );
    let now = client.leader("vote").await?;
    let value = now
        .kv()
        .map(|kv| String::from_utf8_lossy(kv.value()).into_owned());
    seen.lines.push(format!("leader {value:?}"));
    client.lease_revoke(11).await?;
    client.lease_revoke(12).await?;
    Ok(())
}

async fn maintenance(client: &mut Client, seen: &mut Transcript) -> anyhow::Result<()> {
    let status = client.status().await?;
    seen.lines
        .push(format!("{} {:?}", status.is_learner(), status.errors()));
    seen.say("hash of the past", client.hash_kv(1).await);
    seen.say("hash of the future", client.hash_kv(100_000).await);
    let everything = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(10)
        .with_prev_key();
    let mut history = client.watch("", Some(everything)).await?;
    answer(&mut history, "created", seen).await?;
    client.put("end of history", "", None).await?;
    while !seen
        .lines
        .last()
        .is_some_and(|line| line.contains("end of history"))
    {
        events(&mut history, seen, 1).await?;
    }
    let now = client.hash_kv(0).await?;
    seen.lines.push(format!("hash {}", now.hash()));
    client.hash().await?;
    seen.say("defragment", client.defragment().await);
    for (action, kind) in [
        (AlarmAction::Get, AlarmType::None),
        (AlarmAction::Activate, AlarmType::Nospace),
        (AlarmAction::Activate, AlarmType::Nospace),
        (AlarmAction::Get, AlarmType::Corrupt),
        (AlarmAction::Get, AlarmType::Nospace),
    ] {
        seen.say("alarm", client.alarm(action, kind, None).await);
    }
    seen.say("put without space", client.put("a", "1", None).await);
    seen.say("delete without space", client.delete("t", None).await);
    let put = TxnOp::put("a", "1", None);
    seen.say("txn without space", client.txn(Txn::new().and_then([put])).await);
    seen.say("grant without space", client.lease_grant(60, None).await);
    let mut own = AlarmOptions::new();
    own.with_member(0);
    seen.say(
        "disarm",
        client
            .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(own))
            .await,
    );
    seen.say("put", client.put("a", "1", None).await);
    seen.say("move to none", client.move_leader(1).await);
    let mut snapshot = client.snapshot().await?;
    let (mut bytes, mut left) = (0, u64::MAX);
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
        ensure!(piece.remaining_bytes() <= left, "more is left than before");
        left = piece.remaining_bytes();
    }
    // A database and its hash.
    seen.lines
        .push(format!("left {left}, beyond pages {}", bytes % 512));
    Ok(())
}

async fn members(client: &mut Client, seen: &mut Transcript) {
    seen.say("members", client.member_list().await);
    let learner = || Some(MemberAddOptions::new().with_is_learner());
    seen.say("bad urls", client.member_add(["nowhere"], learner()).await);
    let added = client.member_add(["http://127.0.0.1:1"], learner()).await;
    let id = added.as_ref().ok().and_then(|added| Some(added.member()?.id()));
    // Members are listed by their ids, which differ.
    let shown = added.map(|added| format!("{:?} of {}", added.member(), added.member_list().len()));
    seen.say("a learner", shown);
    let id = id.unwrap_or_default();
    seen.say(
        "a second learner",
        client.member_add(["http://127.0.0.1:2"], learner()).await,
    );
    seen.say("promote", client.member_promote(id).await);
    seen.say("promote none", client.member_promote(1).await);
    // etcd 3.5 takes the learner for a voter then.
    let updated = client.member_update(id, ["http://127.0.0.1:3".to_owned()]).await;
    seen.say("update", updated.map(|_| ()));
    seen.say(
        "update none",
        client.member_update(1, ["http://127.0.0.1:4".to_owned()]).await,
    );
    seen.say("remove", client.member_remove(id).await);
    seen.say("remove again", client.member_remove(id).await);
    seen.say("remove none", client.member_remove(1).await);
}

#[test]
fn kube_store_answers_as_etcd() -> anyhow::Result<()> {
    let theirs = transcript(&programs::reference()?.join("etcd")).context("etcd")?;
    let ours = transcript(&programs::kube_store()?).context("kube-store")?;
    let differences: Vec<String> = theirs
        .iter()
        .zip(&ours)
        .filter(|(theirs, ours)| theirs != ours)
        .map(|(theirs, ours)| format!("etcd:       {theirs}\nkube-store: {ours}"))
        .collect();
    ensure!(differences.is_empty(), "{}", differences.join("\n\n"));
    ensure!(
        theirs.len() == ours.len(),
        "{} and {} lines",
        theirs.len(),
        ours.len()
    );
    ensure!(ours.len() > 200, "the transcript has only {} lines", ours.len());
    Ok(())
}
