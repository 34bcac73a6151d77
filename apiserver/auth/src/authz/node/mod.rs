//! The Node authorizer: a kubelet reads what the pods on its node need, and nothing else (KEP-279).
//!
//! Where upstream keeps a graph, the path from node to object is walked on demand over the watch cache, from the object's
//! namespace: a request looks at the pods of one namespace. What is not subdivided follows the fixed node rules. Requests the
//! authorizer refuses are `NoOpinion`: roles may still allow more.

mod path;

use std::sync::Arc;

use keelson_machinery::ObjectReader;

use self::path::Target;
use super::rbac::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::bootstrap::cluster_roles::NODE_RULES;
use crate::pod_references::Referenced;

/// Decides on requests of users `system:node:NAME` in the group system:nodes.
pub struct Node {
    reader: Arc<dyn ObjectReader>,
    rules: Vec<Rule>,
}

type Verdict = Result<(), String>;

impl Node {
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        let rules = NODE_RULES.iter().map(|rule| Rule::from_value(&rule.to_value()));
        Self {
            reader,
            rules: rules.collect(),
        }
    }

    fn decide(&self, node: &str, request: &Attributes) -> Verdict {
        let (verb, sub) = (request.verb.as_ref(), request.subresource.as_ref());
        let related = |target: Target| self.related(node, target, request);
        match (request.group.as_ref(), request.resource.as_ref()) {
            ("", "secrets") => {
                readable(request)?;
                related(Target::Pod(Referenced::Secret))
            }
            ("", "configmaps") => {
                readable(request)?;
                related(Target::Pod(Referenced::ConfigMap))
            }
            ("", "persistentvolumeclaims") if sub == "status" => {
                let verbs = ["get", "update", "patch"];
                ensure(verbs.contains(&verb), "can only get/update/patch this type")?;
                related(Target::Pod(Referenced::PersistentVolumeClaim))
            }
            ("", "persistentvolumeclaims") => {
                gettable(request)?;
                related(Target::Pod(Referenced::PersistentVolumeClaim))
            }
            ("", "persistentvolumes") => {
                gettable(request)?;
                related(Target::PersistentVolume)
            }
            ("resource.k8s.io", "resourceclaims") => {
                gettable(request)?;
                related(Target::Pod(Referenced::ResourceClaim))
            }
            ("storage.k8s.io", "volumeattachments") => {
                gettable(request)?;
                related(Target::VolumeAttachment)
            }
            ("", "serviceaccounts") => {
                let allowed = matches!((verb, sub), ("get", "") | ("create", "token"));
                ensure(allowed, "can only create tokens for individual service accounts")?;
                related(Target::Pod(Referenced::ServiceAccount))
            }
            ("coordination.k8s.io", "leases") => lease(node, request),
            ("storage.k8s.io", "csinodes") => csi_node(node, request),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, request),
            ("", "nodes") => own_node(node, request),
            ("", "pods") => self.pod(node, request),
            _ => self.by_rules(request),
        }
    }

    fn by_rules(&self, request: &Attributes) -> Verdict {
        ensure(self.rules.iter().any(|rule| rule.allows(request)), "")
    }

    fn related(&self, node: &str, target: Target, request: &Attributes) -> Verdict {
        ensure(!request.name.is_empty(), "No Object name found")?;
        let found = path::exists(
            self.reader.as_ref(),
            node,
            target,
            &request.namespace,
            &request.name,
        );
        found
            .then_some(())
            .ok_or_else(|| format!("no relationship found between node '{node}' and this object"))
    }

    fn resource_slice(&self, node: &str, request: &Attributes) -> Verdict {
        ensure(
            request.subresource.is_empty(),
            "cannot authorize ResourceSlice subresources",
        )?;
        match request.verb.as_ref() {
            // The node it is made for is checked by NodeRestriction.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, Target::ResourceSlice, request),
            "watch" | "list" | "deletecollection" => ensure(
                selects(request, "spec.nodeName", node),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                      patch, delete, deletecollection"
                .to_owned()),
        }
    }

    fn pod(&self, node: &str, request: &Attributes) -> Verdict {
        match (request.subresource.as_ref(), request.verb.as_ref()) {
            ("", "get") => self.related(node, Target::OwnPod, request),
            ("", "list" | "watch") => ensure(
                selects(request, "spec.nodeName", node),
                "can only list/watch pods with spec.nodeName field selector",
            ),
            // To which node these belong is checked by NodeRestriction.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

impl Authorizer for Node {
    fn authorize(&self, request: &Attributes) -> (Decision, String) {
        let user = &request.user;
        if !user.is_node() {
            return (Decision::NoOpinion, String::new());
        }
        let Some(node) = user.node_name() else {
            return (
                Decision::NoOpinion,
                format!("unknown node for user {:?}", user.name),
            );
        };
        let verdict = match request.is_resource {
            true => self.decide(node, request),
            false => self.by_rules(request),
        };
        match verdict {
            Ok(()) => (Decision::Allow, String::new()),
            Err(why) => (Decision::NoOpinion, why),
        }
    }
}

fn ensure(holds: bool, why: &str) -> Verdict {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

fn readable(request: &Attributes) -> Verdict {
    ensure(request.is_read_only(), "can only read resources of this type")?;
    ensure(request.subresource.is_empty(), "cannot read subresource")?;
    ensure(
        !request.namespace.is_empty(),
        "can only read namespaced object of this type",
    )
}

fn gettable(request: &Attributes) -> Verdict {
    ensure(
        request.verb == "get",
        "can only get individual resources of this type",
    )?;
    ensure(request.subresource.is_empty(), "cannot get subresource")
}

fn selects(request: &Attributes, field: &str, value: &str) -> bool {
    request.field_selector.iter().any(|requirement| {
        requirement.key == field && requirement.operator == "In" && requirement.values == [value]
    })
}

const OWN_VERBS: [&str; 5] = ["get", "create", "update", "patch", "delete"];

fn lease(node: &str, request: &Attributes) -> Verdict {
    let verb = request.verb.as_ref();
    ensure(
        OWN_VERBS.contains(&verb),
        "can only get, create, update, patch, or delete a node lease",
    )?;
    ensure(
        request.namespace == "kube-node-lease",
        "can only access leases in the \"kube-node-lease\" system namespace",
    )?;
    // The name is unknown at creation: NodeRestriction checks it then.
    ensure(
        verb == "create" || request.name == node,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(node: &str, request: &Attributes) -> Verdict {
    let verb = request.verb.as_ref();
    ensure(
        OWN_VERBS.contains(&verb),
        "can only get, create, update, patch, or delete a CSINode",
    )?;
    ensure(
        request.subresource.is_empty(),
        "cannot authorize CSINode subresources",
    )?;
    ensure(
        verb == "create" || request.name == node,
        "can only access CSINode with the same name as the requesting node",
    )
}

fn own_node(node: &str, request: &Attributes) -> Verdict {
    match (request.subresource.as_ref(), request.verb.as_ref()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => {
            if request.name == node || selects(request, "metadata.name", node) {
                return Ok(());
            }
            match request.name.is_empty() {
                true => Err(format!(
                    "node '{node}' cannot read all nodes, only its own Node object"
                )),
                false => Err(format!(
                    "node '{node}' cannot read '{}', only its own Node object",
                    request.name
                )),
            }
        }
        _ => Err(String::new()),
    }
}

#[cfg(test)]
mod tests;
