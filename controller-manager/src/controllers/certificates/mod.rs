//! Certificate signing requests: approving those of kubelets, signing the approved, cleaning up.
//!
//! This file reads requests and judges which of the kubelet's they are; it is pure. `approving` and `signing` use it.

pub mod approving;
pub mod cleaner;
pub mod signing;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Signer of kubelets' client certificates.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of kubelets' serving certificates.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Signer of any client certificate.
pub const APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Signer of what the beta API allowed.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// What a request asks to be certified.
#[derive(Debug, Default, PartialEq)]
pub struct Request {
    /// DER of the request.
    pub der: Vec<u8>,
    /// Common name of the subject.
    pub common_name: String,
    /// Organizations of the subject.
    pub organizations: Vec<String>,
    /// Whether it asks for DNS names, IP addresses, email addresses, URIs.
    pub dns: bool,
    pub ips: bool,
    pub emails: bool,
    pub uris: bool,
}

impl Request {
    /// Reads a PEM certificate request.
    pub fn parse(pem_bytes: &[u8]) -> Result<Self, String> {
        let block =
            pem::parse(pem_bytes).map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        if block.tag() != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let der = block.into_contents();
        let (_, parsed) =
            X509CertificationRequest::from_der(&der).map_err(|e| format!("unable to parse csr: {e}"))?;
        let subject = &parsed.certification_request_info.subject;
        let text =
            |value: &x509_parser::x509::AttributeTypeAndValue| value.as_str().unwrap_or_default().to_owned();
        let mut request = Self {
            common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(_) => request.dns = true,
                        GeneralName::IPAddress(_) => request.ips = true,
                        GeneralName::RFC822Name(_) => request.emails = true,
                        _ => request.uris = true,
                    }
                }
            }
        }
        request.der = der;
        Ok(request)
    }

    /// Why this is no request for a kubelet's client certificate; `None` when it is one.
    pub fn not_kubelet_client(&self, usages: &[String]) -> Option<&'static str> {
        let allowed: [&[&str]; 2] = [
            &["client auth", "digital signature", "key encipherment"],
            &["client auth", "digital signature"],
        ];
        if self.organizations != [NODES_GROUP] {
            Some("subject organization is not system:nodes")
        } else if self.dns || self.ips {
            Some("DNS and IP subjectAltNames are not allowed")
        } else if self.emails || self.uris {
            Some("email and URI subjectAltNames are not allowed")
        } else if !self.common_name.starts_with(NODE_PREFIX) {
            Some("subject common name does not begin with system:node:")
        } else if !one_of(usages, &allowed) {
            Some("usages did not match expected values")
        } else {
            None
        }
    }

    /// Why this is no request for a kubelet's serving certificate; `None` when it is one.
    pub fn not_kubelet_serving(&self, usages: &[String]) -> Option<&'static str> {
        let allowed: [&[&str]; 2] = [
            &["digital signature", "key encipherment", "server auth"],
            &["digital signature", "server auth"],
        ];
        if self.organizations != [NODES_GROUP] {
            Some("subject organization is not system:nodes")
        } else if !self.dns && !self.ips {
            Some("DNS or IP subjectAltName is required")
        } else if self.emails || self.uris {
            Some("email and URI subjectAltNames are not allowed")
        } else if !one_of(usages, &allowed) {
            Some("usages did not match expected values")
        } else if !self.common_name.starts_with(NODE_PREFIX) {
            Some("subject common name does not begin with system:node:")
        } else {
            None
        }
    }
}

fn one_of(usages: &[String], allowed: &[&[&str]]) -> bool {
    let mut asked: Vec<&str> = usages.iter().map(String::as_str).collect();
    asked.sort_unstable();
    asked.dedup();
    allowed.contains(&asked.as_slice())
}

/// One of its conditions, if it is not explicitly false.
pub fn condition<'a>(
    csr: &'a CertificateSigningRequest,
    type_: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = csr.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == type_ && c.status != "False")
}

/// Whether a certificate was issued.
pub fn is_issued(csr: &CertificateSigningRequest) -> bool {
    csr.status
        .as_ref()
        .and_then(|s| s.certificate.as_ref())
        .is_some_and(|c| !c.0.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn request(name: &str, group: &str, dns: &[&str]) -> Request {
        let names: Vec<String> = dns.iter().map(|s| (*s).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        Request::parse(pem.as_bytes()).unwrap()
    }

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn kubelets_requests_are_known() {
        let client = usages(&["digital signature", "key encipherment", "client auth"]);
        let serving = usages(&["digital signature", "server auth"]);
        let table = [
            (request("system:node:n1", NODES_GROUP, &[]), true, false),
            (request("system:node:n1", NODES_GROUP, &["n1"]), false, true),
            (request("n1", NODES_GROUP, &[]), false, false),
            (request("system:node:n1", "system:masters", &[]), false, false),
        ];
        for (request, is_client, is_serving) in table {
            assert_eq!(
                request.not_kubelet_client(&client).is_none(),
                is_client,
                "{request:?}"
            );
            assert_eq!(
                request.not_kubelet_serving(&serving).is_none(),
                is_serving,
                "{request:?}"
            );
            assert!(request.not_kubelet_client(&serving).is_some());
        }
        assert!(Request::parse(b"nonsense").is_err());
    }
}
