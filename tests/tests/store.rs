//! Runs every transcript of `tests/store` against kube-store and against a real etcd, with the same text.
//!
//! Each run has a server of its own: an empty directory, free ports. The reference and `etcdctl` are those of
//! `tests/reference/fetch.sh etcd`. `KEELSON_BIN` is the directory of kube-store; without it, the build directory
//! this test lies in. What is missing fails: nothing is skipped in silence.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_tests::transcript;
use libtest_mimic::{Arguments, Failed, Trial};

/// How long a server may take to serve.
const START: Duration = Duration::from_secs(30);
/// Pause between two looks at a server that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Seconds an authentication token lives without use.
const TOKEN_TTL: &str = "3";
/// Starts of a server whose port another process took meanwhile.
const STARTS: usize = 3;

#[derive(Clone, Copy)]
enum Server {
    Ours,
    Reference,
}

fn main() {
    let arguments = Arguments::from_args();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("store");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the suite's directory is part of the tree")
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    files.sort();
    let mut trials = Vec::new();
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for (server, title) in [(Server::Ours, "kube-store"), (Server::Reference, "etcd")] {
            let file = file.clone();
            let test = format!("{title}::{name}");
            let work = format!("keelson-{title}-{name}-{}", std::process::id());
            trials.push(Trial::test(test, move || {
                scenario(server, &file, &std::env::temp_dir().join(work))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn scenario(server: Server, file: &Path, dir: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let steps = transcript::parse(&text).with_context(|| format!("parse {}", file.display()))?;
    let reference = reference()?;
    let program = match server {
        Server::Ours => ours()?,
        Server::Reference => reference.join("etcd"),
    };
    let work = dir.join("work");
    std::fs::create_dir_all(&work).context("make a directory for the transcript")?;
    let mut running = start(&program, &reference, dir)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let env: Vec<(String, String)> = [
        ("PATH", format!("{}:{path}", reference.display())),
        ("ETCDCTL_API", "3".to_owned()),
        ("ETCDCTL_ENDPOINTS", running.url.clone()),
        ("HOME", work.display().to_string()),
        ("LC_ALL", "C".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let outcome = transcript::run(&steps, &work, &env);
    running.stop()?;
    outcome.with_context(|| format!("against {}", program.display()))?;
    std::fs::remove_dir_all(dir).context("remove the transcript's directory")
}

/// The directory of the reference's programs.
fn reference() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/fetch.sh");
    let lock = std::env::temp_dir().join("keelson-reference.lock");
    // Tests run side by side: one fetches, the others find it there.
    let output = Command::new("flock")
        .arg(lock)
        .arg(script)
        .arg("etcd")
        .output()
        .context("run tests/reference/fetch.sh")?;
    if !output.status.success() {
        bail!(
            "tests/reference/fetch.sh: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// kube-store, of `KEELSON_BIN` or beside this test.
fn ours() -> anyhow::Result<PathBuf> {
    let dir = match std::env::var_os("KEELSON_BIN") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let this = std::env::current_exe().context("find this test")?;
            let parent = this.parent().and_then(Path::parent);
            parent.context("this test lies in no build directory")?.to_owned()
        }
    };
    let program = dir.join("kube-store");
    if !program.is_file() {
        bail!(
            "{} is missing: cargo build -p kube-store, or set KEELSON_BIN",
            program.display()
        );
    }
    Ok(program)
}

struct Running {
    process: Child,
    url: String,
}

impl Running {
    fn stop(&mut self) -> anyhow::Result<()> {
        self.process.kill().context("stop the server")?;
        self.process.wait().context("wait for the server")?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Stopped already unless a step panicked.
        let _ = self.stop();
    }
}

fn start(program: &Path, reference: &Path, dir: &Path) -> anyhow::Result<Running> {
    let log = dir.join("log");
    for _ in 0..STARTS {
        if let Some(running) = try_start(program, reference, dir, &log)? {
            return Ok(running);
        }
    }
    let log = std::fs::read_to_string(log).unwrap_or_default();
    bail!("{} does not start: {log}", program.display())
}

/// A server that serves; `None` when it ended or does not come to serve.
fn try_start(program: &Path, reference: &Path, dir: &Path, log: &Path) -> anyhow::Result<Option<Running>> {
    // Held together, so that they differ.
    let client = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let peer = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let url = format!("http://{}", client.local_addr()?);
    let peer_url = format!("http://{}", peer.local_addr()?);
    drop((client, peer));
    let output = std::fs::File::create(log).context("make the server's log")?;
    let process = Command::new(program)
        .args(["--name", "default", "--auth-token-ttl", TOKEN_TTL])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("share the server's log")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let mut running = Running { process, url };
    let began = Instant::now();
    while began.elapsed() < START {
        if running
            .process
            .try_wait()
            .context("look at the server")?
            .is_some()
        {
            return Ok(None);
        }
        let healthy = Command::new(reference.join("etcdctl"))
            .args(["endpoint", "health", "--endpoints", &running.url])
            .output()
            .context("run etcdctl")?;
        if healthy.status.success() {
            return Ok(Some(running));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(None)
}
