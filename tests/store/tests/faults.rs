//! Faults of real members: killed, paused, cut off, slowed, with a full disk, while clients go on and record.
//!
//! Each test hurts a cluster again and again, heals it, and has everything judged by `keelson_store_tests::judge`:
//! linearizability of keys and transactions, the promises of watches and leases, equal members on the wire and on disk,
//! and `kube-store verify` of every directory. Needs root, for network namespaces and a loop mount.

use std::time::Duration;

use anyhow::{Context, ensure};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_store_sim::chance::Chance;
use keelson_store_sim::linear::{Call, Outcome};
use keelson_store_sim::watching::Delivery;
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::disk::SmallDisk;
use keelson_store_tests::judge::{Judged, judge};
use keelson_store_tests::network::Network;
use keelson_store_tests::programs;
use keelson_store_tests::traffic::{Traffic, connect};
use nix::sys::signal::Signal;

/// How long a cluster may take to serve.
const SERVE: Duration = Duration::from_secs(30);
/// How long clients are watched to get answers again after a fault.
const RECOVER: Duration = Duration::from_secs(20);
/// Answers that show that the cluster works.
const SOME_ANSWERS: usize = 40;
/// How long a fault that nobody can notice from outside lasts.
const FAULT: Duration = Duration::from_millis(1_500);

/// A cluster with clients at work.
struct World {
    // Before the directory, so that it is dropped first.
    traffic: Traffic,
    cluster: Cluster,
    chance: Chance,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(members: usize, network: bool, seed: u64) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let network = network.then(|| Network::new(members)).transpose()?;
        let mut cluster = Cluster::new(Plan {
            program: programs::kube_store()?,
            members,
            dir: dir.path(),
            network,
            tls: None,
            flags: timing(),
        })?;
        cluster.start_all()?;
        let traffic = Traffic::start(cluster.client_urls(), seed)?;
        let world = Self {
            traffic,
            cluster,
            chance: Chance::new(seed),
            _dir: dir,
        };
        world.works()?;
        Ok(world)
    }

    /// Waits until clients have got answers since now.
    fn works(&self) -> anyhow::Result<()> {
        let before = self.traffic.recorder.answered();
        eventually(RECOVER, || {
            let answers = self.traffic.recorder.answered() - before;
            ensure!(answers >= SOME_ANSWERS, "only {answers} answers");
            Ok(())
        })
        .with_context(|| self.cluster.tails())
    }

    fn network(&self) -> &Network {
        self.cluster.network.as_ref().expect("made with a network")
    }

    /// The place of the leader, as members that serve say.
    fn leader(&self) -> anyhow::Result<usize> {
        let urls = self.cluster.client_urls();
        eventually(SERVE, || self.traffic.block_on(leader(&urls))).with_context(|| self.cluster.tails())
    }

    fn judge(mut self) -> anyhow::Result<Judged> {
        let judged = judge(&mut self.cluster, self.traffic)?;
        let counts = judged.counts;
        println!("{counts:?}");
        ensure!(
            counts.answered >= 200 && counts.leases >= 3 && counts.delivered >= 200,
            "{counts:?}"
        );
        Ok(judged)
    }
}

/// Short timings, so that elections fit a test.
fn timing() -> Vec<String> {
    ["--heartbeat-interval=50", "--election-timeout=500"]
        .map(str::to_owned)
        .into()
}

async fn leader(urls: &[String]) -> anyhow::Result<usize> {
    for (place, url) in urls.iter().enumerate() {
        let Ok(channel) = connect(url).await else { continue };
        let asked = MaintenanceClient::new(channel).status(pb::StatusRequest {}).await;
        let Ok(status) = asked.map(tonic::Response::into_inner) else {
            continue;
        };
        let own = status.header.map_or(0, |header| header.member_id);
        if status.leader != 0 && status.leader == own {
            return Ok(place);
        }
    }
    anyhow::bail!("no member says that it leads")
}

