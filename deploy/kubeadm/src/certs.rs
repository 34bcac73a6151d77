//! `kubeadm certs`: when certificates expire, and new ones signed by the same CAs.
//!
//! A renewed certificate says what the old one said (names, usages); only key and dates are new, so no flag of `init`
//! has to be remembered. The kubelet's is not here: the kubelet renews it by itself.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::layout::Layout;
use crate::pki::{CAS, Date, Leaf, Subject, issue, write_public, write_secret};
use crate::token::table;
use crate::yaml;

/// A certificate as the commands know it.
struct Entry {
    name: &'static str,
    /// As `renew` speaks of it.
    title: &'static str,
    /// Below the certificates' directory without ending; none for one inside the kubeconfig `name`.
    file: Option<&'static str>,
    /// The CA's file.
    ca: &'static str,
}

const fn leaf(name: &'static str, file: &'static str, ca: &'static str, title: &'static str) -> Entry {
    Entry {
        name,
        title,
        file: Some(file),
        ca,
    }
}

const fn embedded(name: &'static str, title: &'static str) -> Entry {
    Entry {
        name,
        title,
        file: None,
        ca: "ca",
    }
}

/// Every certificate of a control plane that this command renews, by name.
const ENTRIES: &[Entry] = &[
    embedded(
        "admin.conf",
        "certificate embedded in the kubeconfig file for the admin to use and for kubeadm itself",
    ),
    leaf(
        "apiserver",
        "apiserver",
        "ca",
        "certificate for serving the Kubernetes API",
    ),
    leaf(
        "apiserver-etcd-client",
        "apiserver-etcd-client",
        "etcd/ca",
        "certificate the apiserver uses to access etcd",
    ),
    leaf(
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        "ca",
        "certificate for the API server to connect to kubelet",
    ),
    embedded(
        "cluster-dns.conf",
        "certificate embedded in the kubeconfig file for the cluster DNS to use",
    ),
    embedded(
        "controller-manager.conf",
        "certificate embedded in the kubeconfig file for the controller manager to use",
    ),
    leaf(
        "etcd-healthcheck-client",
        "etcd/healthcheck-client",
        "etcd/ca",
        "certificate for liveness probes to healthcheck etcd",
    ),
    leaf(
        "etcd-peer",
        "etcd/peer",
        "etcd/ca",
        "certificate for etcd nodes to communicate with each other",
    ),
    leaf(
        "etcd-server",
        "etcd/server",
        "etcd/ca",
        "certificate for serving etcd",
    ),
    leaf(
        "front-proxy-client",
        "front-proxy-client",
        "front-proxy-ca",
        "certificate for the front proxy client",
    ),
    embedded(
        "kube-proxy.conf",
        "certificate embedded in the kubeconfig file for kube-proxy to use",
    ),
    embedded(
        "network.conf",
        "certificate embedded in the kubeconfig file for the pod network to use",
    ),
    embedded(
        "scheduler.conf",
        "certificate embedded in the kubeconfig file for the scheduler manager to use",
    ),
    embedded(
        "super-admin.conf",
        "certificate embedded in the kubeconfig file for the super-admin",
    ),
];

/// A CA's name: its file with dashes, `etcd-ca`.
fn ca_name(file: &str) -> String {
    file.replace('/', "-")
}

/// The two tables that `check-expiration` prints.
pub fn render_expiration(layout: &Layout, now: Timestamp) -> anyhow::Result<String> {
    let mut rows = vec![
        [
            "CERTIFICATE",
            "EXPIRES",
            "RESIDUAL TIME",
            "CERTIFICATE AUTHORITY",
            "EXTERNALLY MANAGED",
        ]
        .map(str::to_owned),
    ];
    for entry in ENTRIES {
        let external = external(layout, entry.ca);
        rows.push(match present(layout, entry)? {
            Some(pem) => {
                let [ends, left] = end(&pem, now).with_context(|| format!("certificate {}", entry.name))?;
                [entry.name.to_owned(), ends, left, ca_name(entry.ca), external]
            }
            None => [
                format!("!MISSING! {}", entry.name),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ],
        });
    }
    let mut text = table(&rows);
    let mut rows = vec![
        [
            "CERTIFICATE AUTHORITY",
            "EXPIRES",
            "RESIDUAL TIME",
            "EXTERNALLY MANAGED",
        ]
        .map(str::to_owned),
    ];
    let mut cas = CAS;
    cas.sort_by_key(|(file, _)| ca_name(file));
    for (file, _) in cas {
        let name = ca_name(file);
        let path = layout.pki_file(&format!("{file}.crt"));
        rows.push(if path.exists() {
            let [ends, left] = end(&read(&path)?, now).with_context(|| format!("certificate {name}"))?;
            [name, ends, left, external(layout, file)]
        } else {
            [
                format!("!MISSING! {name}"),
                String::new(),
                String::new(),
                String::new(),
            ]
        });
    }
    text.push('\n');
    text.push_str(&table(&rows));
    Ok(text)
}

