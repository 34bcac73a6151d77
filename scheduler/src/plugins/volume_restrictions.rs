//! VolumeRestrictions: a disk that one node may write is not given to two pods; a `ReadWriteOncePod` claim has one
//! pod in the whole cluster.

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Verdict};
use crate::hint::Change;
use crate::model::class::{Class, Requirements};
use crate::model::volume::Volume;

pub(super) const ROW: Row = Row {
    name: "VolumeRestrictions",
    weight: 0,
    scope: Scope::Cluster,
    make: |_| Made {
        filter: Some(Box::new(VolumeRestrictions)),
        score: None,
    },
    hint: |change, pod| match change {
        Change::PodRemoved { class } => class.volumes.iter().any(|v| pod.volumes.contains(v)),
        Change::NodeAdded(_) | Change::Storage => true,
        _ => false,
    },
};

struct VolumeRestrictions;

/// Whether both uses of a disk cannot be on one node.
fn conflict(a: &Volume, b: &Volume) -> bool {
    match (a, b) {
        (Volume::Disk { id: a, read_only: ra }, Volume::Disk { id: b, read_only: rb }) => {
            a == b && !(*ra && *rb)
        }
        _ => false,
    }
}

/// The claims of the pod that only one pod may use.
fn exclusive<'a>(cycle: &'a Cycle, pod: &'a Requirements) -> impl Iterator<Item = &'a str> {
    let claims = &cycle.cluster.objects.claims;
    pod.volumes.iter().filter_map(move |volume| match volume {
        Volume::Claim { name, .. } => {
            let claim = claims.get(&(pod.namespace.clone(), name.clone()))?;
            claim.exclusive.then_some(&**name)
        }
        Volume::Disk { .. } => None,
    })
}

impl Filter for VolumeRestrictions {
    fn active(&self, _: &Cycle, pod: &Requirements) -> bool {
        !pod.volumes.is_empty()
    }

    fn filter(&self, cycle: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        let taken = at.node.pods.iter().flat_map(|p| &p.class.volumes);
        if taken
            .clone()
            .any(|t| pod.volumes.iter().any(|own| conflict(own, t)))
        {
            return Verdict::unschedulable("node(s) had no available disk");
        }
        let uses = |class: &Class, claim: &str| {
            let names = class
                .volumes
                .iter()
                .filter(|v| matches!(v, Volume::Claim { name, .. } if **name == *claim));
            class.namespace == pod.namespace && names.count() > 0
        };
        for claim in exclusive(cycle, pod) {
            let here = at.node.pods.iter().any(|p| uses(&p.class, claim));
            let elsewhere = cycle.cluster.placements_in(&pod.namespace).any(|placement| {
                uses(&placement.class, claim) && placement.nodes.iter().any(|(index, _)| index != at.index)
            });
            if here || elsewhere {
                let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
                return Verdict::unschedulable(reason);
            }
        }
        Verdict::Fit
    }
}
