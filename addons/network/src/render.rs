//! Text for the runtime and for `ip`, `bridge` and `nft`. Pure.

use ipnet::Ipv4Net;
use serde_json::json;

use crate::plan::{Desired, Tunnel, Via};

/// The CNI network list's file.
pub const CONF_FILE: &str = "10-keelson.conflist";
/// The network's name, which is also host-local's directory.
pub const NETWORK: &str = "keelson";
/// The bridge that pods are on.
pub const BRIDGE: &str = "cni0";
/// The VXLAN device.
pub const VXLAN: &str = "keelson.vxlan";
/// The nftables table.
pub const TABLE: &str = "keelson-network";
/// What marks our routes (`/etc/iproute2/rt_protos` leaves this free).
pub const PROTOCOL: u8 = 75;
/// IANA has 4789; this is Linux's and flannel's habit, out of the way of others' tunnels.
const VXLAN_PORT: u16 = 8472;
const VXLAN_ID: u32 = 75;

/// The CNI network list: bridge with hairpin, host-local addresses from the node's CIDR, host ports.
pub fn cni_conf(desired: &Desired) -> String {
    let list = json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "hairpinMode": true,
                "mtu": desired.mtu,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": desired.pod_cidr.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{list:#}\n")
}

/// One transaction: the table as it shall be, whatever it was.
pub fn nft(desired: &Desired) -> String {
    let (own, cluster) = (desired.pod_cidr, desired.cluster_cidr);
    format!(
        "table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n\
         \tcomment \"masquerades pods' traffic that leaves the cluster\"\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {own} ip daddr != {{ {cluster}, 224.0.0.0/4 }} masquerade\n\
         \t}}\n}}\n"
    )
}

/// Removes the table, also where there is none.
pub fn nft_delete() -> String {
    format!("table ip {TABLE}\ndelete table ip {TABLE}\n")
}

/// `ip -batch` lines that create our end of the tunnels.
pub fn tunnel(tunnel: &Tunnel) -> Vec<String> {
    let Tunnel {
        local,
        address,
        mac,
        link,
        mtu,
    } = tunnel;
    vec![
        format!(
            "link add {VXLAN} address {} type vxlan id {VXLAN_ID} dstport {VXLAN_PORT} local {local} dev {link} nolearning",
            hex(mac)
        ),
        format!("link set {VXLAN} mtu {mtu} up"),
        format!("address replace {address}/32 dev {VXLAN}"),
    ]
}

/// `ip -batch` lines that route to other nodes' pods.
pub fn routes(desired: &Desired) -> Vec<String> {
    let mut lines = Vec::new();
    for (net, via) in &desired.routes {
        match via {
            Via::Direct { gateway } => {
                lines.push(format!("route replace {net} via {gateway} proto {PROTOCOL}"));
            }
            Via::Tunnel { gateway, mac, .. } => {
                let mac = hex(mac);
                lines.push(format!(
                    "neigh replace {gateway} lladdr {mac} dev {VXLAN} nud permanent"
                ));
                lines.push(format!(
                    "route replace {net} via {gateway} dev {VXLAN} onlink proto {PROTOCOL}"
                ));
            }
        }
    }
    lines
}

/// `bridge -batch` lines that say which node has which tunnel MAC.
pub fn forwarding(desired: &Desired) -> Vec<String> {
    let tunnelled = desired.routes.values().filter_map(|via| match via {
        Via::Tunnel { mac, remote, .. } => Some((mac, remote)),
        Via::Direct { .. } => None,
    });
    tunnelled
        .map(|(mac, remote)| format!("fdb replace {} dev {VXLAN} dst {remote}", hex(mac)))
        .collect()
}

/// The `ip -batch` line that takes a route away.
pub fn route_delete(net: &Ipv4Net) -> String {
    format!("route del {net} proto {PROTOCOL}")
}

fn hex(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> Desired {
        Desired {
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            mtu: 1450,
            routes: [
                (
                    "10.244.1.0/24".parse().unwrap(),
                    Via::Direct {
                        gateway: "10.0.0.2".parse().unwrap(),
                    },
                ),
                (
                    "10.244.2.0/24".parse().unwrap(),
                    Via::Tunnel {
                        gateway: "10.244.2.0".parse().unwrap(),
                        mac: [2, 0x4b, 192, 168, 7, 3],
                        remote: "192.168.7.3".parse().unwrap(),
                    },
                ),
            ]
            .into(),
            tunnel: None,
        }
    }

    #[test]
    fn commands_say_what_the_plan_says() {
        assert_eq!(
            routes(&desired()),
            [
                "route replace 10.244.1.0/24 via 10.0.0.2 proto 75",
                "neigh replace 10.244.2.0 lladdr 02:4b:c0:a8:07:03 dev keelson.vxlan nud permanent",
                "route replace 10.244.2.0/24 via 10.244.2.0 dev keelson.vxlan onlink proto 75",
            ]
        );
        assert_eq!(
            forwarding(&desired()),
            ["fdb replace 02:4b:c0:a8:07:03 dev keelson.vxlan dst 192.168.7.3"]
        );
    }

    #[test]
    fn the_conf_is_json_with_the_nodes_cidr() {
        let conf: serde_json::Value = serde_json::from_str(&cni_conf(&desired())).unwrap();
        assert_eq!(
            conf["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.244.0.0/24"
        );
        assert_eq!(conf["plugins"][1]["type"], "portmap");
    }
}
