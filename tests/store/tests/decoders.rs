//! Every decoder of bytes from outside, given bytes that are nearly right: no panic, no endless work, and no more memory
//! than the input can account for.
//!
//! The inputs are mutations of real ones by a fixed and a fresh seed; a failure prints the seed. `KEELSON_SEED` replays
//! one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_disk::bbolt::{Reader, Writer};
use keelson_store_disk::memory_engine::MemoryEngine;
use keelson_store_disk::wal::{self, Wal, WalBatch};
use keelson_store_disk::{Disk, RealDisk, snapshot};
use keelson_store_mvcc::block::{self, Block, Record};
use keelson_store_mvcc::command::{Command, Op};
use keelson_store_mvcc::image::Source;
use keelson_store_mvcc::{Revision, backend, validate};
use keelson_store_sim::chance::Chance;
use kube_store::peer::frame;
use kube_store::server::gateway::{schema::SCHEMA, transcode};
use prost::Message;

/// Mutations of each input by each seed.
const ROUNDS: usize = 400;
/// Memory one decoding may take, whatever its input says.
const MEMORY_MAX: usize = 32 << 20;

/// Counts what is allocated.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "the one way to see allocations; it only counts")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Changes some bytes as damage, and as malice, would.
fn mutate(chance: &mut Chance, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(4) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let place = chance.place(bytes.len());
        match chance.below(8) {
            0 => bytes[place] ^= 1 << chance.below(8),
            1 => bytes[place] = chance.bits() as u8,
            2 => bytes.truncate(place),
            // Lengths and counts at their extremes.
            3 => bytes[place] = 0xff,
            4 => {
                let end = bytes.len().min(place + 4);
                bytes[place..end].fill(0xff);
            }
            5 => {
                let end = bytes.len().min(place + 8);
                bytes[place..end].fill(0);
            }
            6 => bytes.insert(place, chance.bits() as u8),
            _ => {
                let other = chance.place(bytes.len());
                let length = chance.place(bytes.len() - other.max(place) + 1);
                let piece = bytes[other..other + length].to_vec();
                bytes.splice(place..place, piece);
            }
        }
    }
    bytes
}

/// Says which seed it was.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: KEELSON_SEED={} cargo nextest run -p keelson-store-tests {}",
                self.1, self.0
            );
        }
    }
}

/// Gives a decoder mutations of inputs.
fn feed(name: &'static str, inputs: &[Vec<u8>], rounds: usize, decode: &mut dyn FnMut(&[u8])) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fresh = clock.as_micros() as u64;
    let replayed = std::env::var("KEELSON_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(vec![1, fresh], |seed| vec![seed]);
    for input in inputs {
        decode(input);
    }
    for seed in seeds {
        let _named = Named(name, seed);
        let mut chance = Chance::new(seed);
        for _ in 0..rounds {
            let input = &inputs[chance.place(inputs.len())];
            let bytes = mutate(&mut chance, input);
            PEAK.store(IN_USE.load(Ordering::Relaxed), Ordering::Relaxed);
            let before = IN_USE.load(Ordering::Relaxed);
            decode(&bytes);
            let took = PEAK.load(Ordering::Relaxed).saturating_sub(before);
            assert!(
                took < MEMORY_MAX,
                "{took} bytes for {} bytes of input",
                bytes.len()
            );
        }
    }
}

fn requests() -> Vec<Vec<u8>> {
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 3,
        sort_order: 1,
        sort_target: 2,
        max_mod_revision: 7,
        ..Default::default()
    };
    let put = pb::PutRequest {
        key: "a".into(),
        value: "v".into(),
        lease: 3,
        prev_kv: true,
        ..Default::default()
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let compare = pb::Compare {
        result: 1,
        target: 3,
        key: "a".into(),
        range_end: "b".into(),
        target_union: Some(pb::compare::TargetUnion::Value("x".into())),
    };
    let inner = pb::TxnRequest {
        success: vec![op(pb::request_op::Request::RequestPut(put.clone()))],
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(pb::request_op::Request::RequestTxn(inner))],
        failure: vec![
            op(pb::request_op::Request::RequestRange(range.clone())),
            op(pb::request_op::Request::RequestDeleteRange(
                pb::DeleteRangeRequest {
                    key: "a".into(),
                    ..Default::default()
                },
            )),
        ],
    };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: "a".into(),
                filters: vec![0, 1],
                start_revision: 5,
                ..Default::default()
            },
        )),
    };
    let command = Command {
        id: 9,
        user: "ann".to_owned(),
        op: Some(Op::Txn(txn.clone())),
        ..Default::default()
    };
    vec![
        range.encode_to_vec(),
        put.encode_to_vec(),
        txn.encode_to_vec(),
        watch.encode_to_vec(),
        command.encode_to_vec(),
    ]
}

