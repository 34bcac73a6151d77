//! Reading: which keys a request means, and its answer in two steps.
//!
//! `plan` needs the state only for the index walk; `Plan::finish` reads records without it, so a long range holds up
//! no writer. A place that went stale in between (its block was rewritten) is looked up again.

use std::sync::Arc;

use keelson_proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcd::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_disk::Engine;

use crate::backend::ReadError;
use crate::block::Record;
use crate::command::header;
use crate::error::Failure;
use crate::history::{Fetcher, Pair, Place};
use crate::key_index::Version;
use crate::{ApiError, Mvcc, Revision};

/// Times a moved record is looked up again.
const RELOCATIONS_MAX: usize = 3;

/// The end of a range, as requests give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// Only the key itself.
    Single,
    /// All keys from the key on.
    Open,
    /// Keys below this one.
    Before(&'a [u8]),
}

impl<'a> End<'a> {
    /// etcd's encoding: empty is a single key, one zero byte is open.
    pub fn parse(range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Single,
            [0] => Self::Open,
            end => Self::Before(end),
        }
    }

    /// Whether `key` lies in the range starting at `from`.
    pub fn contains(self, from: &[u8], key: &[u8]) -> bool {
        match self {
            Self::Single => key == from,
            Self::Open => key >= from,
            Self::Before(end) => key >= from && key < end,
        }
    }
}

/// A range whose keys are known and whose records are still to be read.
#[derive(Debug)]
pub struct Plan {
    request: RangeRequest,
    revision: i64,
    count: i64,
    more: bool,
    sort_all: bool,
    items: Vec<(Revision, Place)>,
}

impl Mvcc {
    /// Walks the index for a range at the state's current revision.
    pub fn plan_range(&self, request: RangeRequest) -> Result<Plan, Failure> {
        self.plan_range_at(request, self.revision())
    }

    pub(crate) fn plan_range_at(&self, request: RangeRequest, current: i64) -> Result<Plan, Failure> {
        let at = match request.revision {
            revision if revision > current => return Err(ApiError::FutureRev.into()),
            revision if revision <= 0 => current,
            revision => revision,
        };
        if at < self.compacted() {
            return Err(ApiError::Compacted.into());
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let filtered = filters.iter().any(|bound| *bound != 0);
        let sort_all = request.sort_order() != SortOrder::None || request.sort_target() != SortTarget::Key;
        let sort_needs_all = sort_all
            && (request.sort_target() != SortTarget::Key || request.sort_order() == SortOrder::Descend);
        // Sorting and the limit come after filtering; only an unsorted range may stop reading at its limit.
        let wanted = match usize::try_from(request.limit) {
            Ok(limit) if limit > 0 && !sort_needs_all => limit,
            _ => usize::MAX,
        };
        let mut plan = Plan {
            revision: current,
            count: 0,
            more: false,
            sort_all: sort_needs_all,
            items: Vec::new(),
            request,
        };
        let mut take = |version: &Version| -> Result<(), Failure> {
            plan.count += 1;
            if plan.request.count_only || (filtered && !passes(&plan.request, version)) {
                return Ok(());
            }
            if plan.items.len() >= wanted {
                plan.more = true;
                return Ok(());
            }
            let place = self.history.locate(version.modified);
            let place = place.ok_or_else(|| ReadError::damaged(missing(version.modified)))?;
            plan.items.push((version.modified, place));
            Ok(())
        };
        let (key, range_end) = (plan.request.key.clone(), plan.request.range_end.clone());
        match End::parse(&range_end) {
            End::Single => {
                if let Some(version) = self.index.get(&key, at) {
                    take(&version)?;
                }
            }
            End::Open => {
                for (_, version) in self.index.range(&key, None, at) {
                    take(version)?;
                }
            }
            End::Before(end) => {
                for (_, version) in self.index.range(&key, Some(end), at) {
                    take(version)?;
                }
            }
        }
        Ok(plan)
    }

    /// Reads one version's pair.
    pub(crate) fn fetch(&self, revision: Revision) -> Result<KeyValue, ReadError> {
        let place = self.history.locate(revision);
        let place = place.ok_or_else(|| ReadError::damaged(missing(revision)))?;
        let record = Fetcher::new(self.engine.as_ref()).fetch(revision, place)?;
        Ok(record.ok_or_else(|| ReadError::damaged(missing(revision)))?.kv)
    }

    /// Where a record is now; for `Plan::finish`.
    pub fn relocate(&self, revision: Revision) -> Option<Place> {
        self.history.locate(revision)
    }
}

impl Plan {
    /// Reads the records and makes the answer. `relocate` is asked for a record that moved since the plan was made;
    /// `None` from it means the revision was compacted meanwhile.
    pub fn finish(
        self,
        engine: &dyn Engine,
        relocate: &mut dyn FnMut(Revision) -> Option<Place>,
    ) -> Result<RangeResponse, Failure> {
        self.read(engine, relocate)?.into_response()
    }

