//! Brings what is allocated in step with the Services: after a crash between taking and writing, or a takeover from
//! another server.

use std::collections::HashSet;
use std::net::IpAddr;

use keelson_machinery::{GroupResource, ObjectReader, Status, Value, meta};

use super::Held;
use super::cluster_ip::{ADDRESSES, object};
use crate::server::Server;

const SERVICES: GroupResource = GroupResource::new("", "services");
/// An address of no Service is left alone this long: its Service may be about to be written.
const YOUNG_S: i64 = 60;

/// Takes what Services hold, gives back what none holds.
pub async fn run(server: &Server) -> Result<(), Status> {
    let services = server.reader.list(&SERVICES, None);
    let mut ports = Vec::new();
    let mut addresses: HashSet<String> = HashSet::new();
    for service in &services {
        let held = Held::by(service);
        ports.extend(held.ports);
        for ip in held.ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            addresses.insert(ip.to_string());
            if server.reader.get(&ADDRESSES, None, &ip.to_string()).is_none() {
                server.create_own(&ADDRESSES, object(service, &ip)).await?;
            }
        }
    }
    let now = jiff::Timestamp::now().as_second();
    for address in server.reader.list(&ADDRESSES, None) {
        if is_ours(&address) && !addresses.contains(meta::name(&address)) && !is_young(&address, now) {
            let uid = meta::uid(&address);
            let name = meta::name(&address);
            server
                .delete_own(&ADDRESSES, "", name, |stored| meta::uid(stored) == uid)
                .await?;
        }
    }
    server.allocators.ports.repair(server, &ports).await
}

fn is_ours(address: &Value) -> bool {
    meta::label(address, "ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io")
}

fn is_young(address: &Value, now: i64) -> bool {
    let created =
        meta::creation_timestamp(address).and_then(|text| keelson_machinery::time::parse(text).ok());
    created.is_some_and(|created| now - created.as_second() < YOUNG_S)
}
