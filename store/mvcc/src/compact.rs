//! Compaction: the replicated decision, and the work that follows in steps.

use keelson_proto::etcd::etcdserverpb::{CompactionRequest, CompactionResponse};

use crate::command::{Response, header};
use crate::error::Failure;
use crate::limits::COMPACT_STEP_RECORDS;
use crate::{ApiError, Mvcc};

impl Mvcc {
    pub(crate) fn apply_compact(&mut self, request: &CompactionRequest) -> Result<Response, Failure> {
        if request.revision <= self.compacted {
            return Err(ApiError::Compacted.into());
        }
        if request.revision > self.revision {
            return Err(ApiError::FutureRev.into());
        }
        self.compacted = request.revision;
        self.compacting = true;
        Ok(Response::Compact(CompactionResponse {
            header: header(self.revision),
        }))
    }

    /// Drops some records nobody can ask for any more; true while there is more to do.
    pub fn compact_step(&mut self) -> bool {
        if !self.compacting {
            return false;
        }
        let history = &mut self.history;
        let done = self
            .index
            .compact(self.compacted, COMPACT_STEP_RECORDS, &mut |revision| {
                history.drop_record(revision)
            });
        self.compacting = !done;
        self.compacting
    }

    /// Whether a compaction's records are all dropped from the index.
    pub fn is_compacting(&self) -> bool {
        self.compacting
    }
}
