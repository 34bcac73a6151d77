//! What systemd is told (`Type=notify`). Without a service manager these do nothing.

use sd_notify::NotifyState;

/// The service is up: its listeners are open and it can do its work.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The service is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
