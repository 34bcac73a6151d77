//! kube-store: etcd's v3 API over Raft.
