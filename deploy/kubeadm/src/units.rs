//! The systemd units of a node: one table, rendered to files that systemd or our supervisor runs.
//!
//! Flags are those upstream's kubeadm gives its static pods, where they still exist. Every unit restarts by itself
//! and tells when it is ready (`Type=notify`); those that start containers leave them running when they stop.

use std::path::Path;

use crate::configuration::with_extra_args;
use crate::settings::Settings;

/// One service.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: &'static str,
    pub description: &'static str,
    /// Units that are started before this one; none is waited for to the end: components wait by themselves.
    pub after: Vec<&'static str>,
    pub command: Vec<String>,
    /// Whether stopping ends only the process itself, not what it started.
    pub leaves_children: bool,
    pub notify: bool,
}

/// What those that elect a leader follow: stopped before the API server they can release their lease, which would
/// otherwise keep the next ones waiting for 15 s after a reboot.
const LEADER_AFTER: [&str; 1] = ["kube-apiserver"];

/// The units of a control-plane node, in the order they are started.
pub fn control_plane(settings: &Settings) -> Vec<Unit> {
    let mut units = runtime(settings);
    units.extend([
        kube_store(settings),
        kube_apiserver(settings),
        controller_manager(settings),
        scheduler(settings),
    ]);
    units.extend(node(settings, &NodeIdentities::control_plane()));
    units
}

/// The units of a worker.
pub fn worker(settings: &Settings) -> Vec<Unit> {
    let mut units = runtime(settings);
    units.extend(node(settings, &NodeIdentities::worker()));
    units
}

/// Which kubeconfig each component of a node uses. A worker's components share the kubelet's, because that one
/// is renewed by itself and so nothing on a worker expires (docs/decisions/0003-worker-identities.md).
pub struct NodeIdentities {
    proxy: &'static str,
    dns: &'static str,
    network: &'static str,
    bootstrap: bool,
}

impl NodeIdentities {
    fn control_plane() -> Self {
        Self {
            proxy: "kube-proxy",
            dns: "cluster-dns",
            network: "network",
            bootstrap: false,
        }
    }

    fn worker() -> Self {
        Self {
            proxy: "kubelet",
            dns: "kubelet",
            network: "kubelet",
            bootstrap: true,
        }
    }
}

