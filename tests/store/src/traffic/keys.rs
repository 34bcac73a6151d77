//! Clients of keys: the simulation's operations, over the wire.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_store_mvcc::command::{Op as Command, Response};
use keelson_store_sim::chance::Chance;
use keelson_store_sim::client;
use keelson_store_sim::linear::{Call, Op, Outcome};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Link, PATIENCE, Shared};

/// Groups of keys in use at once.
const GROUPS: u64 = 3;
/// Pause between operations of one client, so that a history can be searched.
const PACE: Duration = Duration::from_millis(8);
/// Operations after which a client turns to any member, in thousand.
const WANDER_PER_MILLE: u64 = 50;

pub(super) async fn run(shared: Shared, mut chance: Chance) {
    let recorder = shared.recorder.clone();
    let mut link = Link::new(shared, chance.fork());
    while let Some(channel) = link.channel().await {
        let epoch = recorder.epoch.load(Ordering::Relaxed);
        let group = epoch * GROUPS as usize + chance.place(GROUPS as usize);
        let call = client::choose(&mut chance, recorder.value());
        let called = recorder.step();
        let answer = tokio::time::timeout(PATIENCE, perform(channel, group, &call)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client's own patience")));
        let mut op = Op {
            group,
            call,
            called,
            answer: None,
            revision: 0,
        };
        match answer {
            Ok((outcome, revision)) => {
                op.answer = Some((recorder.step(), outcome));
                op.revision = revision;
                recorder.op(op);
            }
            Err(status) => {
                link.leave();
                match fate(&status) {
                    Fate::Unknown if matches!(op.call, Call::Get(_)) => {}
                    Fate::Unknown => recorder.op(op),
                    Fate::Nothing => {}
                    Fate::Unexpected => recorder.unexpected(format!("{:?}: {status:?}", op.call)),
                }
            }
        }
        if chance.per_mille(WANDER_PER_MILLE) {
            link.leave();
        }
        tokio::time::sleep(PACE).await;
    }
}

/// What an error says of its request.
enum Fate {
    /// It may have happened, now or later.
    Unknown,
    /// It has not happened and will not.
    Nothing,
    /// No fault gives this answer.
    Unexpected,
}

fn fate(status: &Status) -> Fate {
    match (status.code(), status.message()) {
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded") => Fate::Nothing,
        (
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal,
            _,
        ) => Fate::Unknown,
        _ => Fate::Unexpected,
    }
}

async fn perform(channel: Channel, group: usize, call: &Call) -> Result<(Outcome, i64), Status> {
    let mut kv = KvClient::new(channel);
    let response = match (client::command(group, call), call) {
        (Some(Command::Put(put)), _) => Response::Put(kv.put(put).await?.into_inner()),
        (Some(Command::DeleteRange(delete)), _) => {
            Response::DeleteRange(kv.delete_range(delete).await?.into_inner())
        }
        (Some(Command::Txn(txn)), _) => Response::Txn(kv.txn(txn).await?.into_inner()),
        (None, Call::Get(place)) => {
            let range = kv.range(client::range(group, *place)).await?.into_inner();
            let revision = range.header.map_or(0, |header| header.revision);
            return Ok((Outcome::Was(client::seen(range.kvs.first())), revision));
        }
        (other, call) => unreachable!("{call:?} is asked by {other:?}"),
    };
    Ok(client::outcome(response))
}
