//! Cluster IPs: an address is taken by creating the IPAddress object of its name (KEP-1880).

use std::net::IpAddr;

use ipnet::IpNet;
use keelson_machinery::{GroupResource, ObjectReader, Value, meta};
use rand::Rng;
use serde_json::json;

use super::Held;
use crate::server::Server;

pub const ADDRESSES: GroupResource = GroupResource::new("networking.k8s.io", "ipaddresses");
const CIDRS: GroupResource = GroupResource::new("networking.k8s.io", "servicecidrs");
/// Addresses tried one after another before a range counts as full for this request.
const ATTEMPTS_MAX: u128 = 1 << 16;

/// Gives out cluster IPs.
#[derive(Debug)]
pub struct ClusterIps {
    ranges: Vec<IpNet>,
}

impl ClusterIps {
    /// # Errors
    /// A text that is no CIDR.
    pub fn new(ranges: &[String]) -> anyhow::Result<Self> {
        let ranges: Vec<IpNet> = ranges
            .iter()
            .map(|text| {
                text.parse::<IpNet>()
                    .map(|net| net.trunc())
                    .map_err(|error| anyhow::anyhow!("--service-cluster-ip-range: {text:?}: {error}"))
            })
            .collect::<Result<_, _>>()?;
        anyhow::ensure!(!ranges.is_empty(), "--service-cluster-ip-range names no range");
        Ok(Self { ranges })
    }

    /// `--service-cluster-ip-range`.
    pub fn ranges(&self) -> &[IpNet] {
        &self.ranges
    }

    /// The `kubernetes` Service's address: the first of the first range.
    pub fn first(&self) -> Option<IpAddr> {
        self.ranges.first().and_then(|range| nth(range, 1))
    }

