//! CSR signing controller: issues certificates for approved requests of the four built-in signers.
//!
//! The CA's files are read for each certificate: renewed files count at once, and the key is in memory no longer
//! than needed. Left out: subjects that name the same attribute twice (several organizations) are refused.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_client::{Informer, Key};
use keelson_controller::runtime::WorkError;
use keelson_controller::{Action, Plan, Queue};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{
    APISERVER_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, Request, condition, is_issued,
};
use crate::config::{Config, SigningFiles};
use crate::context::Context;
use crate::triggers;

const NAME: &str = "certificatesigningrequest-signing-controller";
/// Certificates are valid from this much before now, for clocks that go slow.
const BACKDATE: Duration = Duration::from_secs(300);
/// No certificate is shorter.
const SHORTEST: Duration = Duration::from_secs(600);

/// Starts the controller; without any CA there is nothing to do.
pub fn start(context: &Context) {
    let signing = &context.config.signing;
    let all = [
        &signing.kubelet_serving,
        &signing.kubelet_client,
        &signing.apiserver_client,
        &signing.legacy_unknown,
    ];
    if all.iter().all(|files| files.is_none()) {
        tracing::info!(
            controller = NAME,
            "not started: no --cluster-signing-cert-file and -key-file"
        );
        return;
    }
    let requests = context.informer::<CertificateSigningRequest>();
    let queue = Queue::default();
    triggers::on_self(&requests, &queue);
    let (config, executor) = (context.config.clone(), context.executor("certificate-controller"));
    context.drive(NAME, queue, 5, move |key: Key| {
        let (config, executor, requests) = (config.clone(), executor.clone(), requests.clone());
        async move {
            let plan = decide(&config, &requests, &key)?;
            executor.execute(plan).await.map_err(|failure| WorkError {
                error: failure.message,
                expected: failure.code == 409,
            })?;
            Ok(None)
        }
    });
}

fn decide(
    config: &Config,
    requests: &Informer<CertificateSigningRequest>,
    key: &Key,
) -> Result<Plan, WorkError> {
    let Some(csr) = requests.get_key(key) else {
        return Ok(Plan::nothing());
    };
    let files = match csr.spec.signer_name.as_str() {
        KUBELET_SERVING => &config.signing.kubelet_serving,
        KUBELET_CLIENT => &config.signing.kubelet_client,
        APISERVER_CLIENT => &config.signing.apiserver_client,
        LEGACY_UNKNOWN => &config.signing.legacy_unknown,
        _ => return Ok(Plan::nothing()),
    };
    let Some(files) = files.as_ref().filter(|_| is_due(&csr)) else {
        return Ok(Plan::nothing());
    };
    let failed = |error: String| WorkError {
        error,
        expected: false,
    };
    let ca = read(files).map_err(failed)?;
    reconcile(&csr, &ca, config.signing.duration, Timestamp::now()).map_err(failed)
}

/// Approved, not issued, not failed.
fn is_due(csr: &CertificateSigningRequest) -> bool {
    let is = |type_| condition(csr, type_).is_some();
    is("Approved") && !is("Denied") && !is("Failed") && !is_issued(csr)
}

/// A CA as text.
struct Authority {
    cert: String,
    key: String,
}

fn read(files: &SigningFiles) -> Result<Authority, String> {
    let text = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    Ok(Authority {
        cert: text(&files.cert)?,
        key: text(&files.key)?,
    })
}

fn reconcile(
    csr: &CertificateSigningRequest,
    ca: &Authority,
    longest: Duration,
    now: Timestamp,
) -> Result<Plan, String> {
    let mut updated = csr.clone();
    let status = updated.status.get_or_insert_default();
    match Request::parse(&csr.spec.request.0)
        .and_then(|request| refusal(csr, &request).map_or(Ok(request), |reason| Err(reason.to_owned())))
    {
        Ok(request) => {
            let pem = sign(csr, &request, ca, longest, now)?;
            status.certificate = Some(ByteString(pem.into_bytes()));
        }
        Err(reason) => status
            .conditions
            .get_or_insert_default()
            .push(CertificateSigningRequestCondition {
                type_: "Failed".to_owned(),
                status: "True".to_owned(),
                reason: Some("SignerValidationFailure".to_owned()),
                message: Some(reason),
                last_update_time: Some(Time(now)),
                last_transition_time: None,
            }),
    }
    Ok(Plan::of(vec![Action::update_status(&updated)]))
}

