//! How a member comes into a cluster: with the others of a new one, by joining, or back with what it has on disk; and why
//! it is turned away.

use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;
use keelson_proto::etcd::etcdserverpb as pb;

use crate::config::Config;
use crate::member::Genesis;
use crate::member::genesis::cluster_id;
use crate::peer::{Dialer, introduce};

/// Time a joining member looks for the cluster.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// Time a member that comes back waits for its neighbours to say whose they are.
const NEIGHBOURS_PATIENCE: Duration = Duration::from_millis(500);

/// Refuses a disk of another cluster: what it holds would be served under this member's address. Neighbours that do not
/// answer do not matter; streams between members are refused later as well.
pub async fn check_neighbours(config: &Config, dialer: &Dialer, own: u64) -> anyhow::Result<()> {
    let others = config
        .members
        .iter()
        .filter(|member| member.id != config.member_id)
        .map(|other| async move {
            let asked = tokio::time::timeout(NEIGHBOURS_PATIENCE, introduce(dialer, &other.peer_ur_ls)).await;
            Some((&other.peer_ur_ls, asked.ok()?.ok()?.cluster_id))
        });
    for (urls, cluster) in join_all(others).await.into_iter().flatten() {
        if cluster != own {
            bail!(
                "{} belongs to cluster {own:x}, but the member at {urls:?} to cluster {cluster:x}: give this member its \
                 own data directory, or correct --initial-cluster",
                config.data_dir.display()
            );
        }
    }
    Ok(())
}

/// The birth record of a member without a log.
pub async fn genesis(config: &Config, dialer: &Dialer) -> anyhow::Result<Genesis> {
    let others: Vec<&pb::Member> = config
        .members
        .iter()
        .filter(|member| member.id != config.member_id)
        .collect();
    if config.joining {
        return join(config, dialer, &others).await;
    }
    let genesis = Genesis {
        cluster_id: cluster_id(&config.members, &config.token),
        member_id: config.member_id,
        members: config.members.clone(),
        peers: Vec::new(),
        restored: false,
    };
    for other in others {
        // Nobody answers while a cluster starts; a cluster that runs knows whether this member has been in it.
        let Ok(welcome) = introduce(dialer, &other.peer_ur_ls).await else {
            continue;
        };
        if welcome.cluster_id != genesis.cluster_id {
            bail!(
                "the member at {:?} is of cluster {:x}, --initial-cluster and --initial-cluster-token describe cluster \
                 {:x}: give the list and the token the others were started with, or add this member to the cluster \
                 with `etcdctl member add` and start it with --initial-cluster-state=existing",
                other.peer_ur_ls,
                welcome.cluster_id,
                genesis.cluster_id
            );
        }
        let me = welcome
            .members
            .iter()
            .find(|member| member.id == config.member_id);
        if me.is_some_and(|me| !me.name.is_empty()) {
            bail!(
                "member {:x} has already been bootstrapped, but {} is empty: it would forget what it has voted for. \
                 Give it its data directory back, or remove it with `etcdctl member remove {:x}`, add it again, and \
                 start it with --initial-cluster-state=existing",
                config.member_id,
                config.data_dir.display(),
                config.member_id
            );
        }
    }
    Ok(genesis)
}

/// Finds the cluster and this member in it.
async fn join(config: &Config, dialer: &Dialer, others: &[&pb::Member]) -> anyhow::Result<Genesis> {
    let mine = config.members.iter().find(|member| member.id == config.member_id);
    let my_urls = mine.map(|member| member.peer_ur_ls.clone()).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + JOIN_PATIENCE;
    loop {
        let mut last = "--initial-cluster names no other member".to_owned();
        for other in others {
            match introduce(dialer, &other.peer_ur_ls).await {
                Ok(welcome) => {
                    let sorted = |urls: &[String]| {
                        let mut urls = urls.to_vec();
                        urls.sort();
                        urls
                    };
                    let me = welcome
                        .members
                        .iter()
                        .find(|member| sorted(&member.peer_ur_ls) == my_urls);
                    match me {
                        Some(me) if me.name.is_empty() => {
                            return Ok(Genesis {
                                cluster_id: welcome.cluster_id,
                                member_id: me.id,
                                members: Vec::new(),
                                peers: welcome.members.clone(),
                                restored: false,
                            });
                        }
                        Some(me) => bail!(
                            "member {:x} has started before, but {} is empty: remove it with `etcdctl member remove \
                             {:x}` and add it again",
                            me.id,
                            config.data_dir.display(),
                            me.id
                        ),
                        None => {
                            last = format!(
                                "the cluster has no member with the peer URLs {my_urls:?}: add it first with \
                                 `etcdctl member add`"
                            );
                        }
                    }
                }
                Err(error) => last = format!("{:?}: {error}", other.peer_ur_ls),
            }
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("cannot join the cluster: {last}");
        }
        tracing::info!(last, "looking for the cluster to join");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
