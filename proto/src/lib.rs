//! Wire definitions of the protocols between components, generated from `proto/`.
//!
//! Byte fields are `bytes::Bytes`, so that values pass from the wire to the log without a copy.

#![allow(clippy::all, clippy::too_many_lines, missing_docs)]

/// etcd v3.
pub mod etcd {
    /// The definitions themselves, as an encoded `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.bin"));

    /// Key-value pairs and watch events.
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    /// Users, roles, permissions.
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    /// KV, Watch, Lease, Cluster, Maintenance, Auth.
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    /// Lock.
    pub mod v3lockpb {
        tonic::include_proto!("v3lockpb");
    }
    /// Election.
    pub mod v3electionpb {
        tonic::include_proto!("v3electionpb");
    }
}

/// Container Runtime Interface v1.
pub mod cri {
    /// RuntimeService and ImageService.
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}
