//! The cluster's certificates: one table of what each certifies, and the making of it.
//!
//! Upstream's names, subjects, usages and files. Keys are ECDSA P-256 (kubeadm's `ECDSA-P256` choice): signing one
//! costs a tenth of RSA-2048, which every handshake pays. Private keys are written 0600 before they hold anything.
//! Files that exist are kept, so that an operator's own CA is used.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};

use crate::settings::Settings;

/// Days a leaf certificate holds, as upstream.
pub const LEAF_DAYS: i32 = 365;
/// Days a CA holds, as upstream.
pub const CA_DAYS: i32 = 3650;

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// One certificate to have.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// File below the directory, without ending.
    pub file: &'static str,
    /// The CA's file, without ending.
    pub ca: &'static str,
    pub subject: Subject,
    pub server: bool,
    pub client: bool,
    pub sans: Vec<String>,
}

/// The CAs: file and common name.
pub const CAS: [(&str, &str); 3] = [
    ("ca", "kubernetes"),
    ("front-proxy-ca", "front-proxy-ca"),
    ("etcd/ca", "etcd-ca"),
];

/// Shorthand of a subject.
pub fn subject(common_name: impl Into<String>, organizations: &[&str]) -> Subject {
    Subject {
        common_name: common_name.into(),
        organizations: organizations.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// The table of certificates of a control-plane node.
pub fn leaves(settings: &Settings) -> anyhow::Result<Vec<Leaf>> {
    let mut leaves = api_leaves(settings)?;
    leaves.extend(store_leaves(settings));
    Ok(leaves)
}

/// What the API server shows to its clients, and to those it calls.
fn api_leaves(settings: &Settings) -> anyhow::Result<Vec<Leaf>> {
    let client = |file, ca, subject| Leaf {
        file,
        ca,
        subject,
        server: false,
        client: true,
        sans: vec![],
    };
    let kubelet_client = subject("kube-apiserver-kubelet-client", &["kubeadm:cluster-admins"]);
    Ok(vec![
        Leaf {
            file: "apiserver",
            ca: "ca",
            subject: subject("kube-apiserver", &[]),
            server: true,
            client: false,
            sans: server_sans(settings)?,
        },
        client("apiserver-kubelet-client", "ca", kubelet_client),
        client(
            "front-proxy-client",
            "front-proxy-ca",
            subject("front-proxy-client", &[]),
        ),
        client(
            "apiserver-etcd-client",
            "etcd/ca",
            subject("kube-apiserver-etcd-client", &[]),
        ),
    ])
}

/// What the store's members show to clients and to each other.
fn store_leaves(settings: &Settings) -> Vec<Leaf> {
    let sans = vec![
        settings.node_name.clone(),
        "localhost".to_owned(),
        settings.advertise_address.to_string(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let both = |file| Leaf {
        file,
        ca: "etcd/ca",
        subject: subject(&settings.node_name, &[]),
        server: true,
        client: true,
        sans: sans.clone(),
    };
    let checker = Leaf {
        file: "etcd/healthcheck-client",
        ca: "etcd/ca",
        subject: subject("kube-etcd-healthcheck-client", &["system:masters"]),
        server: false,
        client: true,
        sans: vec![],
    };
    vec![both("etcd/server"), both("etcd/peer"), checker]
}

fn server_sans(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let mut sans = vec![
        settings.node_name.clone(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{}", settings.dns_domain),
        "localhost".to_owned(),
        settings.service_address(1)?.to_string(),
        settings.advertise_address.to_string(),
        "127.0.0.1".to_owned(),
    ];
    if let Some(endpoint) = &settings.control_plane_endpoint {
        sans.push(
            endpoint
                .rsplit_once(':')
                .map_or(endpoint.as_str(), |(host, _)| host)
                .to_owned(),
        );
    }
    sans.extend(settings.cert_extra_sans.iter().cloned());
    Ok(sans)
}

/// A certificate with its key, both PEM.
pub struct Issued {
    pub cert: String,
    pub key: String,
}

/// Makes a CA that is missing.
pub fn ensure_ca(dir: &Path, file: &str, common_name: &str, today: Date) -> anyhow::Result<Made> {
    let (cert, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
    if cert.exists() {
        return Ok(Made::Existing);
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate a CA key")?;
    let mut params = CertificateParams::new(vec![common_name.to_owned()]).context("CA parameters")?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    validity(&mut params, today, CA_DAYS);
    let made = params.self_signed(&pair).context("sign a CA")?;
    write_secret(&key, &pair.serialize_pem())?;
    write_public(&cert, &made.pem())?;
    Ok(Made::New)
}

/// Whether a file was there or is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Existing,
    New,
}

/// Makes a leaf that is missing.
pub fn ensure_leaf(dir: &Path, leaf: &Leaf, today: Date) -> anyhow::Result<Made> {
    if dir.join(format!("{}.crt", leaf.file)).exists() {
        return Ok(Made::Existing);
    }
    renew_leaf(dir, leaf, today)?;
    Ok(Made::New)
}

/// Makes a leaf anew, whatever lies there.
pub fn renew_leaf(dir: &Path, leaf: &Leaf, today: Date) -> anyhow::Result<()> {
    let issued = issue(dir, leaf, today)?;
    write_secret(&dir.join(format!("{}.key", leaf.file)), &issued.key)?;
    write_public(&dir.join(format!("{}.crt", leaf.file)), &issued.cert)
}

/// Signs a leaf by its CA in `dir`.
pub fn issue(dir: &Path, leaf: &Leaf, today: Date) -> anyhow::Result<Issued> {
    let ca = dir.join(format!("{}.crt", leaf.ca));
    let ca_key = dir.join(format!("{}.key", leaf.ca));
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let signer = KeyPair::from_pem(&read(&ca_key)?).with_context(|| format!("key {}", ca_key.display()))?;
    let issuer = Issuer::from_ca_cert_pem(&read(&ca)?, signer)
        .with_context(|| format!("certificate {}", ca.display()))?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate a key")?;
    let params = leaf_params(leaf, today)?;
    let made = params
        .signed_by(&pair, &issuer)
        .with_context(|| format!("sign {}", leaf.file))?;
    Ok(Issued {
        cert: made.pem(),
        key: pair.serialize_pem(),
    })
}

fn leaf_params(leaf: &Leaf, today: Date) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for organization in &leaf.subject.organizations {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization.as_str());
    }
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.subject.common_name.as_str());
    for san in &leaf.sans {
        let name = match san.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(san.as_str().try_into().with_context(|| format!("name {san:?}"))?),
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    if leaf.server {
        params.extended_key_usages.push(Usage::ServerAuth);
    }
    if leaf.client {
        params.extended_key_usages.push(Usage::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, today, LEAF_DAYS);
    Ok(params)
}

/// A day; validity counts from it.
#[derive(Clone, Copy, Debug)]
pub struct Date(pub jiff::civil::Date);

impl Date {
    /// Today in UTC.
    pub fn today() -> Self {
        Self(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}

/// From a day before `today`, so that a clock a little behind accepts it.
fn validity(params: &mut CertificateParams, today: Date, days: i32) {
    let at = |offset: i32| {
        let date = today.0.saturating_add(jiff::Span::new().days(offset));
        // Months and days of a civil date fit u8.
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = at(-1);
    params.not_after = at(days);
}

/// The service accounts' signing key pair.
pub fn ensure_service_account_key(dir: &Path) -> anyhow::Result<Made> {
    if dir.join("sa.key").exists() {
        return Ok(Made::Existing);
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate the service account key")?;
    write_secret(&dir.join("sa.key"), &pair.serialize_pem())?;
    write_public(&dir.join("sa.pub"), &pair.public_key_pem())?;
    Ok(Made::New)
}

/// Writes a file that only root may read.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    write_mode(path, text, 0o600)
}

/// Writes a file that all may read.
pub fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    write_mode(path, text, 0o644)
}

/// By way of a new file that is renamed over the old, so a reader sees one or the other whole.
fn write_mode(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else {
        bail!("{} is no file", path.display())
    };
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)
        .with_context(|| format!("create {}", fresh.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", fresh.display()))?;
    file.sync_all()
        .with_context(|| format!("sync {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("rename to {}", path.display()))
}

/// The pin of a CA certificate: SHA-256 of its subject public key info, as `sha256:` and hex.
pub fn spki_hash(der: &[u8]) -> anyhow::Result<String> {
    use sha2::Digest;
    let (_, cert) = x509_parser::parse_x509_certificate(der).context("parse the CA certificate")?;
    let digest = sha2::Sha256::digest(cert.tbs_certificate.subject_pki.raw);
    Ok(format!(
        "sha256:{}",
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_leaf_is_signed_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in CAS {
            assert_eq!(
                ensure_ca(dir.path(), file, name, Date::today()).unwrap(),
                Made::New
            );
            assert_eq!(
                ensure_ca(dir.path(), file, name, Date::today()).unwrap(),
                Made::Existing
            );
        }
        let settings = crate::settings::tests::sample();
        for leaf in leaves(&settings).unwrap() {
            ensure_leaf(dir.path(), &leaf, Date::today()).unwrap();
            let key = dir.path().join(format!("{}.key", leaf.file));
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
            let text = fs::read(dir.path().join(format!("{}.crt", leaf.file))).unwrap();
            let der = pem::parse(text).unwrap();
            let (_, cert) = x509_parser::parse_x509_certificate(der.contents()).unwrap();
            let name = cert
                .subject()
                .iter_common_name()
                .next()
                .unwrap()
                .as_str()
                .unwrap();
            assert_eq!(name, leaf.subject.common_name);
        }
    }
}
