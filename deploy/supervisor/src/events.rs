//! What the supervisor waits for: signals, readiness messages, or a restart falling due.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals arrive as data, so no handler runs at a bad moment.
pub struct Events {
    signals: SignalFd,
    /// Kept open so that services can say they are ready; what they say is not needed.
    notify: UnixDatagram,
}

/// Why `wait` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    ChildEnded,
    Reload,
    Stop,
    /// A readiness message, or the time was up.
    Nothing,
}

impl Events {
    /// Blocks the signals and opens the readiness socket at `socket`.
    pub fn new(socket: &Path) -> anyhow::Result<Self> {
        let mask: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .into_iter()
            .collect();
        mask.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("create a signal descriptor")?;
        if socket.exists() {
            std::fs::remove_file(socket).with_context(|| format!("remove {}", socket.display()))?;
        }
        let notify = UnixDatagram::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
        notify
            .set_nonblocking(true)
            .context("make the socket non-blocking")?;
        Ok(Self { signals, notify })
    }

    /// Waits for the next event, at most `limit`.
    pub fn wait(&self, limit: Option<Duration>) -> anyhow::Result<Event> {
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let fds: [BorrowedFd<'_>; 2] = [self.signals.as_fd(), self.notify.as_fd()];
        let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for signals"),
        }
        let mut message = [0_u8; 1024];
        while self.notify.recv(&mut message).is_ok() {}
        let Some(signal) = self.signals.read_signal().context("read a signal")? else {
            return Ok(Event::Nothing);
        };
        let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
        Ok(match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => Event::ChildEnded,
            Ok(Signal::SIGHUP) => Event::Reload,
            Ok(Signal::SIGTERM | Signal::SIGINT) => Event::Stop,
            _ => Event::Nothing,
        })
    }
}
