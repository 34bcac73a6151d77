//! Flags that several commands take: about this machine, about the cluster.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::configuration::{Configuration, NodeRegistration};
use crate::layout::{Layout, bin_dir};
use crate::services::ServiceManager;
use crate::settings::{ExtraArgs, Settings, default_address, default_node_name};

/// About this machine.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Specify the node name; the host's name by default.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Path to the CRI socket to connect.
    #[arg(long)]
    pub cri_socket: Option<String>,
    /// The path where to save and store the certificates.
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Keep every file of the node below this directory instead of the system's places.
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// Who runs the units: systemd where it runs, else our supervisor.
    #[arg(long, value_enum)]
    pub service_manager: Option<ServiceManager>,
    /// A list of checks whose errors will be shown as warnings. Value 'all' ignores errors from all checks.
    #[arg(long, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// The IP address of this machine; that of the default route by default.
    #[arg(long)]
    pub apiserver_advertise_address: Option<IpAddr>,
}

/// About the cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Port for the API Server to bind to [default: 6443]
    #[arg(long)]
    pub apiserver_bind_port: Option<u16>,
    /// Extra Subject Alternative Names for the API Server serving certificate.
    #[arg(long, value_delimiter = ',')]
    pub apiserver_cert_extra_sans: Vec<String>,
    /// Specify a stable IP address or DNS name for the control plane.
    #[arg(long)]
    pub control_plane_endpoint: Option<String>,
    /// Use alternative range of IP address for service VIPs [default: 10.96.0.0/12]
    #[arg(long)]
    pub service_cidr: Option<String>,
    /// Range of IP addresses for the pod network [default: 10.244.0.0/16]
    #[arg(long)]
    pub pod_network_cidr: Option<String>,
    /// Use alternative domain for services [default: cluster.local]
    #[arg(long)]
    pub service_dns_domain: Option<String>,
}

impl NodeArgs {
    /// Where this node's files lie.
    pub fn layout(&self) -> Layout {
        Layout::new(self.state_dir.clone(), self.cert_dir.clone())
    }

    /// Who runs its units.
    pub fn manager(&self) -> ServiceManager {
        self.service_manager.unwrap_or_else(ServiceManager::detect)
    }

    /// Checks that only warn, by flag and by file.
    pub fn ignored(&self, file: &NodeRegistration) -> Vec<String> {
        [
            self.ignore_preflight_errors.clone(),
            file.ignore_preflight_errors.clone(),
        ]
        .concat()
    }

    /// Flags first, then the file, then defaults.
    pub fn settings(
        &self,
        flags: &ClusterArgs,
        file: &Configuration,
        node: &NodeRegistration,
    ) -> anyhow::Result<Settings> {
        let cert_dir = self
            .cert_dir
            .clone()
            .or_else(|| file.cluster.certificates_dir.clone());
        let layout = Layout::new(self.state_dir.clone(), cert_dir);
        let socket = format!("unix://{}", layout.runtime_socket().display());
        let or = |flag: &Option<String>, file: &Option<String>, default: &str| {
            flag.clone()
                .or_else(|| file.clone())
                .unwrap_or_else(|| default.to_owned())
        };
        let (cluster, endpoint) = (&file.cluster, &file.init.local_api_endpoint);
        let name = self.node_name.clone().or_else(|| node.name.clone());
        let address = self.apiserver_advertise_address.or(endpoint.advertise_address);
        Ok(Settings {
            bin_dir: bin_dir().context("find our own directory")?,
            node_name: name.map_or_else(default_node_name, Ok)?,
            advertise_address: address.map_or_else(default_address, Ok)?,
            bind_port: flags.apiserver_bind_port.or(endpoint.bind_port).unwrap_or(6443),
            control_plane_endpoint: flags
                .control_plane_endpoint
                .clone()
                .or_else(|| cluster.control_plane_endpoint.clone()),
            cert_extra_sans: [
                flags.apiserver_cert_extra_sans.clone(),
                cluster.api_server.cert_sans.clone(),
            ]
            .concat(),
            service_cidr: or(
                &flags.service_cidr,
                &cluster.networking.service_subnet,
                "10.96.0.0/12",
            ),
            pod_cidr: or(
                &flags.pod_network_cidr,
                &cluster.networking.pod_subnet,
                "10.244.0.0/16",
            ),
            dns_domain: or(
                &flags.service_dns_domain,
                &cluster.networking.dns_domain,
                "cluster.local",
            ),
            cri_socket: or(&self.cri_socket, &node.cri_socket, &socket),
            extra_args: ExtraArgs {
                store: cluster.etcd.local.extra_args.clone(),
                apiserver: cluster.api_server.extra_args.clone(),
                controller_manager: cluster.controller_manager.extra_args.clone(),
                scheduler: cluster.scheduler.extra_args.clone(),
                kubelet: node.kubelet_extra_args.clone(),
            },
            kubelet_overrides: file.kubelet.clone().unwrap_or_else(|| serde_json::json!({})),
            layout,
        })
    }
}
