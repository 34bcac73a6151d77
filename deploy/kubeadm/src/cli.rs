//! The command line: upstream's commands and flags.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use keelson_client::connect;

use crate::layout::{Layout, bin_dir};
use crate::phases::{self, Init, PHASES};
use crate::services::ServiceManager;
use crate::settings::{Settings, default_address, default_node_name};
use crate::token::{self, Terms, Token};
use crate::{certs, join, reset};

/// kubeadm: easily bootstrap a secure Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "kubeadm", version = keelson_base::version::FULL)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up the control plane of a new cluster on this machine
    Init(Box<InitArgs>),
    /// Make this machine a worker of a cluster
    Join(Box<JoinArgs>),
    /// Manage bootstrap tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Handle the cluster's certificates
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Revert what 'kubeadm init' or 'kubeadm join' did to this machine
    Reset(ResetArgs),
    /// Print the version
    Version,
}

/// Flags about this machine.
#[derive(Args, Clone, Debug)]
struct NodeArgs {
    /// Name of the node; the host's name by default.
    #[arg(long)]
    node_name: Option<String>,
    /// Endpoint of the container runtime.
    #[arg(long)]
    cri_socket: Option<String>,
    /// Directory of certificates.
    #[arg(long)]
    cert_dir: Option<PathBuf>,
    /// Keep every file of the node below this directory instead of the system's places.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Who runs the units: systemd where it runs, else our supervisor.
    #[arg(long, value_enum)]
    service_manager: Option<ServiceManager>,
    /// Checks whose failure is only warned of; 'all' for every one.
    #[arg(long, value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
}

impl NodeArgs {
    fn layout(&self) -> Layout {
        Layout::new(self.state_dir.clone(), self.cert_dir.clone())
    }

    fn manager(&self) -> ServiceManager {
        self.service_manager.unwrap_or_else(ServiceManager::detect)
    }

    fn settings(&self, advertise_address: Option<IpAddr>, cluster: &ClusterArgs) -> anyhow::Result<Settings> {
        let layout = self.layout();
        let socket = format!("unix://{}", layout.runtime_socket().display());
        Ok(Settings {
            bin_dir: bin_dir().context("find our own directory")?,
            node_name: self.node_name.clone().map_or_else(default_node_name, Ok)?,
            advertise_address: advertise_address.map_or_else(default_address, Ok)?,
            bind_port: cluster.apiserver_bind_port,
            control_plane_endpoint: cluster.control_plane_endpoint.clone(),
            cert_extra_sans: cluster.apiserver_cert_extra_sans.clone(),
            service_cidr: cluster.service_cidr.clone(),
            pod_cidr: cluster.pod_network_cidr.clone(),
            dns_domain: cluster.service_dns_domain.clone(),
            cri_socket: self.cri_socket.clone().unwrap_or(socket),
            layout,
        })
    }
}

/// Flags about the cluster.
#[derive(Args, Clone, Debug)]
struct ClusterArgs {
    /// Port the API server listens on.
    #[arg(long, default_value_t = 6443)]
    apiserver_bind_port: u16,
    /// Further names and addresses in the API server's certificate.
    #[arg(long, value_delimiter = ',')]
    apiserver_cert_extra_sans: Vec<String>,
    /// A stable address of the control plane.
    #[arg(long)]
    control_plane_endpoint: Option<String>,
    /// Range of service addresses.
    #[arg(long, default_value = "10.96.0.0/12")]
    service_cidr: String,
    /// Range of pod addresses.
    #[arg(long, default_value = "10.244.0.0/16")]
    pod_network_cidr: String,
    /// Domain of services.
    #[arg(long, default_value = "cluster.local")]
    service_dns_domain: String,
}

#[derive(Args, Debug)]
struct InitArgs {
    #[command(subcommand)]
    phase: Option<PhaseCommand>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Address the API server advertises; that of the default route by default.
    #[arg(long)]
    apiserver_advertise_address: Option<IpAddr>,
    /// Phases to leave out.
    #[arg(long, value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// The bootstrap token to create; made up by default.
    #[arg(long)]
    token: Option<Token>,
    /// How long the token is valid; 0 for ever.
    #[arg(long, default_value = "24h", value_parser = go_duration)]
    token_ttl: SignedDuration,
    /// Do not print the token.
    #[arg(long)]
    skip_token_print: bool,
}

#[derive(Debug, Subcommand)]
enum PhaseCommand {
    /// Run a single phase of init
    Phase(PhaseArgs),
}

#[derive(Args, Debug)]
struct PhaseArgs {
    /// Name of the phase
    #[arg(value_parser = phase_names())]
    name: String,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Address the API server advertises.
    #[arg(long)]
    apiserver_advertise_address: Option<IpAddr>,
}

