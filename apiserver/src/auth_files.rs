//! Follows the files authentication rests on: CA bundles and the keys that verify tokens.
//!
//! As lib/base does for the server's own certificate, the files are looked at while requests are authenticated, at most every
//! `LOOK_INTERVAL`: no timer, no signal, no restart. A content that cannot be used leaves the old in place.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use keelson_auth::build::{Auth, BuildError};
use parking_lot::Mutex;

use crate::options::Options;

/// How old a look at the files may be.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Takes the new contents of some files.
type Reload = fn(&Auth, &[Vec<u8>]) -> Result<(), BuildError>;

/// The followed files, in groups that are taken together.
#[derive(Debug)]
pub struct AuthFiles {
    /// Guards when the files were last looked at and what was seen then.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    looked: Instant,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    files: Vec<PathBuf>,
    stamps: Vec<Option<SystemTime>>,
    reload: Reload,
}

fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    let stamp = |file: &PathBuf| std::fs::metadata(file).and_then(|file| file.modified()).ok();
    files.iter().map(stamp).collect()
}

fn first(contents: &[Vec<u8>]) -> &[u8] {
    contents.first().map_or(&[], Vec::as_slice)
}

impl AuthFiles {
    /// Remembers the files as they are; to be called before they are read for the first time.
    pub fn new(options: &Options) -> Self {
        let authn = &options.authn;
        let one = |file: &Option<PathBuf>| file.iter().cloned().collect::<Vec<_>>();
        let groups: [(Vec<PathBuf>, Reload); 3] = [
            (one(&authn.client_ca_file), |auth, contents| {
                auth.reload_client_ca(first(contents))
            }),
            (one(&authn.requestheader_client_ca_file), |auth, contents| {
                auth.reload_front_proxy_ca(first(contents))
            }),
            (authn.service_account_key_file.clone(), |auth, contents| {
                auth.reload_service_account_keys(contents)
            }),
        ];
        let groups = groups.into_iter().filter(|(files, _)| !files.is_empty());
        Self {
            seen: Mutex::new(Seen {
                looked: Instant::now(),
                groups: groups
                    .map(|(files, reload)| Group {
                        stamps: stamps(&files),
                        files,
                        reload,
                    })
                    .collect(),
            }),
        }
    }

    /// Looks at the files if that is due, and has `auth` take what changed. Others do not wait for the one who looks.
    pub fn follow(&self, auth: &Auth) {
        let Some(mut seen) = self.seen.try_lock() else {
            return;
        };
        if seen.looked.elapsed() < LOOK_INTERVAL {
            return;
        }
        seen.looked = Instant::now();
        for group in &mut seen.groups {
            let now = stamps(&group.files);
            if now != group.stamps {
                group.stamps = now;
                take(group, auth);
            }
        }
    }
}

fn take(group: &Group, auth: &Auth) {
    let contents: Result<Vec<_>, _> = group.files.iter().map(std::fs::read).collect();
    let taken = match contents {
        Ok(contents) => (group.reload)(auth, &contents).map_err(|error| keelson_base::error::chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    match taken {
        Ok(()) => tracing::info!(files = ?group.files, "authentication reloaded"),
        Err(error) => {
            tracing::warn!(error, files = ?group.files, "changed on disk but cannot be used; keeping the old content");
        }
    }
}
