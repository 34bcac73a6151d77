//! Certificates of a test cluster: one authority, one server and peer certificate for loopback, one client certificate.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Files made by `make`.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub ca: PathBuf,
    pub server_cert: PathBuf,
    pub server_key: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
}

/// Makes all of them in a directory; `user` is the client certificate's common name.
pub fn make(dir: &Path, user: &str) -> anyhow::Result<Certificates> {
    std::fs::create_dir_all(dir).context("make the directory of the certificates")?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "store-tests-ca");
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    let sign = |name: &str, common_name: &str| -> anyhow::Result<(PathBuf, PathBuf)> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, &issuer)?;
        Ok((
            write(&format!("{name}.crt"), signed.pem())?,
            write(&format!("{name}.key"), key.serialize_pem())?,
        ))
    };
    let (server_cert, server_key) = sign("server", "member")?;
    let (client_cert, client_key) = sign("client", user)?;
    Ok(Certificates {
        ca: write("ca.crt", ca.pem())?,
        server_cert,
        server_key,
        client_cert,
        client_key,
    })
}
