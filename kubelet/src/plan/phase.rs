//! Where a pod is in its life on this node.
//!
//! ```text
//! Syncing --DeleteRequested|Finished|Rejected|Gone--> Terminating --ContainersStopped--> Terminated --ResourcesReleased--> Released
//! ```
//! A pod never moves backwards; a new pod of the same name has another uid and its own worker.

/// The phases of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Containers are started and kept running.
    Syncing,
    /// Containers are being stopped.
    Terminating,
    /// Nothing runs; volumes and cgroups are being released.
    Terminated,
    /// Nothing of the pod is left but dead containers for `kubectl logs` and the API object.
    Released,
}

/// What happened to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// The spec was added or changed.
    Updated,
    /// The API server set a deletion time, or shortened the grace period.
    DeleteRequested,
    /// All containers ended and none is to be restarted.
    Finished,
    /// Admission refused the pod, it was evicted or its deadline passed.
    Rejected,
    /// The API object vanished.
    Gone,
    /// The runtime has no running container and no ready sandbox of the pod.
    ContainersStopped,
    /// Volumes and cgroups are gone.
    ResourcesReleased,
}

/// The phase after an event.
pub fn next_phase(phase: Phase, event: PodEvent) -> Phase {
    use Phase as P;
    use PodEvent as E;
    match (phase, event) {
        (P::Syncing, E::DeleteRequested | E::Finished | E::Rejected | E::Gone) => P::Terminating,
        (P::Terminating, E::ContainersStopped) => P::Terminated,
        (P::Terminated, E::ResourcesReleased) => P::Released,
        (phase, _) => phase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_only_moves_forward() {
        use Phase::*;
        use PodEvent::*;
        let order = [Syncing, Terminating, Terminated, Released];
        let rank = |p: Phase| order.iter().position(|o| *o == p).unwrap();
        for phase in order {
            for event in [
                Updated,
                DeleteRequested,
                Finished,
                Rejected,
                Gone,
                ContainersStopped,
                ResourcesReleased,
            ] {
                assert!(rank(next_phase(phase, event)) >= rank(phase));
            }
        }
        assert_eq!(next_phase(Syncing, ContainersStopped), Syncing);
        assert_eq!(next_phase(Syncing, Gone), Terminating);
        assert_eq!(next_phase(Terminating, ContainersStopped), Terminated);
    }
}
