//! VolumeBinding: the pod's claims are bound to volumes the node can reach.
//!
//! Claims of classes that wait for a first consumer are given their node by the driver (annotation
//! `volume.kubernetes.io/selected-node`); until the volume exists the pod is not bound, so here such a claim fits any
//! node if its class makes volumes. Choosing among existing unbound volumes is left to the volume controller.

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Verdict};
use crate::hint::Change;
use crate::model::class::{Class, Requirements};
use crate::model::volume::{Claim, Volume};
use crate::objects::Objects;

pub(super) const ROW: Row = Row {
    name: "VolumeBinding",
    weight: 0,
    scope: Scope::Cluster,
    make: |_| Made {
        filter: Some(Box::new(VolumeBinding)),
        score: None,
    },
    hint: |change, _| match change {
        Change::NodeAdded(_) | Change::Storage => true,
        Change::NodeUpdated { before, after } => before.labels != after.labels,
        _ => false,
    },
};

struct VolumeBinding;

/// The pod's claims as far as they exist.
fn claims<'a>(
    objects: &'a Objects,
    pod: &'a Requirements,
) -> impl Iterator<Item = (&'a str, Option<&'a Claim>)> {
    pod.volumes.iter().filter_map(move |volume| match volume {
        Volume::Claim { name, .. } => Some((
            &**name,
            objects.claims.get(&(pod.namespace.clone(), name.clone())),
        )),
        Volume::Disk { .. } => None,
    })
}

/// Whether a claim's class leaves binding until a pod's node is chosen.
fn waits(objects: &Objects, claim: &Claim) -> bool {
    let class = claim
        .storage_class
        .as_ref()
        .and_then(|name| objects.storage_classes.get(name));
    class.is_some_and(|class| class.wait_for_consumer)
}

impl Filter for VolumeBinding {
    fn prepare(&self, cycle: &mut Cycle, pod: &Class) -> Option<Verdict> {
        let objects = &cycle.cluster.objects;
        let mut immediate = false;
        for (name, claim) in claims(objects, pod) {
            let ephemeral = pod
                .volumes
                .iter()
                .any(|v| matches!(v, Volume::Claim { name: n, ephemeral: true } if **n == *name));
            let reason = match claim {
                None if ephemeral => {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    )
                }
                None => format!("persistentvolumeclaim \"{name}\" not found"),
                Some(claim) if claim.lost => {
                    format!(
                        "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                        { claim.volume_name.as_deref().unwrap_or_default() }
                    )
                }
                Some(claim) if claim.deleting => format!("persistentvolumeclaim \"{name}\" is being deleted"),
                Some(claim) => {
                    immediate |= !claim.bound && !waits(objects, claim);
                    continue;
                }
            };
            return Some(Verdict::unresolvable(reason));
        }
        immediate.then(|| Verdict::unresolvable("pod has unbound immediate PersistentVolumeClaims"))
    }

    fn active(&self, _: &Cycle, pod: &Requirements) -> bool {
        !pod.volumes.is_empty()
    }

    fn filter(&self, cycle: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        let objects = &cycle.cluster.objects;
        for (_, claim) in claims(objects, pod) {
            let Some(claim) = claim else { continue };
            let Some(volume_name) = claim.volume_name.as_ref().filter(|_| claim.bound) else {
                let class = claim
                    .storage_class
                    .as_ref()
                    .and_then(|name| objects.storage_classes.get(name));
                if !class.is_some_and(|class| class.provisions) {
                    return Verdict::unresolvable("node(s) didn't find available persistent volumes to bind");
                }
                continue;
            };
            let Some(volume) = objects.volumes.get(volume_name) else {
                return Verdict::unresolvable(
                    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                );
            };
            let reaches = |terms: &[crate::model::labels::NodeTerm]| {
                terms.iter().any(|t| t.matches(&at.node.name, &at.node.labels))
            };
            if !volume.node_terms.as_deref().is_none_or(reaches) {
                return Verdict::unresolvable("node(s) didn't match PersistentVolume's node affinity");
            }
        }
        Verdict::Fit
    }
}