#[test]
fn requests_are_decoded_and_checked() {
    feed(
        "requests_are_decoded_and_checked",
        &requests(),
        20 * ROUNDS,
        &mut |bytes| {
            let bytes = Bytes::copy_from_slice(bytes);
            if let Ok(request) = pb::RangeRequest::decode(bytes.clone()) {
                let _ = validate::range(&request);
            }
            if let Ok(request) = pb::PutRequest::decode(bytes.clone()) {
                let _ = validate::put(&request);
            }
            if let Ok(request) = pb::DeleteRangeRequest::decode(bytes.clone()) {
                let _ = validate::delete_range(&request);
            }
            if let Ok(request) = pb::TxnRequest::decode(bytes.clone()) {
                let _ = validate::txn(&request, 128);
            }
            let _ = pb::WatchRequest::decode(bytes.clone());
            let _ = Command::decode(bytes.clone());
            for message in [
                "etcdserverpb.TxnRequest",
                "etcdserverpb.WatchResponse",
                "etcdserverpb.RangeResponse",
            ] {
                let _ = transcode::to_json(&SCHEMA, message, bytes.clone());
            }
        },
    );
}

#[test]
fn json_is_transcoded() {
    let inputs = [
        r#"{"key":"YQ==","limit":"3","sort_order":"DESCEND","keysOnly":true}"#,
        r#"{"compare":[{"target":"VALUE","key":"YQ==","value":"Yg"}],"success":[{"requestPut":{"key":"YQ==","lease":"-7"}}]}"#,
        r#"{"create_request":{"key":"YQ==","filters":["NOPUT",1],"start_revision":2}}"#,
    ]
    .map(|text| text.as_bytes().to_vec());
    feed("json_is_transcoded", &inputs, 10 * ROUNDS, &mut |bytes| {
        if let Ok(value) = serde_json::from_slice(bytes) {
            for message in [
                "etcdserverpb.RangeRequest",
                "etcdserverpb.TxnRequest",
                "etcdserverpb.WatchRequest",
            ] {
                let _ = transcode::to_protobuf(&SCHEMA, message, &value);
            }
        }
    });
}

#[test]
fn peers_frames_are_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written = |message: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        message(&mut bytes);
        bytes
    };
    let entry = keelson_store_raft::Entry {
        data: requests().pop().unwrap(),
        ..Default::default()
    };
    let mut raft = keelson_store_raft::Message {
        to: 1,
        from: 2,
        term: 3,
        index: 4,
        ..Default::default()
    };
    raft.entries.push(entry);
    let hello = frame::Hello {
        cluster_id: 1,
        from: 2,
        to: 3,
        ..Default::default()
    };
    let whole = frame::Frame {
        raft: vec![keelson_store_raft::encode(&raft).into()],
        asks: vec![frame::Ask::lease(frame::AskKind::LeaseRenew, 7)],
        ..Default::default()
    };
    let inputs = [
        written(&|out| runtime.block_on(frame::write(out, &hello)).unwrap()),
        written(&|out| runtime.block_on(frame::write(out, &whole)).unwrap()),
        // A length that nothing follows.
        vec![3, 0xff, 0xff, 0xff, 1, 2],
    ];
    feed("peers_frames_are_read", &inputs, 10 * ROUNDS, &mut |bytes| {
        let _ = runtime.block_on(frame::read::<frame::Hello>(
            &mut &bytes[..],
            frame::HELLO_BYTES_MAX,
        ));
        if let Ok(frame) = runtime.block_on(frame::read::<frame::Frame>(&mut &bytes[..], 64 << 20)) {
            for message in frame.raft {
                let _ = keelson_store_raft::decode::<keelson_store_raft::Message>(&message);
            }
        }
    });
}

fn pair(number: u8) -> KeyValue {
    KeyValue {
        key: vec![b'k', number].into(),
        value: vec![number; usize::from(number) * 5].into(),
        create_revision: 2,
        mod_revision: 2 + i64::from(number),
        version: 1,
        lease: 0,
    }
}

