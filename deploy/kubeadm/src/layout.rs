//! Where every file of a node lies: upstream's paths, or all below one directory.
//!
//! The second form (`--state-dir`) is the local cluster's: nothing outside the directory is written, so removing it
//! removes the node, and several nodes fit on one host.

use std::path::{Path, PathBuf};

/// The paths of one node.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    state_dir: Option<PathBuf>,
    cert_dir: Option<PathBuf>,
}

impl Layout {
    /// `state_dir`: all below it; `cert_dir` moves the certificates alone.
    pub fn new(state_dir: Option<PathBuf>, cert_dir: Option<PathBuf>) -> Self {
        Self { state_dir, cert_dir }
    }

    fn pick(&self, local: &str, system: &str) -> PathBuf {
        self.state_dir
            .as_ref()
            .map_or_else(|| PathBuf::from(system), |dir| dir.join(local))
    }

    /// Whether this is a node below one directory.
    pub fn is_local(&self) -> bool {
        self.state_dir.is_some()
    }

    /// Certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.cert_dir
            .clone()
            .unwrap_or_else(|| self.pick("pki", "/etc/kubernetes/pki"))
    }

    /// A file of the certificates' directory.
    pub fn pki_file(&self, name: &str) -> PathBuf {
        self.pki().join(name)
    }

    /// Where kubeconfigs lie.
    pub fn conf_dir(&self) -> PathBuf {
        self.pick("", "/etc/kubernetes")
    }

    /// `admin` gives `admin.conf`.
    pub fn conf(&self, name: &str) -> PathBuf {
        self.conf_dir().join(format!("{name}.conf"))
    }

    /// The store's data.
    pub fn store(&self) -> PathBuf {
        self.pick("store", "/var/lib/etcd")
    }

    /// The kubelet's root directory.
    pub fn kubelet(&self) -> PathBuf {
        self.pick("kubelet", "/var/lib/kubelet")
    }

    /// Logs of pods.
    pub fn pod_logs(&self) -> PathBuf {
        self.pick("log/pods", "/var/log/pods")
    }

    /// Static pods' manifests.
    pub fn manifests(&self) -> PathBuf {
        self.pick("manifests", "/etc/kubernetes/manifests")
    }

    /// Unit files.
    pub fn units(&self) -> PathBuf {
        self.pick("units", "/etc/systemd/system")
    }

    /// Process ids and sockets.
    pub fn run(&self) -> PathBuf {
        self.pick("run", "/run/keelson")
    }

    /// Logs of components where no journal takes them.
    pub fn log(&self) -> PathBuf {
        self.pick("log", "/var/log/keelson")
    }

    /// CNI configuration.
    pub fn cni_conf(&self) -> PathBuf {
        self.pick("cni/net.d", "/etc/cni/net.d")
    }

    /// The runtime's socket when none was named.
    pub fn runtime_socket(&self) -> PathBuf {
        self.pick(
            "run/containerd/containerd.sock",
            "/run/containerd/containerd.sock",
        )
    }

    /// The private containerd's directory (local form only).
    pub fn containerd(&self) -> PathBuf {
        self.pick("containerd", "/var/lib/containerd")
    }
}

/// The directory of the components' binaries: where kubeadm itself lies.
pub fn bin_dir() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own
        .parent()
        .map_or_else(|| PathBuf::from("/usr/bin"), Path::to_path_buf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_their_places() {
        assert_eq!(
            Layout::default().conf("admin"),
            Path::new("/etc/kubernetes/admin.conf")
        );
        let local = Layout::new(Some("/x".into()), None);
        assert_eq!(local.conf("admin"), Path::new("/x/admin.conf"));
        assert_eq!(local.pki_file("ca.crt"), Path::new("/x/pki/ca.crt"));
    }
}
