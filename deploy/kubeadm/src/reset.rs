//! `kubeadm reset`: undoes `init` and `join` on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::layout::Layout;
use crate::phases::say;
use crate::services::{self, ServiceManager};

/// Every unit a node may have, in the order they are stopped: what starts containers goes last.
const UNITS: &[&str] = &[
    "cluster-dns",
    "kube-scheduler",
    "kube-controller-manager",
    "kubelet",
    "kube-proxy",
    "keelson-network",
    "kube-apiserver",
    "kube-store",
];

/// Stops the node's services and removes its pods, rules and files.
pub fn run(manager: ServiceManager, layout: &Layout, cri_socket: &str, bin_dir: &Path) -> anyhow::Result<()> {
    say("reset", "Stopping the node's services");
    services::remove(manager, layout, UNITS)?;
    if !layout.is_local() {
        remove_pods(cri_socket);
    }
    unmount_below(&layout.kubelet())?;
    for (component, arguments) in [
        ("kube-proxy", vec!["--cleanup"]),
        ("keelson-network", network_cleanup(layout)),
    ] {
        let binary = bin_dir.join(component);
        if binary.exists()
            && !Command::new(&binary)
                .args(&arguments)
                .status()
                .is_ok_and(|status| status.success())
        {
            eprintln!(
                "[reset] {} {} failed: nftables rules may be left",
                binary.display(),
                arguments.join(" ")
            );
        }
    }
    say("reset", "Deleting the node's files");
    for dir in [layout.store(), layout.kubelet(), layout.pki()] {
        remove_dir(&dir)?;
    }
    remove_confs(layout)
}

fn network_cleanup(_layout: &Layout) -> Vec<&'static str> {
    vec!["--cleanup"]
}

/// Removes what a join that failed has written; a machine's own state is untouched.
pub fn remove_node(manager: ServiceManager, layout: &Layout) -> anyhow::Result<()> {
    services::remove(manager, layout, UNITS)?;
    for dir in [layout.pki(), layout.kubelet()] {
        remove_dir(&dir)?;
    }
    remove_confs(layout)
}

fn remove_confs(layout: &Layout) -> anyhow::Result<()> {
    let names = [
        "admin",
        "super-admin",
        "kubelet",
        "bootstrap-kubelet",
        "controller-manager",
        "scheduler",
        "kube-proxy",
        "cluster-dns",
        "network",
    ];
    for file in names.map(|name| layout.conf(name)) {
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

/// Pod sandboxes and containers, by the runtime's own client; a runtime that is gone has none.
fn remove_pods(cri_socket: &str) {
    let address = cri_socket.trim_start_matches("unix://");
    let ctr = |arguments: &[&str]| {
        let output = Command::new("ctr")
            .args(["-a", address, "-n", "k8s.io"])
            .args(arguments)
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    for task in ctr(&["task", "ls", "-q"]).lines() {
        ctr(&["task", "kill", "-s", "SIGKILL", task]);
        ctr(&["task", "rm", "-f", task]);
    }
    for container in ctr(&["container", "ls", "-q"]).lines() {
        ctr(&["container", "rm", container]);
    }
}

/// Mounts below the kubelet's directory, deepest first.
fn unmount_below(dir: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(dir))
        .collect();
    below.sort();
    for path in below.iter().rev() {
        let status = Command::new("umount")
            .arg("-l")
            .arg(path)
            .status()
            .context("run umount")?;
        if !status.success() {
            eprintln!("[reset] cannot unmount {}", path.display());
        }
    }
    Ok(())
}