fn phase_names() -> clap::builder::PossibleValuesParser {
    PHASES.iter().map(|phase| phase.name).collect::<Vec<_>>().into()
}

#[derive(Args, Debug)]
struct JoinArgs {
    /// HOST:PORT of the API server
    endpoint: String,
    #[command(flatten)]
    node: NodeArgs,
    /// Token for both discovery and TLS bootstrap.
    #[arg(long)]
    token: Option<Token>,
    /// Token that proves cluster-info.
    #[arg(long)]
    discovery_token: Option<Token>,
    /// Token the kubelet authenticates with at first.
    #[arg(long)]
    tls_bootstrap_token: Option<Token>,
    /// Pin of the cluster's CA, sha256:HEX.
    #[arg(long = "discovery-token-ca-cert-hash", value_delimiter = ',')]
    pins: Vec<String>,
    /// Join without a pin: whoever knows the token could then pose as the cluster.
    #[arg(long)]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// This machine's address; that of the default route by default.
    #[arg(long)]
    apiserver_advertise_address: Option<IpAddr>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create a bootstrap token
    Create(TokenCreate),
    /// List bootstrap tokens
    List(Admin),
    /// Delete bootstrap tokens
    Delete {
        /// Tokens, whole or by id
        #[arg(required = true)]
        tokens: Vec<String>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Print a new token without storing it
    Generate,
}

#[derive(Args, Debug)]
struct TokenCreate {
    /// The token; made up by default
    token: Option<Token>,
    #[command(flatten)]
    admin: Admin,
    /// How long it is valid; 0 for ever.
    #[arg(long, default_value = "24h", value_parser = go_duration)]
    ttl: SignedDuration,
    /// What it may be used for.
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
    usages: Vec<String>,
    /// Groups of those who authenticate with it.
    #[arg(long, value_delimiter = ',', default_value = crate::objects::NODE_TOKEN_GROUP)]
    groups: Vec<String>,
    /// What it is for.
    #[arg(long, default_value = "")]
    description: String,
    /// Print the whole join command.
    #[arg(long)]
    print_join_command: bool,
}

#[derive(Args, Clone, Debug)]
struct Admin {
    /// Kubeconfig to use.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Directory of a node whose files lie below one directory.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Directory of certificates.
    #[arg(long)]
    cert_dir: Option<PathBuf>,
}

impl Admin {
    fn layout(&self) -> Layout {
        Layout::new(self.state_dir.clone(), self.cert_dir.clone())
    }

    async fn client(&self) -> anyhow::Result<kube::Client> {
        let conf = self
            .kubeconfig
            .clone()
            .unwrap_or_else(|| self.layout().conf("admin"));
        connect(Some(conf.as_path()), "kubeadm")
            .await
            .with_context(|| format!("use {}", conf.display()))
    }
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Show when the certificates expire
    CheckExpiration(NodeArgs),
    /// Renew a certificate, or 'all'
    Renew {
        /// Name as check-expiration shows it, or 'all'
        name: String,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Address the API server advertises.
        #[arg(long)]
        apiserver_advertise_address: Option<IpAddr>,
    },
}

#[derive(Args, Debug)]
struct ResetArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Do not ask.
    #[arg(short, long)]
    force: bool,
}

/// Runs the command: 0 on success, 1 with the reason on standard error.
pub fn run(cli: Cli) -> ExitCode {
    keelson_base::logging::init(&keelson_base::logging::Options::default());
    keelson_base::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => Err(error).context("start the async runtime"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init(*args).await,
        Command::Join(args) => join_machine(*args).await,
        Command::Token(command) => tokens(command).await,
        Command::Certs(CertsCommand::CheckExpiration(node)) => certs::check_expiration(&node.layout()),
        Command::Certs(CertsCommand::Renew {
            name,
            node,
            cluster,
            apiserver_advertise_address,
        }) => certs::renew(&node.settings(apiserver_advertise_address, &cluster)?, &name),
        Command::Reset(args) => reset_machine(&args),
        Command::Version => {
            println!("kubeadm version: {}", keelson_base::version::FULL);
            Ok(())
        }
    }
}

async fn init(args: InitArgs) -> anyhow::Result<()> {
    let (node, cluster, address) = match &args.phase {
        Some(PhaseCommand::Phase(one)) => (&one.node, &one.cluster, one.apiserver_advertise_address),
        None => (&args.node, &args.cluster, args.apiserver_advertise_address),
    };
    let init = Init {
        settings: node.settings(address, cluster)?,
        manager: node.manager(),
        token: args.token.clone().unwrap_or_else(Token::generate),
        terms: Terms {
            ttl: (!args.token_ttl.is_zero()).then_some(args.token_ttl),
            description: "The default bootstrap token generated by 'kubeadm init'.".to_owned(),
            ..Terms::default()
        },
        ignore_preflight_errors: node.ignore_preflight_errors.clone(),
        hide_token: args.skip_token_print,
    };
    match &args.phase {
        None => {
            println!("[init] Using Kubernetes version: {}", keelson_base::version::FULL);
            phases::run_all(&init, &args.skip_phases).await
        }
        Some(PhaseCommand::Phase(one)) => {
            let found = PHASES.iter().find(|phase| phase.name == one.name);
            phases::run_one(
                &init,
                found.with_context(|| format!("no phase named {:?}", one.name))?,
            )
            .await
        }
    }
}

