//! Members as processes, each with its directory, its log file and its addresses.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::certificates::Certificates;
use crate::network::Network;

/// Ports of members on loopback: the first, and how many.
const PORTS: (u16, u32) = (10_000, 22_000);
/// Ports between those of one process and those of the next.
const PORTS_PER_PROCESS: u32 = 101;
/// Ports this process has tried.
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);
/// How long a member may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);
/// Pause between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a cluster is made of.
pub struct Plan<'a> {
    pub program: PathBuf,
    pub members: usize,
    /// Everything of the cluster is below.
    pub dir: &'a Path,
    /// Without one, members are on loopback.
    pub network: Option<Network>,
    pub tls: Option<Certificates>,
    /// More flags for every member.
    pub flags: Vec<String>,
}

/// One member.
pub struct Member {
    pub name: String,
    pub client_url: String,
    pub peer_url: String,
    pub data: PathBuf,
    pub log: PathBuf,
    process: Option<Child>,
}

/// The members of one cluster.
pub struct Cluster {
    pub members: Vec<Member>,
    pub network: Option<Network>,
    pub tls: Option<Certificates>,
    program: PathBuf,
    flags: Vec<String>,
}

impl Cluster {
    /// Plans addresses and directories; nothing runs yet.
    pub fn new(plan: Plan<'_>) -> anyhow::Result<Self> {
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let mut members = Vec::new();
        for place in 0..plan.members {
            let (client, peer) = match &plan.network {
                Some(network) => {
                    let address = network.address(place);
                    (format!("{address}:2379"), format!("{address}:2380"))
                }
                None => {
                    let [client, peer] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
                    (client, peer)
                }
            };
            let name = format!("m{place}");
            members.push(Member {
                client_url: format!("{scheme}://{client}"),
                peer_url: format!("{scheme}://{peer}"),
                data: plan.dir.join(&name),
                log: plan.dir.join(format!("{name}.log")),
                name,
                process: None,
            });
        }
        Ok(Self {
            members,
            network: plan.network,
            tls: plan.tls,
            program: plan.program,
            flags: plan.flags,
        })
    }

    /// The members as `--initial-cluster` names them.
    pub fn initial_cluster(&self) -> String {
        let pairs: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect();
        pairs.join(",")
    }

    /// Client addresses of all members.
    pub fn client_urls(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client_url.clone())
            .collect()
    }

    /// A command that would start a member.
    pub fn command(&self, place: usize) -> Command {
        let member = &self.members[place];
        let mut command = match &self.network {
            Some(network) => network.command(place, &self.program),
            None => Command::new(&self.program),
        };
        command
            .args([
                "--name",
                &member.name,
                "--initial-cluster",
                &self.initial_cluster(),
            ])
            .arg("--data-dir")
            .arg(&member.data)
            .args(["--listen-client-urls", &member.client_url])
            .args(["--advertise-client-urls", &member.client_url])
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(&self.flags);
        if let Some(tls) = &self.tls {
            for prefix in ["", "peer-"] {
                command
                    .arg(format!("--{prefix}cert-file={}", tls.server_cert.display()))
                    .arg(format!("--{prefix}key-file={}", tls.server_key.display()))
                    .arg(format!("--{prefix}trusted-ca-file={}", tls.ca.display()))
                    .arg(format!("--{prefix}client-cert-auth=true"));
            }
        }
        command
    }

    /// Starts a member with more flags; it need not serve when this returns.
    pub fn start_with(&mut self, place: usize, flags: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command(place);
        let member = &mut self.members[place];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&member.log)
            .context("open a member's log")?;
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        member.process = Some(command.spawn().with_context(|| format!("start {command:?}"))?);
        Ok(())
    }

    /// Starts a member.
    pub fn start(&mut self, place: usize) -> anyhow::Result<()> {
        self.start_with(place, &[])
    }

    /// Starts all members.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        (0..self.members.len()).try_for_each(|place| self.start(place))
    }

    /// Whether the process of a member runs.
    pub fn runs(&mut self, place: usize) -> bool {
        self.members[place].runs()
    }

    /// Sends a signal to a member.
    pub fn signal(&self, place: usize, signal: Signal) -> anyhow::Result<()> {
        self.members[place].signal(signal)
    }

    /// Ends a member with SIGKILL.
    pub fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::SIGKILL)?;
        let process = self.members[place].process.take();
        process.context("the member does not run")?.wait()?;
        Ok(())
    }

    /// Ends a member with SIGTERM and waits for a clean end.
    pub fn stop(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::SIGTERM)?;
        let name = self.members[place].name.clone();
        // etcd ends itself by the signal it was sent.
        let by_signal = self.program.ends_with("etcd").then_some(Signal::SIGTERM as i32);
        match self.members[place].wait(STOP)? {
            Some(status) if status.success() || (by_signal.is_some() && status.signal() == by_signal) => {
                Ok(())
            }
            Some(status) => bail!("{name} ended with {status}: {}", self.members[place].tail()),
            None => bail!("{name} does not end: {}", self.members[place].tail()),
        }
    }

    /// Ends all members that run, one after another, as an operator would.
    pub fn stop_all(&mut self) -> anyhow::Result<()> {
        for place in 0..self.members.len() {
            if self.runs(place) {
                self.stop(place)?;
            }
        }
        Ok(())
    }

    /// The last lines of all members' logs, for a failure's text.
    pub fn tails(&self) -> String {
        let tails: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("--- {}\n{}", member.name, member.tail()))
            .collect();
        tails.join("\n")
    }
}

impl Member {
    fn runs(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the member does not run")?;
        let pid = Pid::from_raw(i32::try_from(process.id())?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// How the member ended; `None` when it runs on after this time.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<Option<std::process::ExitStatus>> {
        let began = Instant::now();
        loop {
            let process = self.process.as_mut().context("the member does not run")?;
            if let Some(status) = process.try_wait()? {
                self.process = None;
                return Ok(Some(status));
            }
            if began.elapsed() > patience {
                return Ok(None);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The member's log so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                // A paused process takes SIGKILL as well.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// A port nobody listens on, outside the range from which the system takes ports of its own.
fn free_port() -> u16 {
    let (first, count) = PORTS;
    loop {
        let next = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id()
            .wrapping_mul(PORTS_PER_PROCESS)
            .wrapping_add(next)
            % count;
        let port = first + u16::try_from(place).expect("the count of ports is one");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits for a condition; what it last said is the error.
pub fn eventually<T>(patience: Duration, mut look: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if began.elapsed() > patience => {
                return Err(error.context(format!("waited {patience:?}")));
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
