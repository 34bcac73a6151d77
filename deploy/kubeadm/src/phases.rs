//! The phases of `kubeadm init`, in order, in one table; each can be run alone (`kubeadm init phase NAME`).

mod addons;
mod certs;
pub mod kubeconfigs;
pub mod preflight;
mod services;
pub mod upload;
mod wait;

use std::future::Future;
use std::pin::Pin;

use anyhow::Context;

use crate::services::ServiceManager;
use crate::settings::Settings;
use crate::token::{Terms, Token};

/// What the phases share.
pub struct Init {
    pub settings: Settings,
    pub manager: ServiceManager,
    pub token: Token,
    pub terms: Terms,
    pub ignore_preflight_errors: Vec<String>,
    pub hide_token: bool,
}

type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One step of `init`.
pub struct Phase {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Init) -> Outcome<'_>,
}

/// Every phase, in order.
pub const PHASES: &[Phase] = &[
    Phase {
        name: "preflight",
        about: "Run pre-flight checks",
        run: |init| Box::pin(preflight::run(init)),
    },
    Phase {
        name: "certs",
        about: "Generate certificates",
        run: |init| Box::pin(certs::run(init)),
    },
    Phase {
        name: "kubeconfig",
        about: "Generate kubeconfig files",
        run: |init| Box::pin(kubeconfigs::run(init)),
    },
    Phase {
        name: "control-plane",
        about: "Write and start the units",
        run: |init| Box::pin(services::run(init)),
    },
    Phase {
        name: "wait-control-plane",
        about: "Wait for the API server",
        run: |init| Box::pin(wait::run(init)),
    },
    Phase {
        name: "upload-config",
        about: "Store the configuration",
        run: |init| Box::pin(upload::config(init)),
    },
    Phase {
        name: "mark-control-plane",
        about: "Label and taint the node",
        run: |init| Box::pin(upload::mark(init)),
    },
    Phase {
        name: "bootstrap-token",
        about: "Let machines join",
        run: |init| Box::pin(upload::bootstrap(init)),
    },
    Phase {
        name: "addon",
        about: "Cluster DNS and node components",
        run: |init| Box::pin(addons::run(init)),
    },
    Phase {
        name: "show-join-command",
        about: "Print how to join",
        run: |init| Box::pin(upload::show_join(init)),
    },
];

/// Runs all phases but the skipped ones.
pub async fn run_all(init: &Init, skip: &[String]) -> anyhow::Result<()> {
    for phase in PHASES
        .iter()
        .filter(|phase| !skip.iter().any(|name| name == phase.name))
    {
        run_one(init, phase).await?;
    }
    Ok(())
}

/// Runs one phase.
pub async fn run_one(init: &Init, phase: &Phase) -> anyhow::Result<()> {
    (phase.run)(init)
        .await
        .with_context(|| format!("error execution phase {}", phase.name))
}

/// Progress as upstream prints it.
pub(crate) fn say(phase: &str, what: impl std::fmt::Display) {
    println!("[{phase}] {what}");
}