async fn join_machine(args: JoinArgs) -> anyhow::Result<()> {
    let no_token = "a token is needed: --token, or both --discovery-token and --tls-bootstrap-token";
    if args.pins.is_empty() && !args.discovery_token_unsafe_skip_ca_verification {
        bail!(
            "using token-based discovery without --discovery-token-ca-cert-hash can be unsafe; set \
             --discovery-token-unsafe-skip-ca-verification to continue"
        );
    }
    let cluster = ClusterArgs {
        apiserver_bind_port: 6443,
        apiserver_cert_extra_sans: Vec::new(),
        control_plane_endpoint: None,
        service_cidr: "10.96.0.0/12".to_owned(),
        pod_network_cidr: "10.244.0.0/16".to_owned(),
        service_dns_domain: "cluster.local".to_owned(),
    };
    let either = |own: &Option<Token>| own.clone().or_else(|| args.token.clone()).context(no_token);
    join::run(&join::Join {
        endpoint: args.endpoint.clone(),
        discovery_token: either(&args.discovery_token)?,
        tls_bootstrap_token: either(&args.tls_bootstrap_token)?,
        pins: args.pins.clone(),
        settings: args.node.settings(args.apiserver_advertise_address, &cluster)?,
        manager: args.node.manager(),
        ignore_preflight_errors: args.node.ignore_preflight_errors.clone(),
    })
    .await
}

async fn tokens(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Generate => println!("{}", Token::generate().reveal()),
        TokenCommand::List(admin) => print!("{}", token::list(&admin.client().await?).await?),
        TokenCommand::Delete { tokens, admin } => token::delete(&admin.client().await?, &tokens).await?,
        TokenCommand::Create(create) => create_token(create).await?,
    }
    Ok(())
}

async fn create_token(create: TokenCreate) -> anyhow::Result<()> {
    let made = create.token.clone().unwrap_or_else(Token::generate);
    let terms = Terms {
        ttl: (!create.ttl.is_zero()).then_some(create.ttl),
        usages: create.usages,
        groups: create.groups,
        description: create.description,
    };
    let client = create.admin.client().await?;
    token::create(&client, &made, &terms).await?;
    if create.print_join_command {
        let layout = create.admin.layout();
        let endpoint = endpoint_of(
            &create
                .admin
                .kubeconfig
                .clone()
                .unwrap_or_else(|| layout.conf("admin")),
        )?;
        println!(
            "{}",
            phases::upload::join_command(&endpoint, &made.reveal(), &layout.pki_file("ca.crt"))?
        );
    } else {
        println!("{}", made.reveal());
    }
    Ok(())
}

/// The server a kubeconfig names, as `host:port`.
fn endpoint_of(conf: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(conf).with_context(|| format!("read {}", conf.display()))?;
    let value: serde_json::Value =
        serde_yaml::from_str(&text).with_context(|| format!("parse {}", conf.display()))?;
    let server = value["clusters"][0]["cluster"]["server"]
        .as_str()
        .context("the kubeconfig names no server")?;
    Ok(server
        .trim_start_matches("https://")
        .trim_end_matches('/')
        .to_owned())
}

fn reset_machine(args: &ResetArgs) -> anyhow::Result<()> {
    if !args.force {
        println!(
            "[reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will be reverted."
        );
        print!("[reset] Are you sure you want to proceed? [y/N]: ");
        std::io::Write::flush(&mut std::io::stdout()).context("write the question")?;
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .context("read the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("aborted reset operation");
        }
    }
    let layout = args.node.layout();
    let socket = layout.runtime_socket().display().to_string();
    let socket = args.node.cri_socket.clone().unwrap_or(socket);
    reset::run(
        args.node.manager(),
        &layout,
        &socket,
        &bin_dir().context("find our own directory")?,
    )
}

/// `24h`, `1h30m`, `45s`, `0`.
fn go_duration(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    text.parse()
        .map_err(|_| format!("time: invalid duration {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_printed_join_command_parses() {
        let line = "kubeadm join 192.0.2.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00";
        assert!(Cli::try_parse_from(line.split_whitespace()).is_ok());
    }
}
