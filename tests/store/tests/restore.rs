//! Snapshots between clusters: ours by etcdctl, ours again, etcd's into ours, ours into etcd; always under new names and
//! addresses, and always with the same content afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::programs;
use keelson_store_tests::traffic::connect;

const SERVE: Duration = Duration::from_secs(30);
/// Keys written; every third is deleted again.
const KEYS: usize = 300;

/// What a cluster holds, as clients see it.
#[derive(Debug, PartialEq)]
struct Content {
    revision: i64,
    pairs: Vec<KeyValue>,
    /// Ids and granted times to live.
    leases: Vec<(i64, i64, Vec<bytes::Bytes>)>,
    users: Vec<String>,
    roles: Vec<String>,
    hash: u32,
}

impl Content {
    fn summary(&self) -> String {
        let Self {
            revision,
            pairs,
            leases,
            users,
            roles,
            hash,
        } = self;
        let count = pairs.len();
        format!("revision {revision}, hash {hash}, {count} pairs, {leases:?}, {users:?}, {roles:?}")
    }
}

fn cluster(program: &Path, members: usize, dir: &Path) -> anyhow::Result<Cluster> {
    std::fs::create_dir_all(dir)?;
    Cluster::new(Plan {
        program: program.to_owned(),
        members,
        dir,
        network: None,
        tls: None,
        flags: Vec::new(),
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing")
}

/// Waits until a member serves, and reads everything.
fn content(cluster: &Cluster, place: usize) -> anyhow::Result<Content> {
    let url = &cluster.members[place].client_url;
    eventually(SERVE, || runtime().block_on(read(url))).with_context(|| cluster.tails())
}

async fn read(url: &str) -> anyhow::Result<Content> {
    let channel = connect(url).await?;
    let all = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).range(all).await?.into_inner();
    let mut leases = LeaseClient::new(channel.clone());
    let listed = leases.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner();
    let mut found = Vec::new();
    for lease in listed.leases {
        let ask = pb::LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let told = leases.lease_time_to_live(ask).await?.into_inner();
        let mut keys = told.keys;
        keys.sort();
        found.push((told.id, told.granted_ttl, keys));
    }
    found.sort();
    let mut auth = AuthClient::new(channel.clone());
    let users = auth.user_list(pb::AuthUserListRequest {}).await?.into_inner();
    let roles = auth.role_list(pb::AuthRoleListRequest {}).await?.into_inner();
    let hashed = MaintenanceClient::new(channel)
        .hash_kv(pb::HashKvRequest { revision: 0 })
        .await?
        .into_inner();
    Ok(Content {
        revision: answer.header.map_or(0, |header| header.revision),
        pairs: answer.kvs,
        leases: found,
        users: users.users,
        roles: roles.roles,
        hash: hashed.hash,
    })
}

/// Writes keys, versions, deletions, a lease, users and roles, and compacts half of it.
fn fill(cluster: &Cluster) -> anyhow::Result<()> {
    let url = &cluster.members[0].client_url;
    eventually(SERVE, || runtime().block_on(read(url)).map(drop)).with_context(|| cluster.tails())?;
    runtime().block_on(async {
        let channel = connect(url).await?;
        let mut kv = KvClient::new(channel.clone());
        let grant = pb::LeaseGrantRequest { ttl: 3_600, id: 77 };
        LeaseClient::new(channel.clone()).lease_grant(grant).await?;
        for number in 0..KEYS {
            let put = |value: Vec<u8>| pb::PutRequest {
                key: format!("key{number:04}").into(),
                value: value.into(),
                lease: if number % 10 == 0 { 77 } else { 0 },
                ..Default::default()
            };
            kv.put(put(vec![b'a'; number])).await?;
            if number % 2 == 0 {
                kv.put(put(vec![b'b'; number * 10])).await?;
            }
            if number % 3 == 0 {
                let delete = pb::DeleteRangeRequest {
                    key: format!("key{number:04}").into(),
                    ..Default::default()
                };
                kv.delete_range(delete).await?;
            }
        }
        let compact = pb::CompactionRequest {
            revision: 200,
            physical: true,
        };
        kv.compact(compact).await?;
        let mut auth = AuthClient::new(channel);
        let role = pb::AuthRoleAddRequest {
            name: "reader".to_owned(),
        };
        auth.role_add(role).await?;
        let user = pb::AuthUserAddRequest {
            name: "ann".to_owned(),
            password: "secret".to_owned(),
            options: Some(keelson_proto::etcd::authpb::UserAddOptions { no_password: false }),
            ..Default::default()
        };
        auth.user_add(user).await?;
        anyhow::Ok(())
    })
}

/// Saves a snapshot with etcd's own client.
fn save(cluster: &Cluster, file: &Path) -> anyhow::Result<()> {
    let mut etcdctl = Command::new(programs::reference()?.join("etcdctl"));
    etcdctl
        .args(["--endpoints", &cluster.members[0].client_url, "snapshot", "save"])
        .arg(file);
    programs::run(&mut etcdctl).map(drop)
}

/// Restores a file into the directories of a cluster that has not started.
fn restore(cluster: &Cluster, file: &Path, more: &[&str]) -> anyhow::Result<()> {
    for member in &cluster.members {
        let mut command = Command::new(programs::kube_store()?);
        command
            .arg("restore")
            .arg(file)
            .args(more)
            .args(["--name", &member.name, "--initial-cluster"])
            .arg(cluster.initial_cluster())
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(["--initial-cluster-token", "restored"])
            .arg("--data-dir")
            .arg(&member.data);
        programs::run(&mut command)?;
    }
    Ok(())
}

/// Runs a restored cluster and compares what every member holds; then it must take a write.
fn compare(cluster: &mut Cluster, expected: &Content) -> anyhow::Result<()> {
    cluster.start_all()?;
    for place in 0..cluster.members.len() {
        let found = content(cluster, place)?;
        ensure!(
            found == *expected,
            "member {place} has {}\nexpected {}",
            found.summary(),
            expected.summary()
        );
    }
    let url = cluster.members[0].client_url.clone();
    runtime().block_on(async {
        let put = pb::PutRequest {
            key: "new".into(),
            ..Default::default()
        };
        let answer = KvClient::new(connect(&url).await?).put(put).await?.into_inner();
        let revision = answer.header.map_or(0, |header| header.revision);
        ensure!(
            revision == expected.revision + 1,
            "the write has revision {revision}"
        );
        Ok(())
    })?;
    cluster.stop_all()
}

/// A filled cluster's content and its snapshot by etcdctl.
fn source(program: &Path, dir: &Path) -> anyhow::Result<(Content, PathBuf)> {
    let mut cluster = cluster(program, 1, &dir.join("source"))?;
    cluster.start_all()?;
    fill(&cluster)?;
    let expected = content(&cluster, 0)?;
    ensure!(
        expected.pairs.len() == KEYS * 2 / 3 && expected.leases.len() == 1 && expected.users == ["ann"],
        "{} pairs",
        expected.pairs.len()
    );
    let file = dir.join("saved.db");
    save(&cluster, &file)?;
    cluster.stop_all()?;
    Ok((expected, file))
}

#[test]
fn ours_saved_by_etcdctl_is_restored_under_new_names_and_again_from_our_own_snapshot() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let program = programs::kube_store()?;
    let (expected, file) = source(&program, dir.path())?;
    let mut restored = cluster(&program, 3, &dir.path().join("restored"))?;
    restore(&restored, &file, &[])?;
    // A member's own snapshot file, as it lies in its directory, is as good.
    let own = std::fs::read_dir(restored.members[0].data.join("member/snap"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "db"))
        .context("a restored member has a snapshot")?;
    let own_copy = dir.path().join("own.db");
    std::fs::copy(own, &own_copy)?;
    compare(&mut restored, &expected)?;
    let mut again = cluster(&program, 1, &dir.path().join("again"))?;
    restore(&again, &own_copy, &[])?;
    compare(&mut again, &expected)?;
    // What holds a member is not overwritten, and what is damaged is not taken.
    let refused = restore(&again, &own_copy, &[])
        .err()
        .context("a member was overwritten")?;
    ensure!(
        format!("{refused:#}").contains("holds a member already"),
        "{refused:#}"
    );
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    let other = cluster(&program, 1, &dir.path().join("other"))?;
    let refused = restore(&other, &file, &[]).err().context("damage was taken")?;
    ensure!(
        format!("{refused:#}").contains("SHA-256 does not match"),
        "{refused:#}"
    );
    Ok(())
}

