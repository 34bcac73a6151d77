//! CSR approving controller: approves kubelets' client certificates, the first one (from a bootstrap token) and
//! renewals, when the requester may create them (SubjectAccessReview). Serving certificates are left to people.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_client::{Informer, Key};
use keelson_controller::runtime::WorkError;
use keelson_controller::{Action, Plan, Queue};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{KUBELET_CLIENT, Request, condition, is_issued};
use crate::context::Context;
use crate::triggers;

const NAME: &str = "certificatesigningrequest-approving-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let requests = context.informer::<CertificateSigningRequest>();
    let queue = Queue::default();
    triggers::on_self(&requests, &queue);
    let (client, executor) = (context.client.clone(), context.executor("certificate-controller"));
    context.drive(NAME, queue, 5, move |key: Key| {
        let (client, executor, requests) = (client.clone(), executor.clone(), requests.clone());
        async move {
            let plan = decide(&client, &requests, &key).await?;
            executor.execute(plan).await.map_err(|failure| WorkError {
                error: failure.message,
                expected: failure.code == 409,
            })?;
            Ok(None)
        }
    });
}

/// One kind of request that may be approved, and the right its requester must have.
struct Recognized {
    subresource: &'static str,
    message: &'static str,
}

/// Which rights would let a request be approved, most special first. Pure.
fn recognized(csr: &CertificateSigningRequest) -> Vec<Recognized> {
    let spec = &csr.spec;
    let decided = condition(csr, "Approved").is_some() || condition(csr, "Denied").is_some();
    if decided || is_issued(csr) || spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(request) = Request::parse(&spec.request.0) else {
        return Vec::new();
    };
    if request
        .not_kubelet_client(spec.usages.as_deref().unwrap_or_default())
        .is_some()
    {
        return Vec::new();
    }
    let mut recognized = Vec::new();
    if spec.username.as_ref() == Some(&request.common_name) {
        recognized.push(Recognized {
            subresource: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        });
    }
    recognized.push(Recognized {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    });
    recognized
}

async fn decide(
    client: &Client,
    requests: &Informer<CertificateSigningRequest>,
    key: &Key,
) -> Result<Plan, WorkError> {
    let Some(csr) = requests.get_key(key) else {
        return Ok(Plan::nothing());
    };
    let candidates = recognized(&csr);
    let known = !candidates.is_empty();
    for candidate in candidates {
        if may(client, &csr, candidate.subresource).await? {
            return Ok(Plan::of(vec![approved(
                &csr,
                candidate.message,
                Timestamp::now(),
            )]));
        }
    }
    if known {
        return Err(WorkError {
            error: format!(
                "recognized csr {:?} but subject access review was not approved",
                key.name
            ),
            expected: false,
        });
    }
    Ok(Plan::nothing())
}

async fn may(
    client: &Client,
    csr: &Arc<CertificateSigningRequest>,
    subresource: &str,
) -> Result<bool, WorkError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn approved(csr: &CertificateSigningRequest, message: &str, now: Timestamp) -> Action {
    let mut updated = csr.clone();
    let conditions = updated
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    });
    Action::update_subresource(&updated, "approval")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn csr(user: &str, signer: &str) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n1");
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
                username: Some(user.into()),
                signer_name: signer.into(),
                request: ByteString(pem.into_bytes()),
                usages: Some(vec!["client auth".into(), "digital signature".into()]),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        }
    }

    #[test]
    fn only_kubelets_client_requests_are_recognized() {
        let rights = |csr: &CertificateSigningRequest| -> Vec<&str> {
            recognized(csr).iter().map(|r| r.subresource).collect()
        };
        let renewal = csr("system:node:n1", KUBELET_CLIENT);
        assert_eq!(rights(&renewal), ["selfnodeclient", "nodeclient"]);
        assert_eq!(
            rights(&csr("system:bootstrap:abcdef", KUBELET_CLIENT)),
            ["nodeclient"]
        );
        assert!(rights(&csr("system:node:n1", super::super::KUBELET_SERVING)).is_empty());
        let action = approved(&renewal, "m", Timestamp::UNIX_EPOCH);
        let decided: CertificateSigningRequest = serde_json::from_value(action.body).unwrap();
        assert!(rights(&decided).is_empty());
    }
}