/// A CA whose key is not here signs elsewhere.
fn external(layout: &Layout, ca: &str) -> String {
    let here = layout.pki_file(&format!("{ca}.key")).exists();
    if here { "no" } else { "yes" }.to_owned()
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The certificate's PEM, where there is one.
fn present(layout: &Layout, entry: &Entry) -> anyhow::Result<Option<String>> {
    let path = match entry.file {
        Some(file) => layout.pki_file(&format!("{file}.crt")),
        None => layout.conf_dir().join(entry.name),
    };
    if !path.exists() {
        return Ok(None);
    }
    let text = read(&path)?;
    if entry.file.is_some() {
        return Ok(Some(text));
    }
    let config: Value = serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let data = config["users"][0]["user"]["client-certificate-data"].as_str();
    let data = data.with_context(|| format!("{} holds no client certificate", path.display()))?;
    let bytes = STANDARD.decode(data).context("decode the certificate")?;
    String::from_utf8(bytes)
        .context("the certificate is not PEM")
        .map(Some)
}

/// When it ends, and how long that is from now.
fn end(pem: &str, now: Timestamp) -> anyhow::Result<[String; 2]> {
    let der = pem::parse(pem).context("not PEM")?;
    let (_, cert) = X509Certificate::from_der(der.contents()).context("not a certificate")?;
    let ends = Timestamp::from_second(cert.validity().not_after.timestamp()).context("its end's time")?;
    Ok([
        ends.strftime("%b %d, %Y %H:%M UTC").to_string(),
        short_duration(ends.duration_since(now)),
    ])
}

/// One unit, rounded down, as kubectl's ages: `364d`, `9y`; `<invalid>` once it is over.
pub fn short_duration(left: SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match left.as_secs() {
        seconds if seconds < -1 => "<invalid>".to_owned(),
        seconds if seconds < 0 => "0s".to_owned(),
        seconds if seconds < MINUTE => format!("{seconds}s"),
        seconds if seconds < HOUR => format!("{}m", seconds / MINUTE),
        seconds if seconds < DAY => format!("{}h", seconds / HOUR),
        seconds if seconds < 365 * DAY => format!("{}d", seconds / DAY),
        seconds => format!("{}y", seconds / DAY / 365),
    }
}

/// Signs one certificate, or `all`, anew.
pub fn renew(layout: &Layout, name: &str) -> anyhow::Result<()> {
    if CAS.iter().any(|(file, _)| ca_name(file) == name) {
        bail!(
            "{name} is a CA: a new CA needs every certificate and kubeconfig replaced, which renew does not do"
        );
    }
    let mut found = false;
    for entry in ENTRIES.iter().filter(|entry| name == "all" || name == entry.name) {
        found = true;
        match present(layout, entry)? {
            Some(pem) => {
                renew_one(layout, entry, &pem).with_context(|| format!("renew {}", entry.name))?;
                println!("{} renewed", entry.title);
            }
            None if name == "all" => println!("MISSING! {}", entry.title),
            None => bail!("{} does not exist", entry.name),
        }
    }
    if !found {
        bail!("no certificate named {name:?}: see 'kubeadm certs check-expiration'");
    }
    println!(
        "\nDone renewing certificates. You must restart the kube-apiserver, kube-controller-manager, kube-scheduler \
         and etcd, so that they can use the new certificates."
    );
    Ok(())
}

fn renew_one(layout: &Layout, entry: &Entry, old: &str) -> anyhow::Result<()> {
    let pki = layout.pki();
    if external(layout, entry.ca) == "yes" {
        bail!(
            "the key of its CA, {}.key, is not here: it is managed externally",
            entry.ca
        );
    }
    let issued = issue(&pki, &same_again(entry, old)?, Date::today())?;
    if let Some(file) = entry.file {
        write_secret(&pki.join(format!("{file}.key")), &issued.key)?;
        return write_public(&pki.join(format!("{file}.crt")), &issued.cert);
    }
    let path = layout.conf_dir().join(entry.name);
    let mut config: Value = serde_yaml::from_str(&read(&path)?).context("parse the kubeconfig")?;
    let user = &mut config["users"][0]["user"];
    user["client-certificate-data"] = STANDARD.encode(&issued.cert).into();
    user["client-key-data"] = STANDARD.encode(&issued.key).into();
    write_secret(&path, &yaml::render(&config))
}

/// What to sign so that it says what `old` said.
fn same_again(entry: &Entry, old: &str) -> anyhow::Result<Leaf> {
    let der = pem::parse(old).context("not PEM")?;
    let (_, cert) = X509Certificate::from_der(der.contents()).context("not a certificate")?;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned);
    let mut names = cert.subject().iter_common_name();
    let common_name = names.next().context("it names nobody")?;
    let organizations: Result<Vec<String>, _> = cert.subject().iter_organization().map(text).collect();
    let usage = cert.extended_key_usage().context("its usages")?;
    let alternative = cert.subject_alternative_name().context("its names")?;
    let sans = alternative
        .iter()
        .flat_map(|names| &names.value.general_names)
        .map(san);
    Ok(Leaf {
        file: entry.file.unwrap_or(entry.name),
        ca: entry.ca,
        subject: Subject {
            common_name: text(common_name).context("its common name")?,
            organizations: organizations.context("its organizations")?,
        },
        server: usage.as_ref().is_some_and(|usage| usage.value.server_auth),
        client: usage.as_ref().is_some_and(|usage| usage.value.client_auth),
        sans: sans.collect::<anyhow::Result<_>>()?,
    })
}

