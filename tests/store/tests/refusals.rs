//! Members that must not take part, and disks that are not what was written: refused with a text that says what to do,
//! mended, or left alone; never a wrong answer.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::programs;
use keelson_store_tests::traffic::connect;

const SERVE: Duration = Duration::from_secs(30);
/// How long a member that is to be refused may run.
const REFUSED: Duration = Duration::from_secs(20);

fn cluster(members: usize, dir: &Path, flags: &[&str]) -> anyhow::Result<Cluster> {
    std::fs::create_dir_all(dir)?;
    let mut cluster = Cluster::new(Plan {
        program: programs::kube_store()?,
        members,
        dir,
        network: None,
        tls: None,
        flags: [&["--heartbeat-interval=50", "--election-timeout=500"], flags]
            .concat()
            .iter()
            .map(|flag| (*flag).to_owned())
            .collect(),
    })?;
    cluster.start_all()?;
    Ok(cluster)
}

fn run<T>(request: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), request).await? })
}

/// Writes so many keys at a member, as soon as it serves.
fn write(cluster: &Cluster, place: usize, keys: usize) -> anyhow::Result<()> {
    let url = &cluster.members[place].client_url;
    eventually(SERVE, || run(ask(url, None)).map(drop)).with_context(|| cluster.tails())?;
    for key in 0..keys {
        run(ask(url, Some(key)))?;
    }
    Ok(())
}

/// Puts a key, or counts all.
async fn ask(url: &str, put: Option<usize>) -> anyhow::Result<i64> {
    let mut kv = KvClient::new(connect(url).await?);
    if let Some(key) = put {
        let put = pb::PutRequest {
            key: format!("key{key:04}").into(),
            value: vec![b'v'; 100].into(),
            ..Default::default()
        };
        kv.put(put).await?;
        return Ok(0);
    }
    let all = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let answer = kv.range(all).await?.into_inner();
    for kv in &answer.kvs {
        ensure!(kv.value[..] == vec![b'v'; 100][..], "a wrong value: {kv:?}");
    }
    Ok(answer.count)
}

fn count(cluster: &Cluster, place: usize) -> anyhow::Result<i64> {
    let url = &cluster.members[place].client_url;
    eventually(SERVE, || run(ask(url, None))).with_context(|| cluster.tails())
}

/// The member ends by itself, and its log says what and what to do.
fn refused(cluster: &mut Cluster, place: usize, parts: &[&str]) -> anyhow::Result<()> {
    let ended = cluster.members[place].wait(REFUSED)?;
    let text = cluster.members[place].log_text();
    let status = ended.with_context(|| format!("it runs on: {}", cluster.tails()))?;
    ensure!(!status.success(), "it ended well: {text}");
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not said in {text}");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    programs::run(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// Files below a directory, sorted.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn flip(file: &Path, place: u64) -> anyhow::Result<()> {
    let open = std::fs::File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    open.read_exact_at(&mut byte, place)?;
    open.write_all_at(&[byte[0] ^ 0x10], place)?;
    Ok(())
}

fn log_segment(cluster: &Cluster, place: usize) -> anyhow::Result<PathBuf> {
    files(&cluster.members[place].data.join("member/wal"))?
        .pop()
        .context("a member has a log")
}

#[test]
fn an_old_copy_of_a_disk_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = cluster(3, dir.path(), &[])?;
    write(&cluster, 0, 20)?;
    count(&cluster, 2)?;
    let old = dir.path().join("old");
    cluster.kill(2)?;
    copy(&cluster.members[2].data, &old)?;
    cluster.start(2)?;
    write(&cluster, 2, 60)?;
    cluster.kill(2)?;
    let data = cluster.members[2].data.clone();
    std::fs::remove_dir_all(&data)?;
    std::fs::rename(&old, &data)?;
    cluster.start(2)?;
    refused(
        &mut cluster,
        2,
        &[
            "its disk is an old copy",
            "etcdctl member remove",
            "--initial-cluster-state=existing",
        ],
    )?;
    ensure!(count(&cluster, 0)? == 60, "the others go on");
    Ok(())
}

