//! CSR cleaner: removes requests that are settled for an hour, or wait for a day.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};

use super::{condition, is_issued};
use crate::context::Context;
use crate::triggers;

const NAME: &str = "certificatesigningrequest-cleaner-controller";
const SETTLED_KEPT_S: i64 = 3600;
const PENDING_KEPT_S: i64 = 24 * 3600;

/// Starts the controller.
pub fn start(context: &Context) {
    let requests = context.informer::<CertificateSigningRequest>();
    let queue = Queue::default();
    triggers::on_self(&requests, &queue);
    context.run(Arc::new(Cleaner { requests }), queue, NAME, 1);
}

struct Cleaner {
    requests: Informer<CertificateSigningRequest>,
}

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        match self.requests.get_key(key) {
            Some(csr) => reconcile(&csr, now),
            None => Plan::nothing(),
        }
    }
}

fn reconcile(csr: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let Some(due) = due_s(csr) else {
        return Plan::nothing();
    };
    let left = due - now.as_second();
    if left <= 0 {
        return Plan::of(vec![Action::delete(csr)]);
    }
    let mut plan = Plan::nothing();
    plan.again_after(Duration::from_secs(left.unsigned_abs()));
    plan
}

/// When it may go; `None` while it is approved but not issued.
fn due_s(csr: &CertificateSigningRequest) -> Option<i64> {
    let decided = |type_| {
        let condition = condition(csr, type_)?;
        condition
            .last_update_time
            .as_ref()
            .map(|t| t.0.as_second() + SETTLED_KEPT_S)
    };
    let settled = [
        decided("Denied"),
        decided("Failed"),
        decided("Approved").filter(|_| is_issued(csr)),
    ];
    if let Some(due) = settled.into_iter().flatten().min() {
        return Some(due);
    }
    if condition(csr, "Approved").is_some() {
        return None;
    }
    let created = csr.metadata.creation_timestamp.as_ref()?.0.as_second();
    Some(created + PENDING_KEPT_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::{
        CertificateSigningRequestCondition, CertificateSigningRequestStatus,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn settled_requests_go_after_an_hour() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let csr = |type_: Option<&str>, issued: bool| {
            let mut csr = CertificateSigningRequest::default();
            csr.metadata.creation_timestamp = Some(Time(at(0)));
            csr.status = Some(CertificateSigningRequestStatus {
                certificate: issued.then(|| ByteString(b"x".to_vec())),
                conditions: type_.map(|type_| {
                    vec![CertificateSigningRequestCondition {
                        type_: type_.into(),
                        status: "True".into(),
                        last_update_time: Some(Time(at(100))),
                        ..CertificateSigningRequestCondition::default()
                    }]
                }),
            });
            csr
        };
        let table = [
            (csr(None, false), Some(86_400)),
            (csr(Some("Denied"), false), Some(3700)),
            (csr(Some("Approved"), true), Some(3700)),
            (csr(Some("Approved"), false), None),
        ];
        for (csr, due) in table {
            assert_eq!(due_s(&csr), due);
            if let Some(due) = due {
                assert_eq!(reconcile(&csr, at(due)).actions.len(), 1);
                assert_eq!(
                    reconcile(&csr, at(due - 5)).retry_after,
                    Some(Duration::from_secs(5))
                );
            }
        }
    }
}
