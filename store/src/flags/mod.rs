//! etcd's flags, their environment variables (`ETCD_*`) and its config file.
//!
//! A config file replaces flags and environment, as in etcd. `table` has the flags of etcd that are not ours.

mod table;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use table::{REFUSED, WITHOUT_MEANING};

/// kube-store: a key-value store with etcd's v3 API.
#[derive(Debug, Parser)]
#[command(
    name = "kube-store",
    version,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub flags: Flags,
}

/// What the binary does besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks a data directory without changing it.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },
    /// Makes a data directory for a new cluster from a snapshot file (ours or etcd's).
    Restore {
        /// The snapshot file.
        file: PathBuf,
        /// Accepts a file without a hash, copied from a data directory of etcd.
        #[arg(long)]
        skip_hash_check: bool,
    },
}

/// A flag that may be given bare or with a value.
type Switch = bool;

/// The flags.
#[derive(Debug, Clone, Args)]
#[command(next_line_help = false)]
pub struct Flags {
    /// Human-readable name of this member.
    #[arg(long, env = "ETCD_NAME", default_value = "default", global = true)]
    pub name: String,
    /// Data directory; NAME.etcd when not given.
    #[arg(long, env = "ETCD_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Directory of the log, if not in the data directory.
    #[arg(long, env = "ETCD_WAL_DIR")]
    pub wal_dir: Option<PathBuf>,
    #[arg(
        long,
        env = "ETCD_LISTEN_CLIENT_URLS",
        default_value = "http://localhost:2379"
    )]
    pub listen_client_urls: String,
    #[arg(
        long,
        env = "ETCD_ADVERTISE_CLIENT_URLS",
        default_value = "http://localhost:2379"
    )]
    pub advertise_client_urls: String,
    #[arg(long, env = "ETCD_LISTEN_PEER_URLS", default_value = "http://localhost:2380")]
    pub listen_peer_urls: String,
    #[arg(
        long,
        env = "ETCD_INITIAL_ADVERTISE_PEER_URLS",
        default_value = "http://localhost:2380",
        global = true
    )]
    pub initial_advertise_peer_urls: String,
    /// NAME=URL pairs; NAME=<initial-advertise-peer-urls> when not given.
    #[arg(long, env = "ETCD_INITIAL_CLUSTER", global = true)]
    pub initial_cluster: Option<String>,
    /// `new`, or `existing` to join as an added member.
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_STATE", default_value = "new")]
    pub initial_cluster_state: String,
    #[arg(
        long,
        env = "ETCD_INITIAL_CLUSTER_TOKEN",
        default_value = "etcd-cluster",
        global = true
    )]
    pub initial_cluster_token: String,
    #[arg(long, env = "ETCD_LISTEN_METRICS_URLS", default_value = "")]
    pub listen_metrics_urls: String,
    /// More addresses for clients; etcd keeps them for HTTP alone.
    #[arg(long, env = "ETCD_LISTEN_CLIENT_HTTP_URLS", default_value = "")]
    pub listen_client_http_urls: String,
    #[arg(long, env = "ETCD_CERT_FILE")]
    pub cert_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    pub client_cert_auth: Switch,
    #[arg(long, env = "ETCD_PEER_CERT_FILE")]
    pub peer_cert_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_KEY_FILE")]
    pub peer_key_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_AUTH", num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    pub peer_client_cert_auth: Switch,
    /// Bytes of live data at which writes are refused; 0 means 2 GiB.
    #[arg(
        long,
        env = "ETCD_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub quota_backend_bytes: i64,
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = crate::limits::TXN_OPS_MAX)]
    pub max_txn_ops: usize,
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = crate::limits::REQUEST_BYTES_MAX)]
    pub max_request_bytes: usize,
    /// `periodic` or `revision`.
    #[arg(long, env = "ETCD_AUTO_COMPACTION_MODE", default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// Hours or a duration (periodic), or a number of revisions; 0 turns it off.
    #[arg(long, env = "ETCD_AUTO_COMPACTION_RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    /// Entries after which a snapshot may be taken.
    #[arg(long, env = "ETCD_SNAPSHOT_COUNT", default_value_t = 10_000)]
    pub snapshot_count: u64,
    /// Milliseconds.
    #[arg(long, env = "ETCD_HEARTBEAT_INTERVAL", default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Milliseconds.
    #[arg(long, env = "ETCD_ELECTION_TIMEOUT", default_value_t = 1000)]
    pub election_timeout: u64,
    #[arg(long, env = "ETCD_PRE_VOTE", num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true)]
    pub pre_vote: Switch,
    #[arg(
        long,
        alias = "experimental-watch-progress-notify-interval",
        env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "10m"
    )]
    pub watch_progress_notify_interval: String,
    #[arg(long, env = "ETCD_BCRYPT_COST", default_value_t = 10)]
    pub bcrypt_cost: u32,
    /// Seconds.
    #[arg(long, env = "ETCD_AUTH_TOKEN_TTL", default_value_t = 300)]
    pub auth_token_ttl: u64,
    #[arg(long, env = "ETCD_LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
    /// A YAML file that replaces all flags.
    #[arg(long, env = "ETCD_CONFIG_FILE")]
    pub config_file: Option<PathBuf>,
    /// Prints the version.
    #[arg(long)]
    pub version: bool,
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    #[error(transparent)]
    Clap(#[from] clap::Error),
    #[error("cannot read the config file {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the config file {} is not valid: {what}", path.display())]
    Yaml { path: PathBuf, what: String },
    #[error("--{name}={value} is not supported: {instead}")]
    Refused {
        name: &'static str,
        value: String,
        instead: &'static str,
    },
}

