//! Requests against a cluster: in a closed loop (each client asks again when answered), and at an offered rate.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::{request_op, response_op};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::cluster::Cluster;

/// Keys the requests are spread over.
pub const KEYS: u64 = 10_000;
/// Time in which caches and connections warm up, not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// Steps in which offered requests are handed out.
const OFFER_STEP: Duration = Duration::from_millis(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// One key out of many.
    Put { bytes: usize },
    /// Compare the mod revision, put, else range: how an API server updates.
    Txn { bytes: usize },
    /// One key out of many.
    Get { serializable: bool },
    /// All keys.
    List,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub operations: u64,
    pub elapsed: Duration,
    /// The servers' CPU meanwhile.
    pub cpu: Duration,
    /// In microseconds, sorted.
    latencies_us: Vec<u32>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds are far below 2^52")]
impl Outcome {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds of CPU per operation.
    pub fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0 / self.operations.max(1) as f64
    }

    /// A latency, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let place = (self.latencies_us.len() * percent / 100).min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us
            .get(place)
            .map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// One client's state.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
    number: u64,
    random: u64,
    /// Mod revision of the client's own key.
    revision: i64,
    value: Bytes,
}

/// A key of the benchmark.
pub fn key(number: u64) -> Bytes {
    format!("/registry/pods/bench/{number:08}").into()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let words = std::iter::repeat_with(|| next(&mut state).to_le_bytes());
    words.flatten().take(length).collect::<Vec<u8>>().into()
}

fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state ^ (*state >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Clients spread over connections.
pub async fn clients(
    cluster: &Cluster,
    count: usize,
    connections: usize,
    bytes: usize,
) -> anyhow::Result<Vec<Client>> {
    let channels = cluster.connect(count.min(connections).max(1)).await?;
    let client = |number: usize| Client {
        kv: KvClient::new(channels[number % channels.len()].clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX),
        number: number as u64,
        random: number as u64 + 1,
        revision: 0,
        value: noise(bytes, number as u64 + 1),
    };
    Ok((0..count).map(client).collect())
}

impl Client {
    /// One request and its answer.
    pub async fn once(&mut self, work: Work) -> anyhow::Result<()> {
        match work {
            Work::Put { .. } => {
                let number = next(&mut self.random) % KEYS;
                self.put(key(number)).await
            }
            Work::Txn { .. } => self.update().await,
            Work::Get { serializable } => {
                let request = pb::RangeRequest {
                    key: key(next(&mut self.random) % KEYS),
                    serializable,
                    ..Default::default()
                };
                self.range(request, 1).await
            }
            Work::List => {
                let request = pb::RangeRequest {
                    key: key(0),
                    range_end: key(KEYS),
                    ..Default::default()
                };
                self.range(request, KEYS).await
            }
        }
    }

    /// Puts the client's value.
    pub async fn put(&mut self, key: Bytes) -> anyhow::Result<()> {
        let request = pb::PutRequest {
            key,
            value: self.value.clone(),
            ..Default::default()
        };
        self.kv.put(request).await.context("put")?;
        Ok(())
    }

    async fn range(&mut self, request: pb::RangeRequest, expected: u64) -> anyhow::Result<()> {
        let answer = self.kv.range(request).await.context("range")?.into_inner();
        anyhow::ensure!(
            answer.kvs.len() as u64 == expected,
            "{} keys, not {expected}",
            answer.kvs.len()
        );
        Ok(())
    }

    async fn update(&mut self) -> anyhow::Result<()> {
        let key: Bytes = format!("/registry/leases/bench/{:08}", self.number).into();
        let compare = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(self.revision)),
        };
        let put = pb::PutRequest {
            key: key.clone(),
            value: self.value.clone(),
            ..Default::default()
        };
        let range = pb::RangeRequest {
            key,
            ..Default::default()
        };
        let op = |request| {
            vec![pb::RequestOp {
                request: Some(request),
            }]
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: op(request_op::Request::RequestPut(put)),
            failure: op(request_op::Request::RequestRange(range)),
        };
        let answer = self.kv.txn(request).await.context("txn")?.into_inner();
        if answer.succeeded {
            self.revision = answer.header.context("an answer without a header")?.revision;
            return Ok(());
        }
        // The key is from an earlier turn: this answer says where it stands.
        if let Some(response_op::Response::ResponseRange(found)) =
            answer.responses.into_iter().next().and_then(|op| op.response)
        {
            self.revision = found.kvs.first().map_or(0, |kv| kv.mod_revision);
        }
        Ok(())
    }
}

/// Puts every key once, so that reads find something.
pub async fn fill(cluster: &Cluster, bytes: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let clients = clients(cluster, 64, 8, bytes).await?;
    let each = KEYS.div_ceil(clients.len() as u64);
    for mut client in clients {
        tasks.spawn(async move {
            let first = client.number * each;
            for number in first..(first + each).min(KEYS) {
                client.put(key(number)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client")??;
    }
    Ok(())
}

/// Every client asks again as soon as it is answered.
pub async fn closed(
    cluster: &Cluster,
    clients: Vec<Client>,
    work: Work,
    seconds: u64,
) -> anyhow::Result<Outcome> {
    let clients = ask_until(clients, work, Instant::now() + WARM_UP).await?;
    let clients = clients.into_iter().map(|(client, _)| client).collect();
    let (began, cpu) = (Instant::now(), cluster.cpu()?);
    let asked = ask_until(clients, work, began + Duration::from_secs(seconds)).await?;
    let (elapsed, cpu) = (began.elapsed(), cluster.cpu()?.saturating_sub(cpu));
    let latencies: Vec<u32> = asked.into_iter().flat_map(|(_, latencies)| latencies).collect();
    Ok(outcome(latencies, elapsed, cpu))
}

async fn ask_until(
    clients: Vec<Client>,
    work: Work,
    end: Instant,
) -> anyhow::Result<Vec<(Client, Vec<u32>)>> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return anyhow::Ok((client, latencies));
                }
                client.once(work).await?;
                latencies.push(micros(asked.elapsed()));
            }
        });
    }
    let mut ended = Vec::new();
    while let Some(one) = tasks.join_next().await {
        ended.push(one.context("a client")??);
    }
    Ok(ended)
}

/// Requests at a rate, whatever becomes of those before; latencies count from when each was due.
pub async fn offered(
    cluster: &Cluster,
    clients: &[Client],
    work: Work,
    rate: f64,
    seconds: u64,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    let (began, cpu) = (Instant::now(), cluster.cpu()?);
    let mut step = tokio::time::interval(OFFER_STEP);
    let mut handed = 0_u32;
    while began.elapsed() < Duration::from_secs(seconds) {
        step.tick().await;
        while f64::from(handed) < began.elapsed().as_secs_f64() * rate {
            let due = began + Duration::from_secs_f64(f64::from(handed) / rate);
            let mut client = clients[handed as usize % clients.len()].clone();
            // Clones of a client would all draw the same keys.
            client.random = u64::from(handed);
            tasks.spawn(async move {
                client.once(work).await?;
                anyhow::Ok(micros(due.elapsed()))
            });
            handed += 1;
        }
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.push(ended.context("a client")??);
    }
    Ok(outcome(
        latencies,
        began.elapsed(),
        cluster.cpu()?.saturating_sub(cpu),
    ))
}

fn outcome(mut latencies_us: Vec<u32>, elapsed: Duration, cpu: Duration) -> Outcome {
    latencies_us.sort_unstable();
    Outcome {
        operations: latencies_us.len() as u64,
        elapsed,
        cpu,
        latencies_us,
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