/// Why the signer must not sign this request.
fn refusal(csr: &CertificateSigningRequest, request: &Request) -> Option<&'static str> {
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    if request.organizations.len() > 1 {
        return Some("subjects with several organizations are not supported");
    }
    match csr.spec.signer_name.as_str() {
        KUBELET_SERVING => request.not_kubelet_serving(usages),
        KUBELET_CLIENT => request.not_kubelet_client(usages),
        APISERVER_CLIENT => {
            let allowed = ["digital signature", "key encipherment", "client auth"];
            let fit = usages.iter().all(|usage| allowed.contains(&usage.as_str()));
            let client = usages.iter().any(|usage| usage == "client auth");
            (!fit || !client).then_some("usages did not match expected values")
        }
        _ => None,
    }
}

fn sign(
    csr: &CertificateSigningRequest,
    request: &Request,
    ca: &Authority,
    longest: Duration,
    now: Timestamp,
) -> Result<String, String> {
    let key = KeyPair::from_pem(&ca.key).map_err(|e| format!("cannot use the CA's key: {e}"))?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, key)
        .map_err(|e| format!("cannot use the CA's certificate: {e}"))?;
    let mut asked = CertificateSigningRequestParams::from_der(&request.der.as_slice().into())
        .map_err(|e| format!("unable to parse csr: {e}"))?;
    let wanted = csr
        .spec
        .expiration_seconds
        .and_then(|s| u64::try_from(s).ok())
        .map(Duration::from_secs);
    let lifetime = wanted.unwrap_or(longest).min(longest).max(SHORTEST.min(longest));
    let start = now.as_second() - BACKDATE.as_secs() as i64;
    let end = (start + lifetime.as_secs() as i64).min(ca_end(&ca.cert)?);
    let time = |second: i64| {
        time::OffsetDateTime::from_unix_timestamp(second).map_err(|e| format!("time out of range: {e}"))
    };
    let params = &mut asked.params;
    (params.not_before, params.not_after) = (time(start)?, time(end)?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    params.key_usages = usages.iter().filter_map(|u| key_usage(u)).collect();
    params.extended_key_usages = usages.iter().filter_map(|u| extended_key_usage(u)).collect();
    let certificate = asked
        .signed_by(&issuer)
        .map_err(|e| format!("cannot sign: {e}"))?;
    Ok(certificate.pem())
}

fn ca_end(cert: &str) -> Result<i64, String> {
    let block = pem::parse(cert).map_err(|e| format!("cannot use the CA's certificate: {e}"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(block.contents())
        .map_err(|e| format!("cannot use the CA's certificate: {e}"))?;
    Ok(parsed.validity().not_after.timestamp())
}

fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "cert sign" => KeyUsagePurpose::KeyCertSign,
        "crl sign" => KeyUsagePurpose::CrlSign,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_key_usage(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match usage {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType};

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
        Authority {
            cert: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn csr(name: &str, usages: &[&str], seconds: Option<i32>) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        let pem = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                signer_name: KUBELET_CLIENT.into(),
                request: ByteString(pem.into_bytes()),
                usages: Some(usages.iter().map(|s| (*s).to_owned()).collect()),
                expiration_seconds: seconds,
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        }
    }

    fn result(csr: &CertificateSigningRequest) -> CertificateSigningRequest {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let plan = reconcile(csr, &authority(), Duration::from_secs(86_400), now).unwrap();
        serde_json::from_value(plan.actions[0].body.clone()).unwrap()
    }

    #[test]
    fn what_is_asked_is_certified() {
        let signed = result(&csr(
            "system:node:n1",
            &["digital signature", "client auth"],
            Some(3600),
        ));
        let pem = signed.status.unwrap().certificate.unwrap().0;
        let der = pem::parse(pem).unwrap().into_contents();
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(
            cert.subject()
                .iter_common_name()
                .next()
                .unwrap()
                .as_str()
                .unwrap(),
            "system:node:n1"
        );
        assert_eq!(cert.validity().not_before.timestamp(), 1_800_000_000 - 300);
        assert_eq!(cert.validity().not_after.timestamp(), 1_800_000_000 - 300 + 3600);
        assert!(cert.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(!cert.is_ca());
    }

    #[test]
    fn what_the_signer_forbids_fails() {
        let failed = result(&csr("somebody", &["digital signature", "client auth"], None));
        let condition = failed.status.unwrap().conditions.unwrap().remove(0);
        assert_eq!(condition.type_, "Failed");
        assert_eq!(
            condition.message.as_deref(),
            Some("subject common name does not begin with system:node:")
        );
    }
}
