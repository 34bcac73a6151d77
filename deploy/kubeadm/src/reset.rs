//! `kubeadm reset`: undoes `init` and `join` on this machine.
//!
//! What has to be asked of others goes first (the runtime removes pods, and with them their network), then what the
//! kernel keeps for us, then files. A step that fails is told and does not keep the rest from being undone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cri;
use crate::layout::Layout;
use crate::phases::say;
use crate::services::{self, ServiceManager};

/// Every unit a node may have, in the order they are stopped: what starts containers goes first.
const UNITS: &[&str] = &[
    "kubelet",
    "cluster-dns",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-proxy",
    "keelson-network",
    "kube-apiserver",
    "kube-store",
];

/// Kubeconfigs of a node, without ending.
const CONFS: [&str; 9] = [
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

/// How long killed processes may take to leave their cgroups.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);

/// What is reset.
pub struct Reset<'a> {
    pub manager: ServiceManager,
    pub layout: &'a Layout,
    pub cri_socket: &'a str,
    pub bin_dir: &'a Path,
    /// `/sys/fs/cgroup`.
    pub cgroup_root: &'a Path,
    /// Keep certificates, administrators' kubeconfigs and the store: the next `init` finds the same cluster.
    pub keep_data: bool,
}

/// Stops the node's services and removes its pods, rules and files; every failure at the end.
pub async fn run(reset: &Reset<'_>) -> anyhow::Result<()> {
    let layout = reset.layout;
    let mut failed = Vec::new();
    let mut note = |outcome: anyhow::Result<()>| {
        if let Err(error) = outcome {
            eprintln!("[reset] {error:#}");
            failed.push(format!("{error:#}"));
        }
    };
    say("reset", "Stopping the kubelet service");
    note(services::stop(reset.manager, layout, UNITS));
    say("reset", "Removing the pods of this machine");
    let mut our_pods = Vec::new();
    note(remove_pods(reset).await.map(|uids| our_pods = uids));
    note(services::remove(reset.manager, layout, UNITS));
    say(
        "reset",
        format!("Unmounting mounted directories in {:?}", layout.kubelet()),
    );
    note(unmount_below(&layout.kubelet()));
    say(
        "reset",
        "Removing nftables rules, routes, bridges and CNI configuration",
    );
    note(clean_up(
        &reset.bin_dir.join("kube-proxy"),
        &["--cleanup".to_owned()],
    ));
    let cni = format!("--cni-conf-dir={}", layout.cni_conf().display());
    note(clean_up(
        &reset.bin_dir.join("keelson-network"),
        &["--cleanup".to_owned(), cni],
    ));
    note(remove_cgroups(reset.cgroup_root, &our_pods));
    note(remove_files(reset));
    if !failed.is_empty() {
        bail!("{} steps failed, see above", failed.len());
    }
    println!(
        "\nThe reset process does not clean your kubeconfig files and you must remove them manually.\n\
         Please, check the contents of the $HOME/.kube/config file."
    );
    Ok(())
}

/// Gives the pods' uids.
async fn remove_pods(reset: &Reset<'_>) -> anyhow::Result<Vec<String>> {
    if reset.layout.is_local() {
        if reset.manager != ServiceManager::Supervisor || !services::supervises_runtime(reset.layout) {
            return Ok(Vec::new());
        }
        cri::wait_for(reset.cri_socket).await?;
    }
    cri::remove_pods(reset.cri_socket).await
}

