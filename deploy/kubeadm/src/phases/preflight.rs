//! What must hold before anything is written; every failure at once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::{Init, say};
use crate::layout::Layout;

/// Runs the checks; those named in `--ignore-preflight-errors` (or `all`) only warn.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    say("preflight", "Running pre-flight checks");
    let mut errors = common(&init.settings.layout, &init.settings.cri_socket);
    for port in [init.settings.bind_port, 10250, 10257, 10259, 2379, 2380] {
        errors.extend(port_free(port));
    }
    let store = init.settings.layout.store();
    if !init.settings.layout.is_local() && std::fs::read_dir(&store).is_ok_and(|mut dir| dir.next().is_some())
    {
        let why = format!("{} is not empty", store.display());
        errors.push(Failure::new(path_name("DirAvailable", &store), why));
    }
    report(errors, &init.ignore_preflight_errors)
}

/// A check that failed.
pub struct Failure {
    name: String,
    why: String,
}

impl Failure {
    /// `name` as `--ignore-preflight-errors` takes it.
    pub fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            why: why.into(),
        }
    }
}

/// `FileAvailable` and `/etc/kubernetes/kubelet.conf` give `FileAvailable--etc-kubernetes-kubelet.conf`.
fn path_name(check: &str, path: &Path) -> String {
    format!("{check}-{}", path.display().to_string().replace('/', "-"))
}

/// A file that must not be there.
pub fn file_available(path: &Path) -> Option<Failure> {
    let why = || format!("{} already exists", path.display());
    path.exists()
        .then(|| Failure::new(path_name("FileAvailable", path), why()))
}

/// The checks of every machine.
pub fn common(layout: &Layout, cri_socket: &str) -> Vec<Failure> {
    let mut errors = Vec::new();
    if !nix_is_root() {
        errors.push(Failure::new("IsPrivilegedUser", "user is not running as root"));
    }
    for program in ["nft", "ip", "mount", "conntrack"] {
        if !in_path(program) {
            let name = format!("FileExisting-{program}");
            errors.push(Failure::new(
                name,
                format!("{program} not found in system path: install it with apt"),
            ));
        }
    }
    let socket = cri_socket.trim_start_matches("unix://");
    if !layout.is_local()
        && let Err(error) = std::os::unix::net::UnixStream::connect(socket)
    {
        let why = format!(
            "could not connect to the container runtime: {cri_socket}: {error}: is containerd running?"
        );
        errors.push(Failure::new("CRI", why));
    }
    if std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.trim() == "0") {
        let why =
            "/proc/sys/net/ipv4/ip_forward contents are not set to 1: run 'sysctl -w net.ipv4.ip_forward=1'";
        errors.push(Failure::new("FileContent--proc-sys-net-ipv4-ip_forward", why));
    }
    errors
}

/// The effective user is root.
fn nix_is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| Path::new(dir).join(program).exists())
}

/// A port that something already listens on.
pub fn port_free(port: u16) -> Option<Failure> {
    let address: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
    TcpListener::bind(address)
        .err()
        .map(|_| Failure::new(format!("Port-{port}"), format!("Port {port} is in use")))
}

/// Checks that failed and were not ignored; the command ends with upstream's exit code for it.
#[derive(Debug)]
pub struct Refused(String);

impl Refused {
    /// Upstream's exit code.
    pub const EXIT_CODE: u8 = 2;
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Ends with all errors that are not ignored.
pub fn report(errors: Vec<Failure>, ignored: &[String]) -> anyhow::Result<()> {
    let is_ignored = |name: &str| {
        ignored
            .iter()
            .any(|one| one.eq_ignore_ascii_case(name) || one.eq_ignore_ascii_case("all"))
    };
    let (warnings, fatal): (Vec<_>, Vec<_>) = errors.into_iter().partition(|error| is_ignored(&error.name));
    for warning in warnings {
        eprintln!("\t[WARNING {}]: {}", warning.name, warning.why);
    }
    if fatal.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = fatal
        .iter()
        .map(|error| format!("\t[ERROR {}]: {}", error.name, error.why))
        .collect();
    Err(Refused(format!(
        "[preflight] Some fatal errors occurred:\n{}\n[preflight] If you know what you are doing, you can make a check \
         non-fatal with `--ignore-preflight-errors=...`",
        lines.join("\n")
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_failures_only_warn() {
        let failures = || {
            vec![
                Failure::new("Port-6443", "Port 6443 is in use"),
                Failure::new("CRI", "no runtime"),
            ]
        };
        assert!(report(failures(), &["all".to_owned()]).is_ok());
        let text = report(failures(), &["cri".to_owned()]).unwrap_err().to_string();
        assert!(
            text.contains("[ERROR Port-6443]: Port 6443 is in use") && !text.contains("CRI"),
            "{text}"
        );
    }
}
