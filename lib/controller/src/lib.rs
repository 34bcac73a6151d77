//! The controller runtime: work queues and the executor of plans.