/// Reads the command line, and the config file if it names one; also gives the flags that were ignored.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<(Cli, Vec<String>), FlagError> {
    let (arguments, mut ignored) = normalize(arguments)?;
    refuse_environment()?;
    let cli = Cli::try_parse_from(arguments)?;
    let Some(path) = cli.flags.config_file.clone() else {
        return Ok((cli, ignored));
    };
    let text = std::fs::read_to_string(&path).map_err(|source| FlagError::File {
        path: path.clone(),
        source,
    })?;
    let (arguments, more) = normalize(from_yaml(&path, &text)?.into_iter())?;
    ignored.extend(more);
    Ok((Cli::try_parse_from(arguments)?, ignored))
}

/// Arguments that clap reads, and names of those left out.
type Normalized = (Vec<String>, Vec<String>);

/// Go's flags may have one dash; those that are not ours are taken out.
fn normalize(arguments: impl Iterator<Item = String>) -> Result<Normalized, FlagError> {
    let (mut kept, mut ignored) = (Vec::new(), Vec::new());
    let mut arguments = arguments.enumerate().peekable();
    while let Some((position, argument)) = arguments.next() {
        let is_flag = argument.starts_with('-') && argument.len() > 1;
        if position == 0 || !is_flag {
            kept.push(argument);
            continue;
        }
        let bare = argument.trim_start_matches('-');
        let (name, value) = bare
            .split_once('=')
            .map_or((bare, None), |(name, value)| (name, Some(value)));
        let refused = REFUSED.iter().find(|flag| flag.name == name);
        if refused.is_none() && !WITHOUT_MEANING.contains(&name) {
            kept.push(if name.len() > 1 {
                format!("--{bare}")
            } else {
                argument
            });
            continue;
        }
        ignored.push(name.to_owned());
        let separate = value.is_none();
        let next = arguments.next_if(|(_, next)| separate && !next.starts_with('-'));
        let value = next.map_or(value.unwrap_or("").to_owned(), |(_, next)| next);
        refuse(name, &value)?;
    }
    Ok((kept, ignored))
}

/// Refuses a value that asks for what is not done.
fn refuse(name: &str, value: &str) -> Result<(), FlagError> {
    match REFUSED.iter().find(|flag| flag.name == name) {
        Some(flag) if !value.is_empty() && !flag.harmless.contains(&value) => Err(FlagError::Refused {
            name: flag.name,
            value: value.to_owned(),
            instead: flag.instead,
        }),
        _ => Ok(()),
    }
}

/// The environment may ask for the same.
fn refuse_environment() -> Result<(), FlagError> {
    REFUSED.iter().try_for_each(|flag| {
        let name = format!("ETCD_{}", flag.name.replace('-', "_").to_uppercase());
        refuse(flag.name, &std::env::var(name).unwrap_or_default())
    })
}

