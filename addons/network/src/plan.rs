//! What this node's network shall be. Pure.
//!
//! A node on the same link is reached directly; any other through a VXLAN device. Nothing about VXLAN is exchanged: a
//! node's tunnel address is the first of its pod CIDR and its MAC is made from its address, so Node objects suffice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

/// Bytes VXLAN takes from a packet.
const VXLAN_OVERHEAD: u32 = 50;

/// A node, as far as the network is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub pod_cidr: Ipv4Net,
    /// Its InternalIP.
    pub address: Ipv4Addr,
}

impl Member {
    /// `None` while the node has no pod CIDR or no address yet.
    pub fn new(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref()?;
        let cidrs = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        let addresses = node.status.as_ref()?.addresses.iter().flatten();
        let mut internal = addresses.filter(|a| a.type_ == "InternalIP");
        Some(Self {
            name: node.metadata.name.clone()?,
            pod_cidr: cidrs.filter_map(|c| c.parse().ok()).next()?,
            address: internal.find_map(|a| a.address.parse().ok())?,
        })
    }
}

/// The link that has this node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The address with the link's prefix.
    pub net: Ipv4Net,
    pub mtu: u32,
}

/// How another node's pods are reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// The node is on our link.
    Direct { gateway: Ipv4Addr },
    /// Through the VXLAN device: tunnel address, its MAC, and the node's address.
    Tunnel {
        gateway: Ipv4Addr,
        mac: [u8; 6],
        remote: Ipv4Addr,
    },
}

/// Our end of the tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub local: Ipv4Addr,
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
    pub link: String,
    pub mtu: u32,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub pod_cidr: Ipv4Net,
    pub cluster_cidr: Ipv4Net,
    pub mtu: u32,
    pub routes: BTreeMap<Ipv4Net, Via>,
    pub tunnel: Option<Tunnel>,
}

/// The desired network; `None` while this node has no pod CIDR.
pub fn plan(own_name: &str, members: &[Member], link: &Link, cluster_cidr: Ipv4Net) -> Option<Desired> {
    let own = members.iter().find(|m| m.name == own_name)?;
    let others = members
        .iter()
        .filter(|m| m.name != own_name && m.pod_cidr != own.pod_cidr);
    let routes: BTreeMap<Ipv4Net, Via> = others.map(|m| (m.pod_cidr, via(m, link))).collect();
    let tunnelled = routes.values().any(|via| matches!(via, Via::Tunnel { .. }));
    let mtu = if tunnelled {
        link.mtu.saturating_sub(VXLAN_OVERHEAD)
    } else {
        link.mtu
    };
    let tunnel = tunnelled.then(|| Tunnel {
        local: link.net.addr(),
        address: own.pod_cidr.network(),
        mac: mac(own.address),
        link: link.name.clone(),
        mtu,
    });
    Some(Desired {
        pod_cidr: own.pod_cidr,
        cluster_cidr,
        mtu,
        routes,
        tunnel,
    })
}

fn via(member: &Member, link: &Link) -> Via {
    if link.net.contains(&member.address) {
        return Via::Direct {
            gateway: member.address,
        };
    }
    Via::Tunnel {
        gateway: member.pod_cidr.network(),
        mac: mac(member.address),
        remote: member.address,
    }
}

/// A locally administered MAC that says which node it is.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x4b, a, b, c, d]
}

/// Routes that are there and no longer wanted.
pub fn obsolete(present: &BTreeSet<Ipv4Net>, desired: &Desired) -> Vec<Ipv4Net> {
    present
        .iter()
        .filter(|net| !desired.routes.contains_key(net))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, cidr: &str, address: &str) -> Member {
        Member {
            name: name.into(),
            pod_cidr: cidr.parse().unwrap(),
            address: address.parse().unwrap(),
        }
    }

    fn link() -> Link {
        Link {
            name: "eth0".into(),
            net: "10.0.0.1/24".parse().unwrap(),
            mtu: 1500,
        }
    }

    #[test]
    fn neighbours_are_direct_and_others_tunnelled() {
        let cluster = "10.244.0.0/16".parse().unwrap();
        let mut members = vec![
            member("a", "10.244.0.0/24", "10.0.0.1"),
            member("b", "10.244.1.0/24", "10.0.0.2"),
        ];
        let desired = plan("a", &members, &link(), cluster).unwrap();
        let direct = Via::Direct {
            gateway: "10.0.0.2".parse().unwrap(),
        };
        assert_eq!(
            desired.routes,
            [("10.244.1.0/24".parse().unwrap(), direct)].into()
        );
        assert_eq!((desired.tunnel.as_ref(), desired.mtu), (None, 1500));

        members.push(member("c", "10.244.2.0/24", "192.168.7.3"));
        let desired = plan("a", &members, &link(), cluster).unwrap();
        let far = Via::Tunnel {
            gateway: "10.244.2.0".parse().unwrap(),
            mac: [2, 0x4b, 192, 168, 7, 3],
            remote: "192.168.7.3".parse().unwrap(),
        };
        assert_eq!(desired.routes[&"10.244.2.0/24".parse().unwrap()], far);
        assert_eq!(
            (desired.tunnel.unwrap().mac, desired.mtu),
            ([2, 0x4b, 10, 0, 0, 1], 1450)
        );
    }

    #[test]
    fn nothing_before_the_node_has_a_cidr() {
        let node: Node = serde_json::from_str(
            r#"{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}"#,
        )
        .unwrap();
        assert_eq!(Member::new(&node), None);
        assert_eq!(plan("a", &[], &link(), "10.244.0.0/16".parse().unwrap()), None);
    }

    #[test]
    fn routes_of_nodes_that_left_are_obsolete() {
        let members = [
            member("a", "10.244.0.0/24", "10.0.0.1"),
            member("b", "10.244.1.0/24", "10.0.0.2"),
        ];
        let desired = plan("a", &members, &link(), "10.244.0.0/16".parse().unwrap()).unwrap();
        let present = ["10.244.1.0/24".parse().unwrap(), "10.244.9.0/24".parse().unwrap()].into();
        assert_eq!(obsolete(&present, &desired), ["10.244.9.0/24".parse().unwrap()]);
    }
}
