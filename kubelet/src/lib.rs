//! kubelet: the node agent.
