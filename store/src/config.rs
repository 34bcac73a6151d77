//! What the flags mean, checked once.

use std::path::PathBuf;
use std::time::Duration;

use keelson_base::tls::{ClientAuth, ServerTls, TlsError, client_config};
use keelson_proto::etcd::etcdserverpb as pb;

use crate::api::Options;
use crate::flags::Flags;
use crate::member::Settings;
use crate::member::genesis::member_id;
use crate::service::cluster::is_url;

/// etcd's quota when none is given.
const QUOTA_BYTES: u64 = 2 << 30;
/// Longest election timeout etcd takes, in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub client_urls: Vec<String>,
    pub peer_urls: Vec<String>,
    pub metrics_urls: Vec<String>,
    pub advertise_client_urls: Vec<String>,
    /// The initial members; this one among them.
    pub members: Vec<pb::Member>,
    pub member_id: u64,
    pub joining: bool,
    pub token: String,
    pub client_tls: Option<ServerTls>,
    pub peer_tls: Option<ServerTls>,
    pub peer_ca: Option<PathBuf>,
    pub election_ms: u64,
    pub heartbeat_ms: u64,
    pub pre_vote: bool,
    pub snapshot_count: u64,
    pub options: Options,
    pub compaction: Compaction,
    pub bcrypt_cost: u32,
}

/// Automatic compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    Off,
    /// Keeps this much history.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(i64),
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--{flag} {value}: {what}")]
    Flag {
        flag: &'static str,
        value: String,
        what: String,
    },
}

fn refuse<T>(flag: &'static str, value: &str, what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Flag {
        flag,
        value: value.to_owned(),
        what: what.into(),
    })
}

impl TryFrom<Flags> for Config {
    type Error = ConfigError;

    #[expect(
        clippy::too_many_lines,
        reason = "one entry per flag, checked in the order of the flags"
    )]
    fn try_from(flags: Flags) -> Result<Self, ConfigError> {
        let (members, member_id) = members(&flags)?;
        let joining = match flags.initial_cluster_state.as_str() {
            "new" => false,
            "existing" => true,
            other => return refuse("initial-cluster-state", other, "give new or existing"),
        };
        if flags.heartbeat_interval == 0 || flags.election_timeout < 5 * flags.heartbeat_interval {
            let what = "must be at least five times --heartbeat-interval, which must be above 0";
            return refuse("election-timeout", &flags.election_timeout.to_string(), what);
        }
        if flags.election_timeout > ELECTION_MS_MAX {
            return refuse(
                "election-timeout",
                &flags.election_timeout.to_string(),
                "is too long",
            );
        }
        let election = Duration::from_millis(flags.election_timeout);
        let options = Options {
            request_bytes_max: flags.max_request_bytes,
            txn_ops_max: flags.max_txn_ops,
            quota_bytes: match flags.quota_backend_bytes {
                0 => QUOTA_BYTES,
                // etcd: negative turns the quota off.
                bytes => u64::try_from(bytes).unwrap_or(0),
            },
            election_timeout: election,
            progress_interval: duration(
                "watch-progress-notify-interval",
                &flags.watch_progress_notify_interval,
            )?,
            client_cert_auth: flags.client_cert_auth,
            token_ttl: Duration::from_secs(flags.auth_token_ttl),
            // etcd: three halves of the election timeout, in whole seconds.
            lease_ttl_s_min: i64::try_from((flags.election_timeout * 3 / 2).div_ceil(1000))
                .unwrap_or(i64::MAX),
        };
        // etcd: an authority for clients' certificates means that they must show one.
        let server = |cert: &Option<PathBuf>, key: &Option<PathBuf>, ca: &Option<PathBuf>| {
            Some(ServerTls {
                cert: cert.clone()?,
                key: key.clone()?,
                client_ca: ca.clone().map(|ca| (ca, ClientAuth::Required)),
            })
        };
        for (flag, wanted, ca, missing) in [
            (
                "client-cert-auth",
                flags.client_cert_auth,
                &flags.trusted_ca_file,
                "--trusted-ca-file",
            ),
            (
                "peer-client-cert-auth",
                flags.peer_client_cert_auth,
                &flags.peer_trusted_ca_file,
                "--peer-trusted-ca-file",
            ),
        ] {
            if wanted && ca.is_none() {
                let what = format!("needs {missing}: without it nobody's certificate would be asked for");
                return refuse(flag, "true", what);
            }
        }
        let client_tls = server(&flags.cert_file, &flags.key_file, &flags.trusted_ca_file);
        let peer_tls = server(
            &flags.peer_cert_file,
            &flags.peer_key_file,
            &flags.peer_trusted_ca_file,
        );
        Ok(Self {
            client_urls: [
                ("listen-client-urls", &flags.listen_client_urls),
                ("listen-client-http-urls", &flags.listen_client_http_urls),
            ]
            .iter()
            .map(|(flag, text)| urls(flag, text, client_tls.is_some()))
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
            peer_urls: urls("listen-peer-urls", &flags.listen_peer_urls, peer_tls.is_some())?,
            metrics_urls: urls(
                "listen-metrics-urls",
                &flags.listen_metrics_urls,
                client_tls.is_some(),
            )?,
            advertise_client_urls: urls("advertise-client-urls", &flags.advertise_client_urls, true)?,
            data_dir: flags
                .data_dir
                .unwrap_or_else(|| format!("{}.etcd", flags.name).into()),
            wal_dir: flags.wal_dir,
            name: flags.name,
            members,
            member_id,
            joining,
            token: flags.initial_cluster_token,
            client_tls,
            peer_tls,
            peer_ca: flags.peer_trusted_ca_file,
            election_ms: flags.election_timeout,
            heartbeat_ms: flags.heartbeat_interval,
            pre_vote: flags.pre_vote,
            snapshot_count: flags.snapshot_count,
            options,
            compaction: compaction(&flags.auto_compaction_mode, &flags.auto_compaction_retention)?,
            bcrypt_cost: flags.bcrypt_cost.clamp(4, 31),
        })
    }
}

