//! Certificates and keys that are missing are made; those that exist are used.

use super::{Init, say};
use crate::pki::{CAS, Date, Made, ensure_ca, ensure_leaf, ensure_service_account_key, leaves};

/// Runs the phase.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    let dir = init.settings.layout.pki();
    say(
        "certs",
        format!("Using certificateDir folder {:?}", dir.display().to_string()),
    );
    let today = Date::today();
    for (file, common_name) in CAS {
        tell(file, ensure_ca(&dir, file, common_name, today)?);
    }
    for leaf in leaves(&init.settings)? {
        tell(leaf.file, ensure_leaf(&dir, &leaf, today)?);
    }
    tell("sa", ensure_service_account_key(&dir)?);
    Ok(())
}

fn tell(file: &str, made: Made) {
    match made {
        Made::New => say("certs", format!("Generating {file:?} certificate and key")),
        Made::Existing => say(
            "certs",
            format!("Using existing {file} certificate and key on disk"),
        ),
    }
}