/// etcd's config file as arguments.
fn from_yaml(path: &Path, text: &str) -> Result<Vec<String>, FlagError> {
    let wrong = |what: String| FlagError::Yaml {
        path: path.to_owned(),
        what,
    };
    let value: serde_yaml::Mapping = serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let mut arguments = vec!["kube-store".to_owned()];
    for (key, value) in &value {
        let key = key
            .as_str()
            .ok_or_else(|| wrong("a key is not text".to_owned()))?;
        match (key, value) {
            ("client-transport-security", serde_yaml::Value::Mapping(inner)) => {
                security(inner, "", &mut arguments)
            }
            ("peer-transport-security", serde_yaml::Value::Mapping(inner)) => {
                security(inner, "peer-", &mut arguments)
            }
            (_, value) => arguments.extend(scalar(value).map(|value| format!("--{key}={value}"))),
        }
    }
    Ok(arguments)
}

fn security(fields: &serde_yaml::Mapping, prefix: &str, arguments: &mut Vec<String>) {
    for (key, value) in fields {
        if let (Some(key), Some(value)) = (key.as_str(), scalar(value)) {
            arguments.push(format!("--{prefix}{key}={value}"));
        }
    }
}

fn scalar(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(text) if text.is_empty() => None,
        serde_yaml::Value::String(text) => Some(text.clone()),
        serde_yaml::Value::Number(number) => Some(number.to_string()),
        serde_yaml::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> (Flags, Vec<String>) {
        let arguments = std::iter::once("kube-store").chain(line.split_whitespace());
        let (cli, ignored) = parse(arguments.map(str::to_owned)).unwrap();
        (cli.flags, ignored)
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        let (flags, ignored) = flags(
            "-name a --data-dir=/d --client-cert-auth --peer-client-cert-auth=true --logger zap --max-wals=3 --snapshot-count 5",
        );
        assert_eq!(flags.name, "a");
        assert_eq!(flags.data_dir, Some("/d".into()));
        assert!(flags.client_cert_auth && flags.peer_client_cert_auth && flags.pre_vote);
        assert_eq!(flags.snapshot_count, 5);
        assert_eq!(ignored, ["logger", "max-wals"]);
    }

    #[test]
    fn what_would_be_unsafe_without_is_refused_and_harmless_values_are_not() {
        let parse = |line: &str| {
            let arguments = std::iter::once("kube-store").chain(line.split_whitespace());
            parse(arguments.map(str::to_owned)).map(drop)
        };
        for line in [
            "--peer-cert-allowed-cn=me",
            "--client-crl-file /crl",
            "--auth-token=jwt,pub-key=/k",
            "--tls-min-version TLS1.3",
            "-discovery=http://d",
        ] {
            let refused = parse(line).unwrap_err().to_string();
            assert!(refused.contains("is not supported: "), "{line}: {refused}");
        }
        for line in [
            "--cipher-suites=",
            "--auth-token simple --name a",
            "--tls-min-version=TLS1.2",
            "--host-whitelist=*",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        let file = from_yaml(Path::new("f"), "peer-transport-security:\n  crl-file: /crl\n").unwrap();
        assert!(normalize(file.into_iter()).is_err());
    }

    #[test]
    fn a_config_file_stands_for_flags() {
        let text = "name: b\nquota-backend-bytes: 100\nclient-transport-security:\n  cert-file: /c\n  client-cert-auth: true\npeer-transport-security:\n  trusted-ca-file: /ca\nlogger: zap\n";
        let arguments = from_yaml(Path::new("f"), text).unwrap();
        let (cli, ignored) = parse(arguments.into_iter()).unwrap();
        assert_eq!(
            (cli.flags.name.as_str(), cli.flags.quota_backend_bytes),
            ("b", 100)
        );
        assert_eq!(cli.flags.cert_file, Some("/c".into()));
        assert_eq!(cli.flags.peer_trusted_ca_file, Some("/ca".into()));
        assert!(cli.flags.client_cert_auth);
        assert_eq!(ignored, ["logger"]);
    }
}
