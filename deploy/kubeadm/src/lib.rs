//! kubeadm: makes a cluster, lets machines join it, keeps its certificates, and removes it again.
//!
//! Upstream's commands, flags, files and join protocol; components run as systemd units instead of static pods.
//! What files say (certificates, kubeconfigs, units, API objects) is computed by pure functions over `Settings`;
//! `phases` writes and starts. Left out: external etcd, stacked control-plane join, `--rootfs`.

pub mod certs;
pub mod cli;
pub mod configuration;
pub mod cri;
pub mod discovery;
pub mod join;
pub mod kubeconfig;
pub mod layout;
pub mod objects;
pub mod phases;
pub mod pki;
pub mod reset;
pub mod services;
pub mod settings;
pub mod token;
pub mod units;
pub mod yaml;