#[test]
fn blocks_are_read() {
    let records: Vec<(Revision, Record)> = (0..20)
        .map(|number| {
            let kv = pair(number);
            let revision = Revision {
                main: kv.mod_revision,
                sub: 0,
            };
            let record = Record {
                kv,
                tombstone: number == 7,
            };
            (revision, record)
        })
        .collect();
    let inputs = [block::encode(&records).to_vec()];
    feed("blocks_are_read", &inputs, 10 * ROUNDS, &mut |bytes| {
        if let Ok(block) = Block::new(Bytes::copy_from_slice(bytes)) {
            for (revision, _) in &records {
                let _ = block.get(*revision);
            }
            for record in block.records() {
                if record.is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn logs_are_recovered_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut wal = Wal::create(disk.clone(), &path, "genesis".into(), "state".into(), 1).unwrap();
    for index in 2..12u64 {
        let mut batch = WalBatch::default();
        batch.entry(index, 30, |out| out.extend([index as u8; 30]));
        wal.append(&batch).unwrap();
    }
    drop(wal);
    let segment = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    let inputs = [std::fs::read(&segment).unwrap()];
    feed("logs_are_recovered_or_refused", &inputs, ROUNDS, &mut |bytes| {
        std::fs::write(&segment, bytes).unwrap();
        let verified = wal::verify(&RealDisk, &path);
        match wal::recover(disk.clone(), &path) {
            // Whatever is taken for good was written.
            Ok(recovered) => {
                let wal = recovered.wal;
                for index in wal.first_index()..=wal.last_index() {
                    for (index, data) in wal.read(index, index + 1, 1 << 20).unwrap() {
                        assert_eq!(data[..], [index as u8; 30], "a wrong entry was believed");
                    }
                }
            }
            Err(_) => assert!(verified.is_err(), "verify says it is well"),
        }
    });
}

fn database(path: &Path) -> Vec<u8> {
    snapshot::write(&RealDisk, path, |writer: &mut Writer| {
        writer.bucket(b"key")?;
        for number in 0..60u8 {
            let kv = pair(number);
            let mut key = kv.mod_revision.to_be_bytes().to_vec();
            key.push(b'_');
            key.extend([0; 8]);
            writer.put(&key, &kv.encode_to_vec())?;
        }
        writer.bucket(b"lease")?;
        writer.put(&7u64.to_be_bytes(), &[8, 7, 16, 60])?;
        writer.bucket(b"meta")?;
        writer.put(b"consistent_index", &9u64.to_be_bytes())
    })
    .expect("a temporary directory can be written");
    std::fs::read(path).expect("it was just written")
}

#[test]
fn snapshots_are_loaded_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let inputs = [database(&path)];
    feed("snapshots_are_loaded_or_refused", &inputs, ROUNDS, &mut |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let _ = snapshot::check(&RealDisk, &path);
        // As with --skip-hash-check: only the database itself protects from what is in it.
        if let Ok(reader) = Reader::open(&RealDisk, &path) {
            for fresh in [true, false] {
                let source = Source {
                    reader: &reader,
                    fresh,
                };
                let _ = backend::fill(&MemoryEngine::default(), &source);
            }
        }
    });
}

#[test]
fn flags_and_config_files_are_read() {
    let lines = [
        "kube-store --name a --data-dir=/d --initial-cluster a=http://h:2380 --quota-backend-bytes=-1",
        "kube-store -auto-compaction-retention 1h30m --election-timeout=500 --cipher-suites=x --snapshot-count 5",
    ]
    .map(|line| line.replace(' ', "\n").into_bytes());
    feed(
        "flags_and_config_files_are_read",
        &lines,
        2 * ROUNDS,
        &mut |bytes| {
            let text = String::from_utf8_lossy(bytes);
            // A file named by a flag would be read.
            if text.contains("config") {
                return;
            }
            if let Ok((cli, _)) = kube_store::flags::parse(text.split('\n').map(str::to_owned)) {
                let _ = kube_store::config::Config::try_from(cli.flags);
            }
        },
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let texts = [
        "name: b\nquota-backend-bytes: 100\nclient-transport-security:\n  cert-file: /c\n  client-cert-auth: true\n",
        "initial-cluster: a=http://h:2380\nelection-timeout: 500\nlog-outputs: [stderr]\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    feed("flags_and_config_files_are_read", &texts, ROUNDS, &mut |bytes| {
        std::fs::write(&file, bytes).unwrap();
        let flag = format!("--config-file={}", file.display());
        let arguments = ["kube-store".to_owned(), flag].into_iter();
        if let Ok((cli, _)) = kube_store::flags::parse(arguments) {
            let _ = kube_store::config::Config::try_from(cli.flags);
        }
    });
}