/// The private containerd of the local form; a system has its own service.
fn runtime(settings: &Settings) -> Vec<Unit> {
    if !settings.layout.is_local() {
        return Vec::new();
    }
    let config = settings.layout.containerd().join("config.toml");
    vec![Unit {
        name: "containerd",
        description: "containerd container runtime",
        after: vec![],
        command: vec![
            "/usr/bin/containerd".to_owned(),
            "--config".to_owned(),
            text(&config),
        ],
        leaves_children: true,
        notify: true,
    }]
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn unit(settings: &Settings, name: &'static str, description: &'static str, flags: Vec<String>) -> Unit {
    let mut command = vec![text(&settings.bin_dir.join(name))];
    command.extend(flags);
    Unit {
        name,
        description,
        after: vec![],
        command,
        leaves_children: false,
        notify: true,
    }
}

fn kube_store(settings: &Settings) -> Unit {
    let pki = |name: &str| text(&settings.layout.pki_file(name));
    let address = settings.advertise_address;
    let flags = vec![
        format!("--name={}", settings.node_name),
        format!("--data-dir={}", text(&settings.layout.store())),
        format!("--listen-client-urls=https://127.0.0.1:2379,https://{address}:2379"),
        format!("--advertise-client-urls=https://{address}:2379"),
        format!("--listen-peer-urls=https://{address}:2380"),
        format!("--initial-advertise-peer-urls=https://{address}:2380"),
        format!("--initial-cluster={}=https://{address}:2380", settings.node_name),
        format!("--cert-file={}", pki("etcd/server.crt")),
        format!("--key-file={}", pki("etcd/server.key")),
        format!("--trusted-ca-file={}", pki("etcd/ca.crt")),
        "--client-cert-auth=true".to_owned(),
        format!("--peer-cert-file={}", pki("etcd/peer.crt")),
        format!("--peer-key-file={}", pki("etcd/peer.key")),
        format!("--peer-trusted-ca-file={}", pki("etcd/ca.crt")),
        "--peer-client-cert-auth=true".to_owned(),
        "--listen-metrics-urls=http://127.0.0.1:2381".to_owned(),
        "--watch-progress-notify-interval=5s".to_owned(),
    ];
    unit(
        settings,
        "kube-store",
        "Keelson store (etcd v3 API over Raft)",
        with_extra_args(flags, &settings.extra_args.store),
    )
}

fn kube_apiserver(settings: &Settings) -> Unit {
    let pki = |name: &str| text(&settings.layout.pki_file(name));
    let flags = vec![
        format!("--advertise-address={}", settings.advertise_address),
        format!("--secure-port={}", settings.bind_port),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--enable-bootstrap-token-auth=true".to_owned(),
        "--etcd-servers=https://127.0.0.1:2379".to_owned(),
        format!("--etcd-cafile={}", pki("etcd/ca.crt")),
        format!("--etcd-certfile={}", pki("apiserver-etcd-client.crt")),
        format!("--etcd-keyfile={}", pki("apiserver-etcd-client.key")),
        format!(
            "--kubelet-client-certificate={}",
            pki("apiserver-kubelet-client.crt")
        ),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!(
            "--service-account-issuer=https://kubernetes.default.svc.{}",
            settings.dns_domain
        ),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        format!("--service-cluster-ip-range={}", settings.service_cidr),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
    ];
    let flags = with_extra_args(flags, &settings.extra_args.apiserver);
    let mut unit = unit(settings, "kube-apiserver", "Kubernetes API server", flags);
    unit.after = vec!["kube-store"];
    unit
}

fn controller_manager(settings: &Settings) -> Unit {
    let pki = |name: &str| text(&settings.layout.pki_file(name));
    let conf = text(&settings.layout.conf("controller-manager"));
    let flags = vec![
        "--allocate-node-cidrs=true".to_owned(),
        format!("--authentication-kubeconfig={conf}"),
        format!("--authorization-kubeconfig={conf}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--cluster-cidr={}", settings.pod_cidr),
        "--cluster-name=kubernetes".to_owned(),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
        format!("--kubeconfig={conf}"),
        "--leader-elect=true".to_owned(),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--service-account-private-key-file={}", pki("sa.key")),
        format!("--service-cluster-ip-range={}", settings.service_cidr),
        "--use-service-account-credentials=true".to_owned(),
    ];
    let flags = with_extra_args(flags, &settings.extra_args.controller_manager);
    let mut unit = unit(
        settings,
        "kube-controller-manager",
        "Kubernetes controller manager",
        flags,
    );
    unit.after = LEADER_AFTER.to_vec();
    unit
}

fn scheduler(settings: &Settings) -> Unit {
    let conf = text(&settings.layout.conf("scheduler"));
    let flags = vec![
        format!("--authentication-kubeconfig={conf}"),
        format!("--authorization-kubeconfig={conf}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--kubeconfig={conf}"),
        "--leader-elect=true".to_owned(),
    ];
    let flags = with_extra_args(flags, &settings.extra_args.scheduler);
    let mut unit = unit(settings, "kube-scheduler", "Kubernetes scheduler", flags);
    unit.after = LEADER_AFTER.to_vec();
    unit
}

fn node(settings: &Settings, identities: &NodeIdentities) -> Vec<Unit> {
    vec![
        kubelet(settings, identities),
        kube_proxy(settings, identities),
        network(settings, identities),
        cluster_dns(settings, identities),
    ]
}

fn kubelet(settings: &Settings, identities: &NodeIdentities) -> Unit {
    let layout = &settings.layout;
    let mut flags = vec![
        format!("--kubeconfig={}", text(&layout.conf("kubelet"))),
        format!("--config={}", text(&layout.kubelet().join("config.yaml"))),
        format!("--hostname-override={}", settings.node_name),
        format!("--node-ip={}", settings.advertise_address),
        format!("--root-dir={}", text(&layout.kubelet())),
        format!("--cert-dir={}", text(&layout.kubelet().join("pki"))),
        format!("--container-runtime-endpoint={}", settings.cri_socket),
    ];
    if identities.bootstrap {
        flags.push(format!(
            "--bootstrap-kubeconfig={}",
            text(&layout.conf("bootstrap-kubelet"))
        ));
    }
    let flags = with_extra_args(flags, &settings.extra_args.kubelet);
    let mut unit = unit(settings, "kubelet", "Kubernetes node agent", flags);
    unit.after = vec!["containerd"];
    unit.leaves_children = true;
    unit
}

fn kube_proxy(settings: &Settings, identities: &NodeIdentities) -> Unit {
    let flags = vec![
        format!("--kubeconfig={}", text(&settings.layout.conf(identities.proxy))),
        format!("--hostname-override={}", settings.node_name),
        format!("--cluster-cidr={}", settings.pod_cidr),
        "--proxy-mode=nftables".to_owned(),
    ];
    unit(
        settings,
        "kube-proxy",
        "Kubernetes service proxy (nftables)",
        flags,
    )
}

fn network(settings: &Settings, identities: &NodeIdentities) -> Unit {
    let flags = vec![
        format!("--kubeconfig={}", text(&settings.layout.conf(identities.network))),
        format!("--node-name={}", settings.node_name),
        format!("--cni-conf-dir={}", text(&settings.layout.cni_conf())),
        format!("--cluster-cidr={}", settings.pod_cidr),
    ];
    unit(settings, "keelson-network", "Pod network between nodes", flags)
}

fn cluster_dns(settings: &Settings, identities: &NodeIdentities) -> Unit {
    let flags = vec![
        format!("--kubeconfig={}", text(&settings.layout.conf(identities.dns))),
        format!("--node-name={}", settings.node_name),
        format!("--node-ip={}", settings.advertise_address),
        format!("--cluster-domain={}", settings.dns_domain),
    ];
    unit(settings, "cluster-dns", "Cluster DNS", flags)
}

/// The unit file's text.
pub fn render(unit: &Unit) -> String {
    let mut after = vec!["network-online.target".to_owned()];
    after.extend(unit.after.iter().map(|name| format!("{name}.service")));
    let kind = if unit.notify { "notify" } else { "exec" };
    let kill = if unit.leaves_children { "process" } else { "mixed" };
    format!(
        "[Unit]\nDescription={}\nDocumentation=https://kubernetes.io/docs/\nWants=network-online.target\nAfter={}\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\nType={kind}\nNotifyAccess=main\nExecStart={}\nRestart=always\nRestartSec=200ms\nKillMode={kill}\n\
         LimitNOFILE=1048576\nTimeoutStartSec=infinity\nTimeoutStopSec=30s\nDelegate=yes\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        unit.description,
        after.join(" "),
        unit.command.join(" \\\n    "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_node_runs_the_six_components() {
        let units = control_plane(&crate::settings::tests::sample());
        let names: Vec<&str> = units.iter().map(|unit| unit.name).collect();
        for name in [
            "kube-store",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        ] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
    }

    #[test]
    fn a_workers_kubelet_bootstraps() {
        let units = worker(&crate::settings::tests::sample());
        let kubelet = units.iter().find(|unit| unit.name == "kubelet").unwrap();
        assert!(render(kubelet).contains("--bootstrap-kubeconfig=/x/bootstrap-kubelet.conf"));
        assert!(render(kubelet).contains("KillMode=process"));
    }

    #[test]
    fn units_tell_when_they_are_ready_come_back_and_follow_what_they_need() {
        for unit in control_plane(&crate::settings::tests::sample()) {
            let text = render(&unit);
            for line in [
                "Type=notify",
                "Restart=always",
                "StartLimitIntervalSec=0",
                "WantedBy=multi-user.target",
            ] {
                assert!(text.lines().any(|one| one == line), "{}: no {line}", unit.name);
            }
            let after = text.lines().find(|line| line.starts_with("After=")).unwrap();
            let needed = match unit.name {
                "kube-apiserver" => "kube-store.service",
                "kubelet" => "containerd.service",
                "kube-controller-manager" | "kube-scheduler" => "kube-apiserver.service",
                _ => "network-online.target",
            };
            assert!(after.contains(needed), "{}: {after}", unit.name);
        }
    }

    #[test]
    fn an_operators_flags_win() {
        let mut settings = crate::settings::tests::sample();
        settings.extra_args.scheduler = vec![crate::configuration::Arg {
            name: "leader-elect".into(),
            value: "false".into(),
        }];
        let units = control_plane(&settings);
        let scheduler = units.iter().find(|unit| unit.name == "kube-scheduler").unwrap();
        let elect: Vec<_> = scheduler
            .command
            .iter()
            .filter(|flag| flag.starts_with("--leader-elect"))
            .collect();
        assert_eq!(elect, ["--leader-elect=false"]);
    }
}