    /// As `finish`, with pairs as they are stored wherever nobody needs to look into them.
    pub fn read(
        self,
        engine: &dyn Engine,
        relocate: &mut dyn FnMut(Revision) -> Option<Place>,
    ) -> Result<Found, Failure> {
        let mut found = Found {
            revision: self.revision,
            count: self.count,
            more: self.more,
            pairs: read_pairs(&self.items, engine, relocate)?,
        };
        let request = &self.request;
        if !self.sort_all && !request.keys_only {
            return Ok(found);
        }
        let pairs = found.pairs.into_iter().map(Pair::decode);
        let mut kvs = pairs.collect::<Result<Vec<KeyValue>, ReadError>>()?;
        if self.sort_all {
            sort(&mut kvs, request);
            let limit = usize::try_from(request.limit).unwrap_or(0);
            if limit > 0 && kvs.len() > limit {
                kvs.truncate(limit);
                found.more = true;
            }
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = bytes::Bytes::new();
            }
        }
        let decoded = |kv| Pair::Decoded(Arc::new(Record { kv, tombstone: false }));
        found.pairs = kvs.into_iter().map(decoded).collect();
        Ok(found)
    }
}

/// What a range found.
#[derive(Debug)]
pub struct Found {
    pub revision: i64,
    pub count: i64,
    pub more: bool,
    pub pairs: Vec<Pair>,
}

impl Found {
    /// The answer, with the revision alone in its header.
    pub fn into_response(self) -> Result<RangeResponse, Failure> {
        let kvs = self.pairs.into_iter().map(Pair::decode);
        Ok(RangeResponse {
            header: header(self.revision),
            kvs: kvs.collect::<Result<_, ReadError>>()?,
            more: self.more,
            count: self.count,
        })
    }
}

/// Reads in order of revisions, so that each block is read once, whatever the order of its keys.
fn read_pairs(
    items: &[(Revision, Place)],
    engine: &dyn Engine,
    relocate: &mut dyn FnMut(Revision) -> Option<Place>,
) -> Result<Vec<Pair>, Failure> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_unstable_by_key(|number| items[*number].0);
    let mut fetcher = Fetcher::new(engine);
    let mut pairs = vec![Pair::default(); items.len()];
    for number in order {
        let (revision, place) = &items[number];
        let mut found = fetcher.fetch_pair(*revision, place)?;
        for _ in 0..RELOCATIONS_MAX {
            if found.is_some() {
                break;
            }
            let place = relocate(*revision).ok_or(ApiError::Compacted)?;
            fetcher = Fetcher::new(engine);
            found = fetcher.fetch_pair(*revision, &place)?;
        }
        // Its block was rewritten without it: a compaction overtook this read.
        pairs[number] = found.ok_or(ApiError::Compacted)?;
    }
    Ok(pairs)
}

fn passes(request: &RangeRequest, version: &Version) -> bool {
    let within =
        |value: i64, least: i64, most: i64| (least == 0 || value >= least) && (most == 0 || value <= most);
    within(
        version.modified.main,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        version.created,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    match request.sort_target() {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}

fn missing(revision: Revision) -> String {
    format!(
        "the record of revision {}/{} is missing",
        revision.main, revision.sub
    )
}
