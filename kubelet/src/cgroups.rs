//! The cgroups above the containers: `/kubepods`, the QoS classes, one per pod. cgroupfs driver, v1 and v2.
//!
//! The runtime makes the containers' own cgroups below the pod's. On v1 each mounted controller has its own tree.

use crate::pod;
use crate::runtime::resources::{self, Qos};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// v1 controllers the kubelet makes pod cgroups in, where they are mounted.
const V1: [&str; 10] = [
    "cpu",
    "cpuacct",
    "cpu,cpuacct",
    "memory",
    "pids",
    "cpuset",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
];

/// The node's cgroup layout.
#[derive(Clone, Debug)]
pub struct Cgroups {
    v2: bool,
    /// Roots to make directories under: one on v2, one per controller on v1.
    trees: Vec<PathBuf>,
    /// Roots that only the runtime makes directories under, on v1: the named hierarchies (`systemd`, `unified`). What it
    /// leaves above its containers is ours to remove.
    others: Vec<PathBuf>,
    /// `--cgroup-root`, `/` by default.
    root: String,
    enabled: bool,
}

impl Cgroups {
    /// Looks at what is mounted.
    pub fn detect(root: &str, per_qos: bool) -> Self {
        let v2 = Path::new(ROOT).join("cgroup.controllers").exists();
        let trees = if v2 {
            vec![PathBuf::from(ROOT)]
        } else {
            V1.iter()
                .map(|c| Path::new(ROOT).join(c))
                .filter(|p| p.join("cgroup.procs").exists() || p.join("tasks").exists())
                .collect()
        };
        let others = if v2 {
            Vec::new()
        } else {
            others(Path::new(ROOT), &trees)
        };
        Cgroups {
            v2,
            trees,
            others,
            root: root.trim_end_matches('/').to_owned(),
            enabled: per_qos,
        }
    }

    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Makes `/kubepods` and the QoS cgroups.
    pub fn prepare(&self) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        for name in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            self.create(&format!("{}/{name}", self.root))?;
        }
        let best_effort = format!("{}/kubepods/besteffort", self.root);
        self.write_shares(&best_effort, 2);
        Ok(())
    }

    /// The pod's cgroup as CRI wants it; empty when the kubelet manages none.
    pub fn pod_parent(&self, pod: &Pod) -> String {
        if !self.enabled {
            return String::new();
        }
        let class = match resources::qos(pod) {
            Qos::Guaranteed => "",
            Qos::Burstable => "/burstable",
            Qos::BestEffort => "/besteffort",
        };
        format!("{}/kubepods{class}/pod{}", self.root, pod::uid(pod))
    }

    /// Makes the pod's cgroup with its limits.
    pub fn create_pod(&self, pod: &Pod) -> io::Result<()> {
        let parent = self.pod_parent(pod);
        if parent.is_empty() {
            return Ok(());
        }
        self.create(&parent)?;
        let limits = resources::of_pod(pod);
        self.write_shares(&parent, limits.cpu_shares);
        if let Some(quota) = limits.cpu_quota_us {
            if self.v2 {
                self.write("", &parent, "cpu.max", &format!("{quota} 100000"));
            } else {
                self.write("cpu", &parent, "cpu.cfs_period_us", "100000");
                self.write("cpu", &parent, "cpu.cfs_quota_us", &quota.to_string());
            }
        }
        if let Some(bytes) = limits.memory_bytes {
            let file = if self.v2 {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            self.write("memory", &parent, file, &bytes.to_string());
        }
        Ok(())
    }

    /// Removes a pod's cgroup and what is left below it; true when nothing is left.
    pub fn remove_pod(&self, parent: &str) -> bool {
        let remove = |tree: &PathBuf| remove_tree(&tree.join(parent.trim_start_matches('/')));
        // Every tree is tried, also after one that is still busy.
        parent.is_empty() || self.all_trees().map(remove).fold(true, |all, gone| all & gone)
    }

    fn all_trees(&self) -> impl Iterator<Item = &PathBuf> {
        self.trees.iter().chain(&self.others)
    }

    /// Uids of all pods that have a cgroup, with its path.
    pub fn pods(&self) -> Vec<(String, String)> {
        let mut found = BTreeSet::new();
        for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let path = format!("{}/{class}", self.root);
            let entries = self
                .all_trees()
                .filter_map(|tree| std::fs::read_dir(tree.join(path.trim_start_matches('/'))).ok());
            for entry in entries.flatten().flatten() {
                if let Some(uid) = entry.file_name().to_str().and_then(|n| n.strip_prefix("pod")) {
                    found.insert((uid.to_owned(), format!("{path}/pod{uid}")));
                }
            }
        }
        found.into_iter().collect()
    }

    fn create(&self, path: &str) -> io::Result<()> {
        let mut made = self.trees.is_empty();
        let mut last = None;
        for tree in &self.trees {
            let dir = tree.join(path.trim_start_matches('/'));
            match std::fs::create_dir_all(&dir) {
                Ok(()) => {
                    made = true;
                    inherit_cpuset(&dir);
                    if self.v2 {
                        enable_controllers(&dir);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if !made => Err(error),
            _ => Ok(()),
        }
    }

    fn write_shares(&self, path: &str, shares: i64) {
        if self.v2 {
            self.write("", path, "cpu.weight", &resources::weight(shares).to_string());
        } else {
            self.write("cpu", path, "cpu.shares", &shares.to_string());
        }
    }

    /// Writes one file, best effort: a controller that is not there limits nothing.
    fn write(&self, controller: &str, path: &str, file: &str, value: &str) {
        let tree = if self.v2 {
            Some(&self.trees[0])
        } else {
            self.trees.iter().find(|t| {
                t.file_name()
                    .is_some_and(|n| n.to_string_lossy().split(',').any(|c| c == controller))
            })
        };
        let Some(tree) = tree else { return };
        let target = tree.join(path.trim_start_matches('/')).join(file);
        if let Err(error) = std::fs::write(&target, value) {
            tracing::debug!(file = %target.display(), %error, "cgroup value not set");
        }
    }
}

/// A v1 cpuset without CPUs takes no process: it takes its parent's.
fn inherit_cpuset(dir: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        let Ok(value) = std::fs::read_to_string(&own) else {
            continue;
        };
        if value.trim().is_empty()
            && let Some(parent) = dir.parent()
            && let Ok(value) = std::fs::read_to_string(parent.join(file))
        {
            // A parent without CPUs would be an error of the mount, shown when the runtime starts a process.
            let _ = std::fs::write(&own, value.trim());
        }
    }
}

/// On v2 a child has only the controllers its parent passes on.
fn enable_controllers(dir: &Path) {
    let Some(parent) = dir.parent() else { return };
    let Ok(controllers) = std::fs::read_to_string(parent.join("cgroup.controllers")) else {
        return;
    };
    for controller in controllers.split_whitespace() {
        let _ = std::fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// The hierarchies below `root` that are none of `trees`; links name one twice.
fn others(root: &Path, trees: &[PathBuf]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| !trees.contains(path))
        .collect()
}

fn remove_tree(dir: &Path) -> bool {
    if let Ok(entries) = std::fs::read_dir(dir) {
        for entry in entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        {
            remove_tree(&entry.path());
        }
    }
    match std::fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_made_elsewhere_goes_with_the_pod() {
        let root = tempfile::tempdir().unwrap();
        let pod = "kubepods/besteffort/podu1";
        let (own, named) = (root.path().join("cpu"), root.path().join("systemd"));
        std::fs::create_dir_all(own.join(pod)).unwrap();
        std::fs::create_dir_all(named.join(pod).join("container")).unwrap();
        let cgroups = Cgroups {
            v2: false,
            trees: vec![own.clone()],
            others: others(root.path(), std::slice::from_ref(&own)),
            root: String::new(),
            enabled: true,
        };
        let expected = ("u1".to_owned(), format!("/{pod}"));
        assert_eq!(cgroups.pods(), [expected]);
        assert!(cgroups.remove_pod(&format!("/{pod}")));
        assert_eq!(cgroups.pods(), []);
        assert!(!named.join(pod).exists() && named.join("kubepods").exists());
    }
}