#[test]
fn an_empty_disk_under_an_old_name_is_refused_until_it_is_added_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = cluster(3, dir.path(), &[])?;
    write(&cluster, 0, 20)?;
    for place in 0..3 {
        count(&cluster, place)?;
    }
    // A member tells its name once it serves: by that the others know that it has been in the cluster.
    let url = cluster.members[0].client_url.clone();
    eventually(SERVE, || {
        run(async {
            let mut members = ClusterClient::new(connect(&url).await?);
            let list = members
                .member_list(pb::MemberListRequest::default())
                .await?
                .into_inner();
            ensure!(
                list.members.iter().all(|member| !member.name.is_empty()),
                "{list:?}"
            );
            Ok(())
        })
    })?;
    cluster.kill(2)?;
    std::fs::remove_dir_all(&cluster.members[2].data)?;
    cluster.start(2)?;
    refused(
        &mut cluster,
        2,
        &["has already been bootstrapped", "etcdctl member remove"],
    )?;
    // What the text says works.
    let (name, peer) = (
        cluster.members[2].name.clone(),
        cluster.members[2].peer_url.clone(),
    );
    run(async {
        let mut members = ClusterClient::new(connect(&url).await?);
        let list = members
            .member_list(pb::MemberListRequest::default())
            .await?
            .into_inner();
        let old = list.members.iter().find(|member| member.name == name);
        let id = old.context("a member has a name")?.id;
        members.member_remove(pb::MemberRemoveRequest { id }).await?;
        let add = pb::MemberAddRequest {
            peer_ur_ls: vec![peer],
            is_learner: false,
        };
        members.member_add(add).await?;
        Ok(())
    })?;
    cluster.start_with(2, &["--initial-cluster-state=existing"])?;
    ensure!(count(&cluster, 2)? == 20);
    cluster.stop_all()
}

#[test]
fn a_disk_of_another_cluster_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut home = cluster(3, &dir.path().join("home"), &[])?;
    write(&home, 0, 10)?;
    home.stop(2)?;
    for members in [1, 3] {
        let mut other = cluster(members, &dir.path().join(format!("other{members}")), &[])?;
        write(&other, 0, 5)?;
        other.stop_all()?;
        let data = home.members[2].data.clone();
        std::fs::remove_dir_all(&data)?;
        copy(&other.members[0].data, &data)?;
        home.start(2)?;
        refused(&mut home, 2, &["belongs to cluster", "its own data directory"])?;
    }
    ensure!(count(&home, 0)? == 10, "the others go on");
    Ok(())
}

#[test]
fn a_wrong_list_of_members_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = cluster(3, dir.path(), &[])?;
    write(&cluster, 0, 10)?;
    cluster.kill(2)?;
    std::fs::remove_dir_all(&cluster.members[2].data)?;
    // One member is missing in the list: it is another cluster's.
    let some = format!(
        "--initial-cluster=m0={},m2={}",
        cluster.members[0].peer_url, cluster.members[2].peer_url
    );
    cluster.start_with(2, &[&some])?;
    refused(
        &mut cluster,
        2,
        &["--initial-cluster-token describe cluster", "etcdctl member add"],
    )?;
    // It is not in the list itself.
    let none = format!("--initial-cluster=m0={}", cluster.members[0].peer_url);
    cluster.start_with(2, &[&none])?;
    refused(&mut cluster, 2, &["has no member named m2"])?;
    ensure!(count(&cluster, 0)? == 10, "the others go on");
    Ok(())
}

