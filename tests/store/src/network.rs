//! Hosts as network namespaces on one bridge; packets between them dropped by nftables, links slowed by tc.
//!
//! The bridge's own address is the clients': they reach every host, also one that is cut off from the others, so a stale
//! answer would be seen. Everything made here is named after the process and goes with the value.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use crate::programs::run;

/// Networks of this process so far: each has its own subnet.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A bridge and hosts on it.
pub struct Network {
    bridge: String,
    hosts: Vec<String>,
    subnet: String,
}

impl Network {
    /// Makes a bridge with so many hosts.
    pub fn new(hosts: usize) -> anyhow::Result<Self> {
        let process = std::process::id();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let mut network = Self {
            bridge: format!("ks{process}b{number}"),
            hosts: Vec::new(),
            // Each test process has a subnet of its own in 10.128.0.0/9.
            subnet: format!("10.{}.{}", 128 + (process / 200) % 100, (process % 200) + number),
        };
        ip(&["link", "add", &network.bridge, "type", "bridge"])?;
        let address = format!("{}.254/24", network.subnet);
        ip(&["addr", "add", &address, "dev", &network.bridge])?;
        ip(&["link", "set", &network.bridge, "up"])?;
        for place in 0..hosts {
            let host = format!("ks{process}h{number}x{place}");
            let outside = format!("v{process}x{number}x{place}");
            ip(&["netns", "add", &host])?;
            network.hosts.push(host.clone());
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &host,
            ])?;
            ip(&["link", "set", &outside, "master", &network.bridge, "up"])?;
            let address = format!("{}/24", network.address(place));
            ip(&["-n", &host, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            network.nft(place, "add table inet faults")?;
            network.nft(
                place,
                "add chain inet faults input { type filter hook input priority 0; }",
            )?;
        }
        Ok(network)
    }

    /// A host's address.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{}", self.subnet, host + 1)
    }

    /// A command that runs `program` on a host.
    pub fn command(&self, host: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts[host]]).arg(program);
        command
    }

    /// `to` hears nothing from `from` any more; one direction only.
    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        let source = self.address(from);
        self.nft(to, &format!("add rule inet faults input ip saddr {source} drop"))
    }

    /// Nobody in `some` and anybody else hear each other.
    pub fn split(&self, some: &[usize]) -> anyhow::Result<()> {
        for host in 0..self.hosts.len() {
            for other in 0..self.hosts.len() {
                if some.contains(&host) != some.contains(&other) {
                    self.cut(host, other)?;
                }
            }
        }
        Ok(())
    }

    /// Every host loses so many percent of what other hosts send it, and sends at most so many kbit/s.
    pub fn worsen(&self, loss_percent: u32, kbit: u32) -> anyhow::Result<()> {
        for host in 0..self.hosts.len() {
            let members = format!("{}.1-{}.{}", self.subnet, self.subnet, self.hosts.len());
            self.nft(
                host,
                &format!(
                    "add rule inet faults input ip saddr {members} numgen random mod 100 < {loss_percent} drop"
                ),
            )?;
            let rate = format!("{kbit}kbit");
            run(Command::new("tc").args(["-n", &self.hosts[host]]).args([
                "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "8kb", "latency",
                "400ms",
            ]))?;
        }
        Ok(())
    }

    /// Takes all faults back.
    pub fn heal(&self) -> anyhow::Result<()> {
        for (place, host) in self.hosts.iter().enumerate() {
            self.nft(place, "flush chain inet faults input")?;
            // There is none when the links were never slowed.
            let _ = Command::new("tc")
                .args(["-n", host, "qdisc", "del", "dev", "eth0", "root"])
                .output();
        }
        Ok(())
    }

    fn nft(&self, host: usize, rule: &str) -> anyhow::Result<()> {
        run(Command::new("ip")
            .args(["netns", "exec", &self.hosts[host], "nft"])
            .arg(rule))
        .map(drop)
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("ip").args(arguments))
        .context("networks of tests need root")
        .map(drop)
}

impl Drop for Network {
    fn drop(&mut self) {
        // What cannot be removed is named after a process that is gone and disturbs nobody.
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
        let _ = ip(&["link", "del", &self.bridge]);
    }
}
