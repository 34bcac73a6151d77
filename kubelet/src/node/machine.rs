//! Facts of the machine from /proc, /sys and /etc.

use std::fs;
use std::net::{IpAddr, UdpSocket};

/// What does not change while the machine is up.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: usize,
    pub memory_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    pub architecture: &'static str,
    pub swap_bytes: i64,
    /// The kubelet's own oom_score_adj.
    pub oom_score_adj: i64,
}

/// Reads everything once.
pub fn read() -> Machine {
    let text = |path: &str| {
        fs::read_to_string(path)
            .map(|t| t.trim().to_owned())
            .unwrap_or_default()
    };
    Machine {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: meminfo("MemTotal"),
        swap_bytes: meminfo("SwapTotal"),
        machine_id: text("/etc/machine-id"),
        system_uuid: Some(text("/sys/class/dmi/id/product_uuid"))
            .filter(|t| !t.is_empty())
            .unwrap_or_else(|| text("/etc/machine-id")),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        kernel: text("/proc/sys/kernel/osrelease"),
        os_image: os_image(&text("/etc/os-release")),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        oom_score_adj: text("/proc/self/oom_score_adj").parse().unwrap_or(0),
    }
}

/// Bytes of a field of /proc/meminfo.
pub fn meminfo(field: &str) -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn os_image(release: &str) -> String {
    release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".into(), |v| v.trim_matches('"').to_owned())
}

/// The machine's host name, lower case, as upstream names nodes.
pub fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

/// The address of the interface the default route goes through.
pub fn default_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing: it only makes the kernel choose a source address.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket
        .connect("192.0.2.1:9")
        .or_else(|_| socket.connect("10.255.255.255:9"))
        .ok()?;
    socket
        .local_addr()
        .ok()
        .map(|a| a.ip())
        .filter(|ip| !ip.is_unspecified())
}

/// Bytes and inodes of the file system that holds `path`: total and available.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsFigures {
    pub bytes: u64,
    pub bytes_available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

pub fn filesystem(path: &std::path::Path) -> FsFigures {
    match nix::sys::statvfs::statvfs(path) {
        Ok(s) => FsFigures {
            bytes: s.blocks() * s.fragment_size(),
            bytes_available: s.blocks_available() * s.fragment_size(),
            inodes: s.files(),
            inodes_free: s.files_free(),
        },
        Err(_) => FsFigures::default(),
    }
}

/// Threads that exist and the most the kernel allows.
pub fn threads() -> (i64, i64) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let running = read("/proc/loadavg")
        .split_whitespace()
        .nth(3)
        .and_then(|f| f.split('/').nth(1)?.parse().ok())
        .unwrap_or(0);
    let limit = |path: &str| read(path).trim().parse::<i64>().unwrap_or(i64::MAX);
    (
        running,
        limit("/proc/sys/kernel/pid_max").min(limit("/proc/sys/kernel/threads-max")),
    )
}
