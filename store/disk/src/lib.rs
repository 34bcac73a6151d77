//! What is on disk: segmented log, snapshots, state engine.
