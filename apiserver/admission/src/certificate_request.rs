//! The subject of a certificate request, as it stands in `spec.request`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// Whom a certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// Reads a base64 PEM certificate request; `None` where it cannot be read.
pub fn subject(base64: &str) -> Option<Subject> {
    let pem = STANDARD.decode(base64).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let name = &request.certification_request_info.subject;
    let common_name = name.iter_common_name().last().and_then(|name| name.as_str().ok());
    let organizations = name.iter_organization().filter_map(|name| name.as_str().ok());
    Some(Subject {
        common_name: common_name.unwrap_or("").to_owned(),
        organizations: organizations.map(str::to_owned).collect(),
    })
}
