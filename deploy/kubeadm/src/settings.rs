//! What a cluster and this node of it shall be: flags and configuration file, checked once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::configuration::Arg;
use crate::layout::Layout;

/// Flags that an operator adds to those of the components.
#[derive(Clone, Debug, Default)]
pub struct ExtraArgs {
    pub store: Vec<Arg>,
    pub apiserver: Vec<Arg>,
    pub controller_manager: Vec<Arg>,
    pub scheduler: Vec<Arg>,
    pub kubelet: Vec<Arg>,
}

/// Everything the phases need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub layout: Layout,
    pub bin_dir: PathBuf,
    pub node_name: String,
    /// The address other machines reach this API server at.
    pub advertise_address: IpAddr,
    pub bind_port: u16,
    /// `host:port` that names the control plane instead of the advertised address.
    pub control_plane_endpoint: Option<String>,
    pub cert_extra_sans: Vec<String>,
    pub service_cidr: String,
    pub pod_cidr: String,
    pub dns_domain: String,
    /// The runtime's endpoint, `unix://...`.
    pub cri_socket: String,
    pub extra_args: ExtraArgs,
    /// Laid over the kubelets' configuration.
    pub kubelet_overrides: serde_json::Value,
}

impl Settings {
    /// `https://host:port` as kubeconfigs name it.
    pub fn server(&self) -> String {
        let host = match (&self.control_plane_endpoint, self.advertise_address) {
            (Some(endpoint), _) if endpoint.contains(':') => return format!("https://{endpoint}"),
            (Some(endpoint), _) => endpoint.clone(),
            (None, IpAddr::V6(address)) => format!("[{address}]"),
            (None, IpAddr::V4(address)) => address.to_string(),
        };
        format!("https://{host}:{}", self.bind_port)
    }

    /// `host:port` for `kubeadm join`.
    pub fn endpoint(&self) -> String {
        self.server().trim_start_matches("https://").to_owned()
    }

    /// The `n`th address of the service range: 1 is the API server's, 10 the cluster DNS'.
    pub fn service_address(&self, n: u32) -> anyhow::Result<IpAddr> {
        nth_address(&self.service_cidr, n)
    }
}

/// The `n`th address of `cidr`; of a dual-stack list the first range counts.
pub fn nth_address(cidr: &str, n: u32) -> anyhow::Result<IpAddr> {
    let first = cidr.split(',').next().unwrap_or(cidr);
    let Some((base, length)) = first.split_once('/') else {
        bail!("{first:?} is no CIDR: write it as 10.96.0.0/12");
    };
    let length: u32 = length
        .parse()
        .with_context(|| format!("prefix length of {first:?}"))?;
    match base.parse().with_context(|| format!("address of {first:?}"))? {
        IpAddr::V4(address) if length <= 28 => Ok(Ipv4Addr::from(u32::from(address) + n).into()),
        IpAddr::V6(address) if length <= 124 => {
            Ok(std::net::Ipv6Addr::from(u128::from(address) + u128::from(n)).into())
        }
        _ => bail!("the range {first} is too small: it must hold at least 16 addresses"),
    }
}

/// This host's address towards others: that of the default route, as the kernel chooses it (nothing is sent).
pub fn default_address() -> anyhow::Result<IpAddr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
    let far: SocketAddr = (Ipv4Addr::new(198, 18, 0, 1), 9).into();
    probe
        .connect(far)
        .context("this host has no default route: name its address with --apiserver-advertise-address")?;
    Ok(probe.local_addr().context("read the socket's address")?.ip())
}

/// The host's name in the form of a node's.
pub fn default_node_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?;
    Ok(name.trim().to_lowercase())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn sample() -> Settings {
        Settings {
            layout: Layout::new(Some("/x".into()), None),
            bin_dir: "/b".into(),
            node_name: "one".into(),
            advertise_address: "192.0.2.7".parse().unwrap(),
            bind_port: 6443,
            control_plane_endpoint: None,
            cert_extra_sans: Vec::new(),
            service_cidr: "10.96.0.0/12".into(),
            pod_cidr: "10.244.0.0/16".into(),
            dns_domain: "cluster.local".into(),
            cri_socket: "unix:///x/run/containerd/containerd.sock".into(),
            extra_args: ExtraArgs::default(),
            kubelet_overrides: serde_json::json!({}),
        }
    }

    #[test]
    fn service_addresses_count_from_the_base() {
        assert_eq!(sample().service_address(10).unwrap().to_string(), "10.96.0.10");
        assert_eq!(nth_address("fd00::/108", 1).unwrap().to_string(), "fd00::1");
        assert!(nth_address("10.0.0.0/30", 1).is_err());
        assert!(nth_address("10.0.0.0", 1).is_err());
    }

    #[test]
    fn the_endpoint_may_be_named() {
        let mut settings = sample();
        assert_eq!(settings.server(), "https://192.0.2.7:6443");
        settings.control_plane_endpoint = Some("api.example".into());
        assert_eq!(settings.endpoint(), "api.example:6443");
    }
}