impl Config {
    /// The member's settings. One tick is one heartbeat.
    pub fn settings(&self, id: u64, seed: u64) -> Settings {
        Settings {
            id,
            election_ticks: usize::try_from(self.election_ms / self.heartbeat_ms).unwrap_or(10),
            heartbeat_ticks: 1,
            tick_ms: self.heartbeat_ms,
            pre_vote: self.pre_vote,
            seed,
            snapshot_count: self.snapshot_count,
            catch_up_entries: crate::limits::CATCH_UP_ENTRIES,
        }
    }

    /// TLS towards peers.
    pub fn dialer_tls(&self) -> Result<Option<rustls::ClientConfig>, TlsError> {
        let Some(ca) = &self.peer_ca else { return Ok(None) };
        let own = self
            .peer_tls
            .as_ref()
            .map(|tls| (tls.cert.as_path(), tls.key.as_path()));
        client_config(ca, own).map(Some)
    }
}

/// The initial members, and which of them this is.
fn members(flags: &Flags) -> Result<(Vec<pb::Member>, u64), ConfigError> {
    let own = flags.initial_advertise_peer_urls.clone();
    let text = flags.initial_cluster.clone().filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| {
        let pairs: Vec<String> = own
            .split(',')
            .map(|url| format!("{}={url}", flags.name))
            .collect();
        pairs.join(",")
    });
    let mut members: Vec<pb::Member> = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, url)) = pair.split_once('=') else {
            return refuse("initial-cluster", &text, format!("{pair} is not NAME=URL"));
        };
        if !is_url(url) {
            return refuse("initial-cluster", &text, format!("{url} is not a peer URL"));
        }
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_ur_ls.push(url.to_owned()),
            None => members.push(pb::Member {
                name: name.to_owned(),
                peer_ur_ls: vec![url.to_owned()],
                ..Default::default()
            }),
        }
    }
    for member in &mut members {
        member.peer_ur_ls.sort();
        member.id = member_id(&member.peer_ur_ls, &flags.initial_cluster_token, b"");
    }
    let mut advertised: Vec<String> = own.split(',').map(|url| url.trim().to_owned()).collect();
    advertised.sort();
    let Some(me) = members.iter().find(|member| member.name == flags.name) else {
        return refuse(
            "initial-cluster",
            &text,
            format!("has no member named {} (--name)", flags.name),
        );
    };
    if me.peer_ur_ls != advertised {
        let what = format!(
            "names {:?} for this member, --initial-advertise-peer-urls {advertised:?}",
            me.peer_ur_ls
        );
        return refuse("initial-cluster", &text, what);
    }
    let id = me.id;
    // A member publishes its name itself once it has started; until then it is known not to have.
    for member in &mut members {
        member.name.clear();
    }
    Ok((members, id))
}

