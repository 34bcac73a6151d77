//! What tests share: temporary clusters, waiting for conditions, transcripts.