#[test]
fn a_torn_tail_is_cut_and_damage_of_the_log_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = cluster(1, dir.path(), &[])?;
    write(&cluster, 0, 30)?;
    cluster.kill(0)?;
    let segment = log_segment(&cluster, 0)?;
    let whole = std::fs::read(&segment)?;
    // An append that did not come to its end: a header and some of its records.
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[..40]);
    std::fs::write(&segment, &torn)?;
    cluster.start(0)?;
    ensure!(count(&cluster, 0)? == 30);
    ensure!(cluster.members[0].log_text().contains("cut an incomplete write"));
    cluster.kill(0)?;
    // A flipped bit is not a torn tail: nothing is cut, nothing served.
    let place = std::fs::metadata(&segment)?.len() / 2;
    flip(&segment, place)?;
    cluster.start(0)?;
    let name = segment
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    refused(&mut cluster, 0, &[&name, "is damaged at offset"])?;
    let verified = programs::run(
        Command::new(programs::kube_store()?)
            .arg("verify")
            .arg(&cluster.members[0].data),
    );
    let text = format!("{:#}", verified.err().context("damage was not found")?);
    ensure!(text.contains("is damaged at offset"), "{text}");
    flip(&segment, place)?;
    cluster.start(0)?;
    ensure!(count(&cluster, 0)? == 30, "nothing was changed");
    cluster.stop_all()
}

#[test]
fn damage_of_the_applied_state_is_mended_or_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = cluster(1, dir.path(), &[])?;
    write(&cluster, 0, 200)?;
    cluster.stop(0)?;
    let data = cluster.members[0].data.clone();
    let (good, state) = (dir.path().join("good"), data.join("member/state"));
    copy(&state, &good)?;
    let longest = files(&state)?
        .into_iter()
        .max_by_key(|file| std::fs::metadata(file).map_or(0, |meta| meta.len()))
        .context("there is a state")?;
    let length = std::fs::metadata(&longest)?.len();
    for part in 0..8 {
        flip(&longest, length * part / 8 + 100)?;
        cluster.start(0)?;
        ensure!(count(&cluster, 0)? == 200, "after damage in part {part}");
        cluster.stop(0)?;
        std::fs::remove_dir_all(&state)?;
        copy(&good, &state)?;
    }
    // All of it gone.
    std::fs::remove_dir_all(&state)?;
    std::fs::create_dir(&state)?;
    cluster.start(0)?;
    ensure!(count(&cluster, 0)? == 200);
    cluster.stop_all()
}

#[test]
fn a_damaged_snapshot_is_not_served() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut source = cluster(1, &dir.path().join("source"), &[])?;
    write(&source, 0, 100)?;
    let file = dir.path().join("saved.db");
    programs::run(
        Command::new(programs::reference()?.join("etcdctl"))
            .args(["--endpoints", &source.members[0].client_url, "snapshot", "save"])
            .arg(&file),
    )?;
    source.stop_all()?;
    // Restored, so that only the snapshot has the beginning.
    let mut cluster = cluster_of_snapshot(&file, &dir.path().join("restored"))?;
    let data = cluster.members[0].data.clone();
    let snapshot = files(&data.join("member/snap"))?
        .pop()
        .context("there is a snapshot")?;
    flip(&snapshot, std::fs::metadata(&snapshot)?.len() / 2)?;
    let verified = programs::run(Command::new(programs::kube_store()?).arg("verify").arg(&data));
    let text = format!("{:#}", verified.err().context("damage was not found")?);
    ensure!(text.contains("SHA-256 does not match"), "{text}");
    // The state is whole, so it is served without the snapshot.
    cluster.start(0)?;
    ensure!(count(&cluster, 0)? == 100);
    cluster.stop(0)?;
    // Nothing is left to make the state from.
    std::fs::remove_dir_all(data.join("member/state"))?;
    std::fs::create_dir(data.join("member/state"))?;
    cluster.start(0)?;
    refused(
        &mut cluster,
        0,
        &["SHA-256 does not match", "restore the directory from a copy"],
    )
}

fn cluster_of_snapshot(file: &Path, dir: &Path) -> anyhow::Result<Cluster> {
    std::fs::create_dir_all(dir)?;
    let cluster = Cluster::new(Plan {
        program: programs::kube_store()?,
        members: 1,
        dir,
        network: None,
        tls: None,
        flags: Vec::new(),
    })?;
    let member = &cluster.members[0];
    programs::run(
        Command::new(programs::kube_store()?)
            .arg("restore")
            .arg(file)
            .args(["--name", &member.name, "--initial-cluster"])
            .arg(cluster.initial_cluster())
            .args(["--initial-advertise-peer-urls", &member.peer_url, "--data-dir"])
            .arg(&member.data),
    )?;
    Ok(cluster)
}
