//! kubelet: the node agent. Runs the pods bound to its node through CRI and reports what became of them.
//!
//! Pure core: `plan` (what to do), `status` (what to report), `runtime` (CRI messages), `volumes::payload` (files).
//! Thin driver: `worker` (one task per pod), `cri` (calls, timed), `images`, `volumes`, `probes`, `server`, `node`.
//! What is left out: persistent volumes and CSI, device plugins, eviction by pressure, in-place resize, checkpoints.

pub mod plan;
pub mod pod;
pub mod quantity;
pub mod runtime;
pub mod status;
pub mod cri;
pub mod metrics;
pub mod limits;
