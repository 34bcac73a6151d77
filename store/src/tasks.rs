//! What a member does on its own: tell its name, compact, watch its space, expire tokens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_disk::Disk;
use keelson_store_mvcc::auth::Caller;
use keelson_store_mvcc::command::{ClusterVersion, MemberAttributes, Op};

use crate::api::Api;
use crate::config::{Compaction, Config};
use crate::limits::DISK_RESERVE_BYTES;
use crate::member::open::Layout;
use crate::service::maintenance::CLUSTER_VERSION;

/// How often free space and the quota are looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// How often revision-based compaction looks (etcd's).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Samples periodic compaction keeps of its retention time (etcd's).
const PERIODIC_SAMPLES: u32 = 10;

/// Starts all of them; they end with the runtime.
pub fn start(api: &Arc<Api>, config: &Config, layout: &Layout, disk: Arc<dyn Disk>) {
    let attributes = MemberAttributes {
        id: api.shared.member_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
    };
    tokio::spawn(introduce_self(api.clone(), attributes));
    tokio::spawn(watch_space(api.clone(), disk, layout.wal.clone()));
    tokio::spawn(expire_tokens(api.clone()));
    match config.compaction {
        Compaction::Off => {}
        Compaction::Periodic(retention) => {
            tokio::spawn(compact_periodically(api.clone(), retention));
        }
        Compaction::Revision(count) => {
            tokio::spawn(compact_by_revision(api.clone(), count));
        }
    }
}

/// Publishes name and client URLs when they differ from what the cluster knows, and the cluster's version.
async fn introduce_self(api: Arc<Api>, attributes: MemberAttributes) {
    loop {
        let known = {
            let state = api.shared.state.read();
            let member = state.members().get(attributes.id);
            member.is_some_and(|member| {
                member.name == attributes.name && member.client_ur_ls == attributes.client_urls
            })
        };
        if known {
            break;
        }
        if api
            .command(&Caller::default(), Op::MemberAttributes(attributes.clone()))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let members = api.shared.state.read().members().list();
        api.shared.members.send_replace(members);
    }
    if api.shared.state.read().members().version().is_empty() {
        let version = ClusterVersion {
            version: CLUSTER_VERSION.to_owned(),
        };
        // Whoever comes first sets it; the others find it set.
        let _ = api.command(&Caller::default(), Op::ClusterVersion(version)).await;
    }
}

/// Refuses writes before the disk is full, and takes this member's NOSPACE alarm back once there is room below the quota.
async fn watch_space(api: Arc<Api>, disk: Arc<dyn Disk>, dir: std::path::PathBuf) {
    let mut interval = tokio::time::interval(SPACE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Ok(free) = disk.free_bytes(&dir) {
            let full = free < DISK_RESERVE_BYTES;
            if api.shared.set_disk_full(full) != full {
                tracing::warn!(
                    free,
                    "the disk is {}",
                    if full {
                        "full: writes are refused"
                    } else {
                        "usable again"
                    }
                );
            }
        }
        let quota = api.options.quota_bytes;
        let (raised, used) = {
            let state = api.shared.state.read();
            let raised = state.alarms().has(pb::AlarmType::Nospace, api.shared.member_id);
            (raised, state.bytes_in_use())
        };
        // A little below, so that it does not flap.
        if raised && (quota == 0 || used < quota / 100 * 95) {
            let disarm = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate as i32,
                member_id: api.shared.member_id,
                alarm: pb::AlarmType::Nospace as i32,
            };
            let _ = api.propose(&Caller::default(), Op::Alarm(disarm)).await;
        }
    }
}

/// Drops tokens that have ended. They are refused at their end in any case: this frees what they take.
async fn expire_tokens(api: Arc<Api>) {
    loop {
        tokio::time::sleep(api.tokens.ttl().max(SPACE_INTERVAL)).await;
        let ended = {
            let state = api.shared.state.read();
            api.tokens.ended(state.auth().tokens(), Instant::now())
        };
        if !ended.is_empty() {
            let mut state = api.shared.state.write();
            for token in ended {
                state.auth_mut().expire_token(&token);
            }
        }
    }
}

async fn compact_to(api: &Api, revision: i64) {
    let compacted = api.shared.state.read().compacted();
    if revision <= compacted || !api.shared.status().leading {
        return;
    }
    let request = pb::CompactionRequest {
        revision,
        physical: false,
    };
    match api.compact(&Caller::default(), request).await {
        Ok(_) => tracing::info!(revision, "compacted automatically"),
        Err(error) => tracing::warn!(revision, %error, "automatic compaction failed"),
    }
}

/// Keeps what is younger than `retention`, looking ten times per retention and at least hourly.
async fn compact_periodically(api: Arc<Api>, retention: Duration) {
    let interval = retention.min(Duration::from_secs(3600)) / PERIODIC_SAMPLES;
    let needed = usize::try_from(retention.as_nanos() / interval.as_nanos().max(1)).unwrap_or(usize::MAX);
    let mut samples: VecDeque<i64> = VecDeque::new();
    loop {
        samples.push_back(api.shared.state.read().revision());
        if samples.len() > needed
            && let Some(oldest) = samples.pop_front()
        {
            compact_to(&api, oldest).await;
        }
        tokio::time::sleep(interval).await;
    }
}

async fn compact_by_revision(api: Arc<Api>, keep: i64) {
    loop {
        tokio::time::sleep(REVISION_INTERVAL).await;
        let revision = api.shared.state.read().revision() - keep;
        compact_to(&api, revision).await;
    }
}