    /// All ranges of a family: the flag's, and those of ServiceCIDR objects.
    fn of_family(&self, server: &Server, v6: bool) -> Vec<IpNet> {
        let mut all = self.ranges.clone();
        for cidr in server.reader.list(&CIDRS, None) {
            if meta::deletion_timestamp(&cidr).is_some() {
                continue;
            }
            let texts = cidr["spec"]["cidrs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            all.extend(texts.filter_map(|text| text.parse::<IpNet>().ok()));
        }
        all.retain(|range| matches!(range, IpNet::V6(_)) == v6);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Fills in `clusterIPs`; addresses asked for are taken as they are.
    ///
    /// # Errors
    /// Upstream's text for the field.
    pub async fn give(
        &self,
        server: &Server,
        service: &mut Value,
        before: &Held,
        dry_run: bool,
        taken: &mut Held,
    ) -> Result<(), String> {
        let mut ips: Vec<String> = strings(&service["spec"]["clusterIPs"]);
        let families = strings(&service["spec"]["ipFamilies"]);
        let wanted = families.len().max(1);
        for ip in &ips {
            if before.ips.contains(ip) {
                continue;
            }
            self.take_named(server, service, ip, dry_run, taken).await?;
        }
        while ips.len() < wanted {
            let family = families.get(ips.len()).map_or("IPv4", String::as_str);
            let v6 = match families.is_empty() {
                true => matches!(self.ranges[0], IpNet::V6(_)),
                false => family == "IPv6",
            };
            ips.push(self.take_any(server, service, v6, dry_run, taken).await?);
        }
        service["spec"]["clusterIP"] = ips[0].clone().into();
        service["spec"]["clusterIPs"] = ips.into();
        Ok(())
    }

    async fn take_named(
        &self,
        server: &Server,
        service: &Value,
        ip: &str,
        dry_run: bool,
        taken: &mut Held,
    ) -> Result<(), String> {
        let fail = |why: String| Err(format!("failed to allocate IP {ip}: {why}"));
        let Ok(address) = ip.parse::<IpAddr>() else {
            return fail("not a valid IP".to_owned());
        };
        let ranges = self.of_family(server, address.is_ipv6());
        if !ranges.iter().any(|range| range.contains(&address)) {
            let listed: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            return fail(format!(
                "the provided network does not match the current range {}",
                listed.join(",")
            ));
        }
        match take(server, service, &address, dry_run).await {
            Ok(true) => {
                if !dry_run {
                    taken.ips.push(address.to_string());
                }
                Ok(())
            }
            Ok(false) => fail("provided IP is already allocated".to_owned()),
            Err(error) => fail(error),
        }
    }

    /// A free address: at random from the upper part of a range, then in order (KEP-3070's bands).
    async fn take_any(
        &self,
        server: &Server,
        service: &Value,
        v6: bool,
        dry_run: bool,
        taken: &mut Held,
    ) -> Result<String, String> {
        for range in self.of_family(server, v6) {
            let size = size(&range);
            let reserved = static_band(size);
            let span = size.saturating_sub(reserved + 1).max(1);
            let start = rand::rng().random_range(0..span);
            let upper = (0..span).map(|step| reserved + (start + step) % span);
            let lower = (1..reserved).rev();
            for offset in upper
                .chain(lower)
                .take(usize::try_from(ATTEMPTS_MAX).unwrap_or(usize::MAX))
            {
                let Some(address) = nth(&range, offset).filter(|_| offset > 0) else {
                    continue;
                };
                if server
                    .reader
                    .get(&ADDRESSES, None, &address.to_string())
                    .is_some()
                {
                    continue;
                }
                if take(server, service, &address, dry_run).await? {
                    if !dry_run {
                        taken.ips.push(address.to_string());
                    }
                    return Ok(address.to_string());
                }
            }
        }
        Err("failed to allocate a serviceIP: range is full".to_owned())
    }

    /// Gives an address back, whoever holds it.
    pub async fn release(&self, server: &Server, ip: &str) -> Result<(), keelson_machinery::Status> {
        let name = ip
            .parse::<IpAddr>()
            .map_or_else(|_| ip.to_owned(), |ip| ip.to_string());
        server
            .delete_own(&ADDRESSES, "", &name, |_| true)
            .await
            .map(|_| ())
    }
}

/// `false`: somebody has it.
async fn take(server: &Server, service: &Value, address: &IpAddr, dry_run: bool) -> Result<bool, String> {
    if dry_run {
        return Ok(server
            .reader
            .get(&ADDRESSES, None, &address.to_string())
            .is_none());
    }
    server
        .create_own(&ADDRESSES, object(service, address))
        .await
        .map_err(|error| error.to_string())
}

/// The IPAddress of a Service's address.
pub fn object(service: &Value, address: &IpAddr) -> Value {
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    json!({
        "metadata": {
            "name": address.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services",
            "namespace": meta::namespace(service), "name": meta::name(service),
        }},
    })
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Addresses in the range, the last (broadcast) left out for IPv4.
fn size(range: &IpNet) -> u128 {
    match range {
        IpNet::V4(net) => (1_u128 << (32 - net.prefix_len())).saturating_sub(1),
        IpNet::V6(net) => 1_u128 << (128 - net.prefix_len()).min(64),
    }
}

/// The lower part of a range that is given out only on request, or when the rest is full.
fn static_band(size: u128) -> u128 {
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
}

fn nth(range: &IpNet, offset: u128) -> Option<IpAddr> {
    match range {
        IpNet::V4(net) => {
            let base = u32::from(net.network());
            base.checked_add(u32::try_from(offset).ok()?)
                .map(std::net::Ipv4Addr::from)
                .map(IpAddr::from)
        }
        IpNet::V6(net) => u128::from(net.network())
            .checked_add(offset)
            .map(std::net::Ipv6Addr::from)
            .map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_and_split_as_upstreams() {
        let net: IpNet = "10.96.0.0/12".parse().unwrap();
        assert_eq!(size(&net), (1 << 20) - 1);
        assert_eq!(static_band(size(&net)), 256);
        assert_eq!(static_band(255), 16);
        assert_eq!(static_band(15), 0);
        assert_eq!(nth(&net, 1).unwrap().to_string(), "10.96.0.1");
    }

    #[test]
    fn the_first_address_is_the_kubernetes_services() {
        let ips = ClusterIps::new(&["10.96.0.0/12".to_owned(), "fd00::/108".to_owned()]).unwrap();
        assert_eq!(ips.first().unwrap().to_string(), "10.96.0.1");
        assert!(ClusterIps::new(&["nope".to_owned()]).is_err());
        assert!(ClusterIps::new(&[]).is_err());
    }
}