/// Lets a fault last: nothing to see tells when it has done its work.
fn endure(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn members_are_killed() -> anyhow::Result<()> {
    let mut world = World::new(3, false, 1)?;
    for round in 0..4 {
        let leader = world.leader()?;
        // The leader, then a follower.
        let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        world.traffic.next_epoch();
        world.cluster.kill(victim)?;
        world.works()?;
        world.cluster.start(victim)?;
        world.works()?;
    }
    // All at once, as when the power goes.
    world.traffic.next_epoch();
    for place in 0..3 {
        world.cluster.kill(place)?;
    }
    world.cluster.start_all()?;
    world.works()?;
    world.judge().map(drop)
}

#[test]
fn members_are_paused() -> anyhow::Result<()> {
    let world = World::new(3, false, 2)?;
    for round in 0..4 {
        let leader = world.leader()?;
        let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        world.traffic.next_epoch();
        world.cluster.signal(victim, Signal::SIGSTOP)?;
        world.works()?;
        endure(FAULT);
        world.cluster.signal(victim, Signal::SIGCONT)?;
        world.works()?;
    }
    world.judge().map(drop)
}

#[test]
fn the_network_is_partitioned() -> anyhow::Result<()> {
    let world = World::new(3, true, 3)?;
    type Cut = fn(&Network, usize) -> anyhow::Result<()>;
    let cuts: [(&str, Cut); 4] = [
        ("the leader is alone", |network, leader| network.split(&[leader])),
        ("a follower is alone", |network, leader| {
            network.split(&[(leader + 1) % 3])
        }),
        ("the leader does not hear the others", |network, leader| {
            network.cut((leader + 1) % 3, leader)?;
            network.cut((leader + 2) % 3, leader)
        }),
        ("the others do not hear the leader", |network, leader| {
            network.cut(leader, (leader + 1) % 3)?;
            network.cut(leader, (leader + 2) % 3)
        }),
    ];
    for (what, cut) in cuts {
        let leader = world.leader()?;
        world.traffic.next_epoch();
        cut(world.network(), leader)?;
        world.works().context(what)?;
        endure(FAULT);
        world.network().heal()?;
        world.works().context(what)?;
    }
    world.judge().map(drop)
}

#[test]
fn links_are_slow_and_lose_packets() -> anyhow::Result<()> {
    let world = World::new(3, true, 4)?;
    for (loss, kbit) in [(5, 2_000), (20, 1_000)] {
        world.traffic.next_epoch();
        world.network().worsen(loss, kbit)?;
        world.works()?;
        endure(FAULT);
        world.network().heal()?;
        world.works()?;
    }
    world.judge().map(drop)
}

#[test]
fn five_members_suffer_everything() -> anyhow::Result<()> {
    let mut world = World::new(5, true, 5)?;
    for _ in 0..4 {
        let victim = world.chance.place(5);
        let other = (victim + 1 + world.chance.place(4)) % 5;
        world.traffic.next_epoch();
        match world.chance.below(3) {
            0 => world.network().split(&[victim, other])?,
            1 => world.network().cut(victim, other)?,
            _ => world.network().worsen(5, 2_000)?,
        }
        world.cluster.kill(victim)?;
        world.cluster.signal(other, Signal::SIGSTOP)?;
        world.works()?;
        world.cluster.signal(other, Signal::SIGCONT)?;
        world.cluster.start(victim)?;
        world.network().heal()?;
        world.works()?;
    }
    world.judge().map(drop)
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = SmallDisk::mount(dir.path(), 96)?;
    let mut cluster = Cluster::new(Plan {
        program: programs::kube_store()?,
        members: 1,
        dir: disk.path(),
        network: None,
        tls: None,
        flags: timing(),
    })?;
    cluster.members[0].log = dir.path().join("m0.log");
    cluster.start_all()?;
    let traffic = Traffic::start(cluster.client_urls(), 6)?;
    let world = World {
        traffic,
        cluster,
        chance: Chance::new(6),
        _dir: dir,
    };
    world.works()?;
    // Once with what is refused early, once with nothing at all.
    for spare in [4 << 20, 0] {
        world.traffic.next_epoch();
        let url = world.cluster.members[0].client_url.clone();
        world.traffic.block_on(put(&url))?;
        disk.fill(spare)?;
        eventually(RECOVER, || {
            let refused = world.traffic.block_on(put(&url));
            let text = refused.err().context("a write was taken")?.to_string();
            ensure!(
                text.contains("etcdserver: mvcc: database space exceeded"),
                "{text}"
            );
            Ok(())
        })?;
        world.traffic.block_on(get(&url)).context("reads go on")?;
        disk.relieve()?;
        eventually(RECOVER, || world.traffic.block_on(put(&url)))
            .context("no hand is needed")
            .with_context(|| world.cluster.tails())?;
        world.works()?;
    }
    let judged = world.judge();
    drop(disk);
    judged.map(drop)
}

async fn put(url: &str) -> anyhow::Result<()> {
    let request = pb::PutRequest {
        key: "full".into(),
        value: "disk".into(),
        ..Default::default()
    };
    KvClient::new(connect(url).await?).put(request).await?;
    Ok(())
}

async fn get(url: &str) -> anyhow::Result<()> {
    let request = pb::RangeRequest {
        key: "full".into(),
        ..Default::default()
    };
    let answer = KvClient::new(connect(url).await?)
        .range(request)
        .await?
        .into_inner();
    ensure!(answer.kvs.len() == 1, "{answer:?}");
    Ok(())
}

/// A history that held is refused once it is altered: the harness can fail.
#[test]
fn an_altered_history_is_refused() -> anyhow::Result<()> {
    let mut world = World::new(1, false, 7)?;
    world.traffic.next_epoch();
    world.cluster.kill(0)?;
    world.cluster.start(0)?;
    world.works()?;
    eventually(RECOVER, || {
        let answered = world.traffic.recorder.answered();
        ensure!(answered > 300, "{answered} answers");
        Ok(())
    })?;
    let Judged {
        mut history, truth, ..
    } = world.judge()?;
    // One read that saw something says it saw what was never there.
    let read = history
        .ops
        .iter()
        .position(|op| {
            matches!(
                (&op.call, &op.answer),
                (Call::Get(_), Some((_, Outcome::Was(Some(_)))))
            )
        })
        .context("no read saw anything")?;
    let honest = history.ops[read].answer.clone();
    if let Some((_, Outcome::Was(Some((value, _))))) = &mut history.ops[read].answer {
        *value += 1_000_000;
    }
    let refused = history.check(&truth).err().context("an altered answer passed")?;
    ensure!(refused.contains("is not linearizable"), "{refused}");
    history.ops[read].answer = honest;
    history.check(&truth).map_err(anyhow::Error::msg)?;
    // An answer older than one that was there before.
    let write = history
        .ops
        .iter()
        .rposition(|op| op.revision > 10)
        .context("no late operation")?;
    let revision = std::mem::replace(&mut history.ops[write].revision, 3);
    ensure!(history.check(&truth).is_err(), "an old revision passed");
    history.ops[write].revision = revision;
    // A delivery that is lost, and one that comes twice.
    let place = history.watchers[0]
        .deliveries
        .iter()
        .position(|delivery| matches!(delivery, Delivery::Events(..)))
        .context("no delivery")?;
    let delivery = history.watchers[0].deliveries.remove(place);
    ensure!(history.check(&truth).is_err(), "a lost event passed");
    history.watchers[0].deliveries.insert(place, delivery.clone());
    history.watchers[0].deliveries.insert(place, delivery);
    ensure!(history.check(&truth).is_err(), "a doubled event passed");
    history.watchers[0].deliveries.remove(place);
    // A lease that ends at once.
    history.leases[0].revoked = false;
    history.leases[0].gone_at = Some(history.leases[0].alive_at);
    ensure!(history.check(&truth).is_err(), "a lease that ended early passed");
    Ok(())
}