#[test]
fn etcds_snapshot_and_its_bare_database_are_restored() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (expected, file) = source(&programs::reference()?.join("etcd"), dir.path())?;
    let program = programs::kube_store()?;
    let mut restored = cluster(&program, 3, &dir.path().join("restored"))?;
    restore(&restored, &file, &[])?;
    compare(&mut restored, &expected)?;
    let bare = dir.path().join("source/m0/member/snap/db");
    let mut copied = cluster(&program, 1, &dir.path().join("copied"))?;
    let refused = restore(&copied, &bare, &[])
        .err()
        .context("a file without a hash was taken")?;
    ensure!(
        format!("{refused:#}").contains("--skip-hash-check"),
        "{refused:#}"
    );
    restore(&copied, &bare, &["--skip-hash-check"])?;
    compare(&mut copied, &expected)
}

#[test]
fn etcd_takes_our_snapshot() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (expected, file) = source(&programs::kube_store()?, dir.path())?;
    let reference = programs::reference()?;
    let status = programs::run(
        Command::new(reference.join("etcdctl"))
            .args(["snapshot", "status", "-w", "json"])
            .arg(&file),
    )?;
    ensure!(
        status.contains(&format!("\"revision\":{}", expected.revision)),
        "{status}"
    );
    let mut etcd = cluster(&reference.join("etcd"), 1, &dir.path().join("etcd"))?;
    let member = &etcd.members[0];
    programs::run(
        Command::new(reference.join("etcdctl"))
            .args(["snapshot", "restore"])
            .arg(&file)
            .args([
                "--name",
                &member.name,
                "--initial-cluster",
                &etcd.initial_cluster(),
            ])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .arg("--data-dir")
            .arg(&member.data),
    )?;
    compare(&mut etcd, &expected)
}
