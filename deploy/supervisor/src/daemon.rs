//! The supervisor itself: starts, restarts and stops services.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;

use crate::Start;
use crate::events::{Event, Events};
use crate::unit_file::{Service, ordered, parse};

/// How long `stop` waits for the supervisor, which itself gives each service its `TimeoutStopSec`.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Puts a supervisor in the background, or has a running one take up changed units.
pub fn start(options: &Start) -> anyhow::Result<()> {
    for dir in [&options.run_dir, &options.log_dir] {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    if let Some(pid) = running(&options.run_dir) {
        return kill(pid, Signal::SIGHUP).context("have the running supervisor reload");
    }
    if options.foreground {
        return Supervisor::new(options.clone())?.run();
    }
    let log = append(&options.log_dir.join("supervisor.log"))?;
    let child = Command::new(std::env::current_exe().context("find our own binary")?)
        .arg("start")
        .arg("--foreground")
        .arg("--units")
        .arg(&options.units)
        .arg("--run-dir")
        .arg(&options.run_dir)
        .arg("--log-dir")
        .arg(&options.log_dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log file")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start in the background")?;
    write_pid(&options.run_dir, "supervisor", child.id())
}

/// Ends a supervisor and all its services; fine where none runs.
pub fn stop(run_dir: &Path) -> anyhow::Result<()> {
    let Some(pid) = running(run_dir) else {
        return Ok(());
    };
    kill(pid, Signal::SIGTERM).context("signal the supervisor")?;
    let began = Instant::now();
    while alive(pid) {
        if began.elapsed() > STOP_LIMIT {
            bail!(
                "the supervisor (pid {pid}) still runs after {} s",
                STOP_LIMIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The supervisor of this directory, if it is one: a pid file may be older than a reboot.
fn running(run_dir: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(run_dir.join("supervisor.pid")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    // The background process finds its own number: whoever started it may have written it already.
    if pid.unsigned_abs() == std::process::id() {
        return None;
    }
    let ours = command.contains("keelson-supervisor") && command.contains(&run_dir.display().to_string());
    (ours && alive(Pid::from_raw(pid))).then(|| Pid::from_raw(pid))
}

fn alive(pid: Pid) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
        Err(_) => false,
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

fn write_pid(run_dir: &Path, name: &str, pid: u32) -> anyhow::Result<()> {
    let path = run_dir.join(format!("{name}.pid"));
    std::fs::write(&path, format!("{pid}\n")).with_context(|| format!("write {}", path.display()))
}

struct Supervisor {
    options: Start,
    events: Events,
    socket: PathBuf,
    running: Vec<Running>,
}

struct Running {
    service: Service,
    child: Option<Child>,
    /// When to start it again.
    due: Option<Instant>,
}

impl Supervisor {
    fn new(options: Start) -> anyhow::Result<Self> {
        let socket = options.run_dir.join("notify.sock");
        let events = Events::new(&socket)?;
        write_pid(&options.run_dir, "supervisor", std::process::id())?;
        Ok(Self {
            options,
            events,
            socket,
            running: Vec::new(),
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        self.reload()?;
        loop {
            let soonest = self.running.iter().filter_map(|one| one.due).min();
            let limit = soonest.map(|due| due.saturating_duration_since(Instant::now()));
            match self.events.wait(limit)? {
                Event::Stop => return self.stop_all(),
                Event::Reload => self.reload()?,
                Event::ChildEnded | Event::Nothing => {}
            }
            self.reap();
            self.start_due()?;
        }
    }

    /// Reads the units: new ones start, changed ones restart, vanished ones stop.
    fn reload(&mut self) -> anyhow::Result<()> {
        let services = read_units(&self.options.units)?;
        let mut kept = Vec::new();
        for mut one in std::mem::take(&mut self.running) {
            if services.contains(&one.service) {
                kept.push(one);
            } else {
                end(&mut one, &self.options.run_dir);
            }
        }
        self.running = kept;
        for service in services {
            if !self.running.iter().any(|one| one.service == service) {
                self.running.push(Running {
                    service,
                    child: None,
                    due: Some(Instant::now()),
                });
            }
        }
        self.start_due()
    }

    fn start_due(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for one in &mut self.running {
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            one.due = None;
            match spawn(&one.service, &self.options, &self.socket) {
                Ok(child) => {
                    write_pid(&self.options.run_dir, &one.service.name, child.id())?;
                    one.child = Some(child);
                }
                Err(error) => {
                    eprintln!("{}: {error:#}", one.service.name);
                    one.due = one.service.restart.then(|| now + Duration::from_secs(1));
                }
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        for one in &mut self.running {
            let Some(child) = &mut one.child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                eprintln!("{}: pid {} ended: {status}", one.service.name, child.id());
                one.child = None;
                one.due = one
                    .service
                    .restart
                    .then(|| Instant::now() + one.service.restart_delay);
            }
        }
    }

    fn stop_all(mut self) -> anyhow::Result<()> {
        for one in self.running.iter_mut().rev() {
            end(one, &self.options.run_dir);
        }
        for name in ["supervisor.pid", "notify.sock"] {
            let path = self.options.run_dir.join(name);
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }
}

fn read_units(dir: &Path) -> anyhow::Result<Vec<Service>> {
    let mut services = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("list {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    files.sort();
    for path in files {
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".service"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        services.push(parse(name, &text).map_err(anyhow::Error::msg)?);
    }
    Ok(ordered(services))
}

fn spawn(service: &Service, options: &Start, socket: &Path) -> anyhow::Result<Child> {
    let log = append(&options.log_dir.join(format!("{}.log", service.name)))?;
    let Some((program, arguments)) = service.command.split_first() else {
        bail!("no command")
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("NOTIFY_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log file")?)
        .stderr(log)
        .process_group(0);
    unblock_signals(&mut command);
    command.spawn().with_context(|| format!("start {program}"))
}

/// The supervisor's blocked signals would be inherited, and a service could not be told to stop.
#[expect(
    unsafe_code,
    reason = "pre_exec runs between fork and exec; it only makes an async-signal-safe call"
)]
fn unblock_signals(command: &mut Command) {
    // SAFETY: sigprocmask is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(std::io::Error::from)
        });
    }
}

/// Ends a service for good; its pid file goes last, and says so to those who wait.
fn end(one: &mut Running, run_dir: &Path) {
    one.due = None;
    if let Some(child) = one.child.take() {
        end_process(child, &one.service);
    }
    let pid_file = run_dir.join(format!("{}.pid", one.service.name));
    match std::fs::remove_file(&pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("cannot remove {}: {error}", pid_file.display());
        }
        _ => {}
    }
}

/// SIGTERM, then SIGKILL after the service's own limit.
fn end_process(mut child: Child, service: &Service) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    if let Err(error) = kill(pid, Signal::SIGTERM) {
        eprintln!("{}: cannot signal pid {pid}: {error}", service.name);
    }
    let began = Instant::now();
    while !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
        if began.elapsed() > service.stop_timeout {
            eprintln!("{}: did not stop in time; killing pid {pid}", service.name);
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("{}: cannot kill pid {pid}: {error}", service.name);
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
