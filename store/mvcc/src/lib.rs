//! Deterministic multi-version state: revisions, watch, leases, compaction.
