//! NodeRestriction: a kubelet writes only its own node and what belongs to the pods on it (KEP-279).
//!
//! The Node authorizer lets kubelets write by resource; here the content is looked at. Off by default as upstream; kubeadm and
//! our local cluster turn it on.

mod node;
mod pod;
mod token;

use keelson_auth::user::NODE_USER_PREFIX;
use keelson_machinery::{ObjectReader, Status, meta};
use serde_json::Value;

use crate::certificate_request::subject;
use crate::value::str_of;
use crate::{Admission, AdmissionAttributes, Operation};

pub struct NodeRestriction;

/// The refusal's text; `Missing` is an object that must exist and does not.
pub(crate) enum Refusal {
    Forbidden(String),
    Missing(Status),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Forbidden(why)
    }
}

type Verdict = Result<(), Refusal>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why().into()) }
}

impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation != Operation::Connect && a.user.is_node()
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let Some(own) = a.user.node_name() else {
            let why = format!("could not determine node from user {:?}", a.user.name);
            return Err(a.forbidden(object, &why));
        };
        let request = Request {
            a,
            own,
            object,
            reader,
        };
        request.check().map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => a.forbidden(object, &why),
            Refusal::Missing(status) => status,
        })
    }
}

/// A kubelet's write.
struct Request<'a> {
    a: &'a AdmissionAttributes<'a>,
    /// The name of the kubelet's node.
    own: &'a str,
    object: &'a Value,
    reader: &'a dyn ObjectReader,
}

impl Request<'_> {
    fn check(&self) -> Verdict {
        let a = self.a;
        match (a.resource.group.as_ref(), a.resource.resource.as_ref()) {
            ("", "pods") => pod::check(self),
            ("", "nodes") => node::check(self),
            ("", "persistentvolumeclaims") => self.check_claim(),
            ("", "serviceaccounts") => token::check(self),
            ("coordination.k8s.io", "leases") => self.check_lease(),
            ("storage.k8s.io", "csinodes") => {
                let why = "can only access CSINode with the same name as the requesting node";
                ensure(self.name() == self.own, || why.to_owned())
            }
            ("resource.k8s.io", "resourceslices") => self.check_slice(),
            ("certificates.k8s.io", "certificatesigningrequests") => self.check_certificate(),
            _ => Ok(()),
        }
    }

    /// At creation the name stands in the object.
    fn name(&self) -> &str {
        match self.a.name.is_empty() {
            true => meta::name(self.object),
            false => self.a.name,
        }
    }

    fn check_lease(&self) -> Verdict {
        ensure(self.a.namespace == "kube-node-lease", || {
            "can only access leases in the \"kube-node-lease\" system namespace".to_owned()
        })?;
        ensure(self.name() == self.own, || {
            "can only access node lease with the same name as the requesting node".to_owned()
        })
    }

    /// A kubelet asks for certificates of its own name only; the rest is for the signer to check.
    fn check_certificate(&self) -> Verdict {
        let signer = str_of(&self.object["spec"]["signerName"]);
        let of_kubelets = [
            "kubernetes.io/kubelet-serving",
            "kubernetes.io/kube-apiserver-client-kubelet",
        ];
        if self.a.operation != Operation::Create || !of_kubelets.contains(&signer) {
            return Ok(());
        }
        let Some(subject) = subject(str_of(&self.object["spec"]["request"])) else {
            return Err("unable to parse csr".to_owned().into());
        };
        let own = &self.a.user.name;
        let name = &subject.common_name;
        ensure(!name.starts_with(NODE_USER_PREFIX) || name == own, || {
            format!("can only create a node CSR with CN={own}")
        })
    }

    fn check_slice(&self) -> Verdict {
        // Later the node's name cannot change.
        let own = self.a.operation != Operation::Create || self.object["spec"]["nodeName"] == self.own;
        ensure(own, || {
            "can only create ResourceSlice with the same NodeName as the requesting node".to_owned()
        })
    }

    fn check_claim(&self) -> Verdict {
        ensure(self.a.subresource == "status", || {
            "may only update PVC status".to_owned()
        })?;
        ensure(self.a.operation == Operation::Update, || {
            format!("unexpected operation {:?}", self.a.operation.as_str())
        })?;
        let without_status = |claim: &Value| {
            let mut claim = claim.clone();
            if let Some(fields) = claim.as_object_mut() {
                fields.remove("status");
            }
            if let Some(metadata) = claim["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            claim
        };
        let old = self.a.old.unwrap_or(&Value::Null);
        ensure(without_status(old) == without_status(self.object), || {
            format!(
                "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
                self.own
            )
        })
    }
}

fn on_node(pod: &Value, node: &str) -> bool {
    str_of(&pod["spec"]["nodeName"]) == node
}

#[cfg(test)]
mod tests;
