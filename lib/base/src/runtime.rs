//! How every binary starts and ends.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use crate::{Shutdown, footprint};

/// Worker threads of a component that mostly waits (scheduler, controllers, node agents).
pub const WORKERS_FEW: usize = 1;

/// How long work on blocking threads (file removal, name lookups) may go on once the component has returned. What must
/// be complete the component awaits itself; the rest survives being cut off, as it survives `kill -9`.
const BLOCKING_GRACE: Duration = Duration::from_millis(100);

/// Runs a component until it returns: 0 after a clean end, 1 with the error's chain logged otherwise.
///
/// `workers` threads run tasks beside the main one; idle threads cost memory, so components that mostly wait
/// take `WORKERS_FEW`. SIGTERM and SIGINT set the `Shutdown` given to `run`.
pub fn main<F, Fut>(component: &'static str, workers: usize, run: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    if workers <= WORKERS_FEW {
        footprint::share_heaps();
    }
    refuse_huge_pages();
    crate::tls::install_provider();
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_name(component)
        .enable_all()
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(component, %error, "cannot start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::default();
        shutdown.on_signals()?;
        tokio::spawn(footprint::keep_small());
        let outcome = run(shutdown).await;
        crate::notify::stopping();
        outcome
    });
    runtime.shutdown_timeout(BLOCKING_GRACE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(component, "{}", crate::error::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Has the kernel give this process memory in small pages only: the allocator asks for pages of 2 MiB, which count as
/// resident whole as soon as one byte in them is used.
#[expect(unsafe_code, reason = "prctl has no safe form in std")]
fn refuse_huge_pages() {
    // SAFETY: this option takes plain numbers and touches no memory of ours.
    let outcome = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if outcome != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "huge pages stay on: more memory is resident");
    }
}