fn urls(flag: &'static str, text: &str, has_certificate: bool) -> Result<Vec<String>, ConfigError> {
    let mut urls = Vec::new();
    for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        if !is_url(url) {
            return refuse(flag, url, "is not a URL with scheme, host and port");
        }
        if url.starts_with("https") && !has_certificate {
            return refuse(
                flag,
                url,
                "is https but there is no certificate: give the cert-file and key-file flags",
            );
        }
        urls.push(url.to_owned());
    }
    Ok(urls)
}

/// Go's durations: `10m`, `1h30m`, `500ms`, or `0`.
fn duration(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return refuse(flag, text, "is not a duration such as 10m"),
        };
        let Ok(number) = rest[..digits].parse::<f64>() else {
            return refuse(flag, text, "is not a duration such as 10m");
        };
        total += Duration::from_secs_f64(number * seconds);
        rest = &rest[unit..];
    }
    Ok(total)
}

fn compaction(mode: &str, retention: &str) -> Result<Compaction, ConfigError> {
    let number: Option<i64> = retention.parse().ok();
    match (mode, number) {
        (_, Some(0)) | ("" | "periodic" | "revision", None) if retention.is_empty() => Ok(Compaction::Off),
        (_, Some(0)) => Ok(Compaction::Off),
        ("" | "periodic", Some(hours)) => {
            let hours = u64::try_from(hours).unwrap_or(0);
            Ok(Compaction::Periodic(Duration::from_secs(hours * 3600)))
        }
        ("" | "periodic", None) => Ok(Compaction::Periodic(duration(
            "auto-compaction-retention",
            retention,
        )?)),
        ("revision", Some(count)) => Ok(Compaction::Revision(count)),
        ("revision", None) => refuse(
            "auto-compaction-retention",
            retention,
            "is not a number of revisions",
        ),
        _ => refuse("auto-compaction-mode", mode, "give periodic or revision"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<Config, ConfigError> {
        let arguments = std::iter::once("kube-store").chain(line.split_whitespace());
        let (cli, _) = crate::flags::parse(arguments.map(str::to_owned)).unwrap();
        Config::try_from(cli.flags)
    }

    #[test]
    fn members_agree_on_ids_and_a_wrong_list_is_refused() {
        let list = "--initial-cluster a=http://h1:2380,b=http://h2:2380";
        let a = config(&format!(
            "--name a --initial-advertise-peer-urls http://h1:2380 {list}"
        ))
        .unwrap();
        let b = config(&format!(
            "--name b --initial-advertise-peer-urls http://h2:2380 {list}"
        ))
        .unwrap();
        assert_eq!(a.members, b.members);
        assert_ne!(a.member_id, b.member_id);
        assert!(config(&format!("--name c {list}")).is_err());
        assert!(
            config(&format!(
                "--name a --initial-advertise-peer-urls http://h3:2380 {list}"
            ))
            .is_err()
        );
    }

    #[test]
    fn an_authority_for_certificates_means_that_they_are_asked_for() {
        let pair = "--cert-file=/c --key-file=/k --peer-cert-file=/c --peer-key-file=/k";
        let required = |tls: Option<ServerTls>| tls.is_some_and(|tls| tls.client_ca.is_some());
        let with = config(&format!(
            "{pair} --trusted-ca-file=/ca --peer-trusted-ca-file=/ca"
        ))
        .unwrap();
        assert!(required(with.client_tls) && required(with.peer_tls));
        let without = config(pair).unwrap();
        assert!(!required(without.client_tls) && !required(without.peer_tls));
        for flag in ["client-cert-auth", "peer-client-cert-auth"] {
            let refused = config(&format!("{pair} --{flag}")).unwrap_err().to_string();
            assert!(refused.contains("trusted-ca-file"), "{refused}");
        }
    }

    #[test]
    fn durations_and_retentions_are_gos() {
        for (text, expect) in [
            ("10m", 600.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("0", 0.0),
            ("1.5s", 1.5),
        ] {
            assert_eq!(duration("f", text).unwrap().as_secs_f64(), expect, "{text}");
        }
        assert!(duration("f", "5").is_err() && duration("f", "x").is_err());
        assert_eq!(
            compaction("periodic", "2").unwrap(),
            Compaction::Periodic(Duration::from_secs(7200))
        );
        assert_eq!(
            compaction("periodic", "5m").unwrap(),
            Compaction::Periodic(Duration::from_secs(300))
        );
        assert_eq!(compaction("revision", "100").unwrap(), Compaction::Revision(100));
        assert_eq!(compaction("revision", "0").unwrap(), Compaction::Off);
        assert!(compaction("hourly", "1").is_err());
    }
}
