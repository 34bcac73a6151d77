//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve and sign for which signer,
//! and whom certificates may not be asked for.

use keelson_auth::user::MASTERS;
use keelson_auth::{Attributes, Decision};
use keelson_machinery::{ObjectReader, Status};
use serde_json::Value;

use crate::certificate_request::subject;
use crate::value::{items, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const API_SERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the user holds the verb on the signer, by its name or for its domain (`example.com/*`).
fn may(a: &AdmissionAttributes<'_>, verb: &'static str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or("");
    [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            let request = Attributes {
                user: a.user.clone(),
                verb: verb.into(),
                group: GROUP.into(),
                version: "*".into(),
                resource: "signers".into(),
                name,
                is_resource: true,
                ..Attributes::default()
            };
            a.authorizer.authorize(&request).0 == Decision::Allow
        })
}

/// Approving takes the verb `approve` on the request's signer.
pub struct CertificateApproval;

impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Update && a.is_any(GROUP, REQUESTS) && a.subresource == "approval"
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        request: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let signer = str_of(&request["spec"]["signerName"]);
        match may(a, "approve", signer) {
            true => Ok(()),
            false => {
                let why = format!("user not permitted to approve requests with signerName {signer:?}");
                Err(a.forbidden(request, &why))
            }
        }
    }
}

/// Putting a certificate, or a failure, into a request takes the verb `sign` on its signer.
pub struct CertificateSigning;

impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Update && a.is_any(GROUP, REQUESTS) && a.subresource == "status"
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        request: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let old = a.old.unwrap_or(&Value::Null);
        let failures = |request: &Value| -> Vec<Value> {
            let conditions = items(&request["status"]["conditions"]);
            conditions
                .filter(|condition| condition["type"] == "Failed")
                .cloned()
                .collect()
        };
        let same = old["status"]["certificate"] == request["status"]["certificate"]
            && failures(old) == failures(request);
        let signer = str_of(&old["spec"]["signerName"]);
        if same || may(a, "sign", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to sign requests with signerName {signer:?}");
        Err(a.forbidden(request, &why))
    }
}

/// Nobody asks for a client certificate of the group that may do everything.
pub struct CertificateSubjectRestriction;

impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && a.is(GROUP, REQUESTS)
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        request: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if request["spec"]["signerName"] != API_SERVER_CLIENT {
            return Ok(());
        }
        match subject(str_of(&request["spec"]["request"])) {
            // Validation refuses what cannot be read with the field's path.
            None => Ok(()),
            Some(subject) if subject.organizations.iter().any(|own| own == MASTERS) => {
                let why = format!("use of {API_SERVER_CLIENT} signer with {MASTERS} group is not allowed");
                Err(a.forbidden(request, &why))
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use keelson_auth::UserInfo;
    use serde_json::json;

    const REQUEST: (&str, &str, &str) = (GROUP, "CertificateSigningRequest", REQUESTS);

    #[test]
    fn approving_and_signing_take_their_verbs() {
        let request = json!({"metadata": {"name": "r"}, "spec": {"signerName": "a.b/c"}, "status": {"certificate": "x"}});
        let old = json!({"metadata": {"name": "r"}, "spec": {"signerName": "a.b/c"}});
        let plugins: [(&dyn Admission, &str, &str); 2] = [
            (&CertificateApproval, "approval", "approve"),
            (&CertificateSigning, "status", "sign"),
        ];
        for (plugin, subresource, verb) in plugins {
            for (user, allowed) in [("admin", true), ("bob", false)] {
                let mut case = Case::new(Operation::Update, REQUEST, request.clone());
                case.user = UserInfo::new(user, &[]);
                case.subresource = subresource;
                case.old = Some(old.clone());
                let message = match allowed {
                    true => String::new(),
                    false => format!(
                        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to {verb} \
                         requests with signerName \"a.b/c\""
                    ),
                };
                assert_eq!(case.run(plugin, &[]).message(), message);
            }
        }
    }

    #[test]
    fn no_certificate_of_masters() {
        for (organization, refused) in [("system:masters", true), ("dev", false)] {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params
                .distinguished_name
                .push(rcgen::DnType::OrganizationName, organization);
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = params.serialize_request(&key).unwrap().pem().unwrap();
            let request = json!({
                "metadata": {"name": "r"},
                "spec": {"signerName": API_SERVER_CLIENT, "request": STANDARD.encode(pem)},
            });
            let done =
                Case::new(Operation::Create, REQUEST, request).run(&CertificateSubjectRestriction, &[]);
            let message = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of \
                           kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
            assert_eq!(done.message(), if refused { message } else { "" });
        }
    }
}