fn san(name: &GeneralName<'_>) -> anyhow::Result<String> {
    match name {
        GeneralName::DNSName(name) => Ok((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                return Ok(std::net::Ipv4Addr::from(four).to_string());
            }
            let sixteen = <[u8; 16]>::try_from(*bytes)
                .ok()
                .context("an address of neither 4 nor 16 bytes")?;
            Ok(std::net::Ipv6Addr::from(sixteen).to_string())
        }
        other => bail!("it has a name of a kind that is not renewed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig::identities;
    use crate::phases::kubeconfigs;
    use crate::pki::{ensure_ca, ensure_leaf, leaves};
    use crate::settings::tests::sample;

    /// A node's certificates and kubeconfigs as `init` makes them.
    fn made(dir: &Path) -> Layout {
        let mut settings = sample();
        settings.layout = Layout::new(Some(dir.to_owned()), None);
        settings.cert_extra_sans = vec!["api.example".into(), "2001:db8::7".into()];
        let pki = settings.layout.pki();
        for (file, name) in CAS {
            ensure_ca(&pki, file, name, Date::today()).unwrap();
        }
        for leaf in leaves(&settings).unwrap() {
            ensure_leaf(&pki, &leaf, Date::today()).unwrap();
        }
        for identity in identities(&settings) {
            kubeconfigs::write(&settings, identity.file).unwrap();
        }
        settings.layout
    }

    #[test]
    fn a_renewed_certificate_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let layout = made(dir.path());
        for entry in ENTRIES {
            let old = present(&layout, entry).unwrap().unwrap();
            renew(&layout, entry.name).unwrap();
            let new = present(&layout, entry).unwrap().unwrap();
            assert_ne!(old, new, "{}", entry.name);
            let (was, is) = (same_again(entry, &old).unwrap(), same_again(entry, &new).unwrap());
            assert_eq!(
                (was.subject, was.sans, was.server, was.client),
                (is.subject, is.sans, is.server, is.client)
            );
        }
        let serving = ENTRIES.iter().find(|entry| entry.name == "apiserver").unwrap();
        let sans = same_again(serving, &present(&layout, serving).unwrap().unwrap())
            .unwrap()
            .sans;
        assert!(
            sans.contains(&"api.example".to_owned()) && sans.contains(&"2001:db8::7".to_owned()),
            "{sans:?}"
        );
    }

    #[test]
    fn the_tables_name_every_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let layout = made(dir.path());
        std::fs::remove_file(layout.pki_file("etcd/peer.crt")).unwrap();
        std::fs::remove_file(layout.pki_file("front-proxy-ca.key")).unwrap();
        let text = render_expiration(&layout, Timestamp::now()).unwrap();
        let line = |start: &str| {
            let found = text
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default();
            found.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(line("apiserver ").ends_with("UTC 364d ca no"), "{text}");
        assert!(
            line("front-proxy-client ").ends_with("front-proxy-ca yes"),
            "{text}"
        );
        assert_eq!(line("!MISSING! etcd-peer"), "!MISSING! etcd-peer");
        assert!(line("etcd-ca ").ends_with("9y no"), "{text}");
        assert!(
            renew(&layout, "etcd-ca")
                .unwrap_err()
                .to_string()
                .contains("is a CA")
        );
        assert!(
            renew(&layout, "front-proxy-client").is_err(),
            "its CA's key is elsewhere"
        );
        assert!(
            renew(&layout, "nothing")
                .unwrap_err()
                .to_string()
                .contains("no certificate named")
        );
    }

    #[test]
    fn durations_have_one_unit() {
        let shown = |seconds| short_duration(SignedDuration::from_secs(seconds));
        assert_eq!(shown(-2), "<invalid>");
        assert_eq!(
            [shown(59), shown(119), shown(86_399), shown(86_400)],
            ["59s", "1m", "23h", "1d"]
        );
        assert_eq!([shown(364 * 86_400), shown(3649 * 86_400)], ["364d", "9y"]);
    }
}