/// Lets a component take away its own rules.
fn clean_up(binary: &Path, arguments: &[String]) -> anyhow::Result<()> {
    if !binary.exists() {
        return Ok(());
    }
    let output = Command::new(binary).args(arguments).output();
    let output = output.with_context(|| format!("run {}", binary.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{} {}: {}", binary.display(), arguments.join(" "), why.trim());
    }
    Ok(())
}

/// The kubelet's cgroups: one tree on v2, one per controller on v1. Those of our pods must go, though killed processes
/// may take a moment to leave them; others go if nothing is in them, since another node may run on this host.
fn remove_cgroups(root: &Path, our_pods: &[String]) -> anyhow::Result<()> {
    let mut trees = vec![root.join("kubepods")];
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    trees.extend(entries.map(|entry| entry.path().join("kubepods")));
    let began = Instant::now();
    for tree in &trees {
        loop {
            remove_empty(tree);
            let Some(left) = our_pods.iter().find_map(|uid| cgroup_of(tree, uid)) else {
                break;
            };
            if began.elapsed() > CGROUP_LIMIT {
                bail!("something still runs in the cgroup {}", left.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// A pod's cgroup below `kubepods`, whichever class it has.
fn cgroup_of(tree: &Path, uid: &str) -> Option<PathBuf> {
    let classes = ["", "burstable", "besteffort"];
    let mut candidates = classes
        .iter()
        .map(|class| tree.join(class).join(format!("pod{uid}")));
    candidates.find(|dir| dir.exists())
}

/// Removes a directory of cgroups as far as nothing is in them: the kernel refuses the others.
fn remove_empty(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for child in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        remove_empty(&child);
    }
    // Refused or gone already: who calls looks at what is left.
    _ = std::fs::remove_dir(dir);
}

fn remove_files(reset: &Reset<'_>) -> anyhow::Result<()> {
    let layout = reset.layout;
    remove_container_logs(&layout.pod_logs())?;
    let mut dirs = vec![
        layout.manifests(),
        layout.kubelet(),
        layout.pod_logs(),
        layout.run(),
        layout.log(),
    ];
    if layout.is_local() {
        // The supervisor's own: gone with the directory, wanted while it ends.
        dirs.retain(|dir| *dir != layout.run() && *dir != layout.log());
    }
    let mut confs: Vec<&str> = CONFS.to_vec();
    if reset.keep_data {
        confs = vec!["kubelet", "bootstrap-kubelet"];
    } else {
        dirs.extend([layout.store(), layout.pki()]);
    }
    let shown: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    say(
        "reset",
        format!("Deleting contents of directories: [{}]", shown.join(" ")),
    );
    dirs.iter().try_for_each(|dir| remove_dir(dir))?;
    let files: Vec<PathBuf> = confs.iter().map(|name| layout.conf(name)).collect();
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    say("reset", format!("Deleting files: [{}]", shown.join(" ")));
    files.iter().try_for_each(|file| remove_file(file))?;
    if !layout.is_local() {
        remove_if_empty(&layout.conf_dir());
    }
    Ok(())
}

/// The links of `/var/log/containers` that point to this node's logs.
fn remove_container_logs(pod_logs: &Path) -> anyhow::Result<()> {
    let links = Path::new("/var/log/containers");
    let Ok(entries) = std::fs::read_dir(links) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(pod_logs)) {
            remove_file(&entry.path())?;
        }
    }
    remove_if_empty(links);
    Ok(())
}

/// Removes what a join that failed has written; a machine's own state is untouched.
pub fn remove_node(manager: ServiceManager, layout: &Layout) -> anyhow::Result<()> {
    services::remove(manager, layout, UNITS)?;
    for dir in [layout.pki(), layout.kubelet()] {
        remove_dir(&dir)?;
    }
    CONFS
        .iter()
        .try_for_each(|name| remove_file(&layout.conf(name)))?;
    if !layout.is_local() {
        remove_if_empty(&layout.conf_dir());
    }
    Ok(())
}

fn remove_file(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what is in a directory, and the directory itself unless it is a mount point.
fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let removed = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    remove_if_empty(dir);
    Ok(())
}

/// A directory that others use, too, or that is a mount point, stays.
fn remove_if_empty(dir: &Path) {
    _ = std::fs::remove_dir(dir);
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
        let status = Command::new("umount").arg("-l").arg(path).status();
        if !status.context("run umount")?.success() {
            bail!("cannot unmount {}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_cgroups_of_every_tree_go() {
        let root = tempfile::tempdir().unwrap();
        for dir in [
            "cpu/kubepods/besteffort/pod1/c",
            "memory/kubepods",
            "kubepods/burstable",
            "cpu/others",
        ] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        // Unlike the kernel's, a file keeps this one from being removed.
        let busy = root.path().join("pids/kubepods/pod2");
        std::fs::create_dir_all(&busy).unwrap();
        std::fs::write(busy.join("process"), "").unwrap();
        remove_cgroups(root.path(), &["1".to_owned()]).unwrap();
        let there = |dir: &str| root.path().join(dir).exists();
        assert!(
            there("cpu/others") && !there("cpu/kubepods") && !there("memory/kubepods") && !there("kubepods")
        );
        assert!(busy.exists(), "another node's pod");
        assert_eq!(cgroup_of(&root.path().join("pids/kubepods"), "2"), Some(busy));
    }

    #[tokio::test]
    async fn a_node_below_one_directory_goes_and_may_keep_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().to_owned()), None);
        let write = |path: PathBuf| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        let files = || {
            write(layout.pki_file("ca.crt"));
            write(layout.store().join("member/log"));
            write(layout.kubelet().join("config.yaml"));
            ["admin", "kubelet"]
                .iter()
                .for_each(|name| write(layout.conf(name)));
        };
        let reset = |keep_data| Reset {
            manager: ServiceManager::None,
            layout: &layout,
            cri_socket: "unix:///nowhere",
            bin_dir: Path::new("/nowhere"),
            cgroup_root: dir.path(),
            keep_data,
        };
        files();
        run(&reset(true)).await.unwrap();
        let there = |path: PathBuf| path.exists();
        assert!(there(layout.pki_file("ca.crt")) && there(layout.store()) && there(layout.conf("admin")));
        assert!(!there(layout.kubelet()) && !there(layout.conf("kubelet")));
        files();
        run(&reset(false)).await.unwrap();
        run(&reset(false)).await.unwrap();
        assert!(!there(layout.pki()) && !there(layout.store()) && !there(layout.conf("admin")));
    }
}
