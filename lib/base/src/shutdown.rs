//! One signal that a process shall end, waited for in many places.

use tokio::sync::watch;

/// A latch: set once, never reset. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: std::sync::Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            sender: std::sync::Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Shutdown {
    /// Ends every present and future `wait`.
    pub fn set(&self) {
        self.sender.send_replace(true);
    }

    pub fn is_set(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once `set` was called; at once if it was before.
    pub async fn wait(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives in self, so the channel cannot close while this waits.
        let _ = receiver.wait_for(|set| *set).await;
    }

    /// Sets the latch at SIGTERM or SIGINT; a second signal ends the process at once with 130.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let latch = self.clone();
        tokio::spawn(async move {
            for round in 0.. {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                if round > 0 {
                    std::process::exit(130);
                }
                latch.set();
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_before_and_after_setting_both_return() {
        let latch = Shutdown::default();
        let waiting = tokio::spawn({
            let latch = latch.clone();
            async move { latch.wait().await }
        });
        assert!(!latch.is_set());
        latch.set();
        waiting.await.unwrap();
        latch.wait().await;
    }
}
