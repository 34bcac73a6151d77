//! `kubeadm token`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use keelson_client::connect;

use super::go_duration;
use crate::layout::Layout;
use crate::phases;
use crate::token::{self, Terms, Token};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create bootstrap tokens on the server
    Create(TokenCreate),
    /// List bootstrap tokens on the server
    List {
        #[command(flatten)]
        admin: Admin,
        /// Output format.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Delete bootstrap tokens on the server
    Delete {
        /// Tokens, whole or by id
        #[arg(required = true)]
        tokens: Vec<String>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Generate and print a bootstrap token, but do not create it on the server
    Generate,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Output {
    Text,
    Json,
    Yaml,
}

#[derive(Args, Debug)]
pub struct TokenCreate {
    /// The token; made up by default
    token: Option<Token>,
    #[command(flatten)]
    admin: Admin,
    /// The duration before the token is automatically deleted (e.g. 1s, 2m, 3h); 0 for never.
    #[arg(long, default_value = "24h", value_parser = go_duration)]
    ttl: SignedDuration,
    /// Describes the ways in which this token can be used.
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
    usages: Vec<String>,
    /// Extra groups that this token will authenticate as when used for authentication.
    #[arg(long, value_delimiter = ',', default_value = crate::objects::NODE_TOKEN_GROUP)]
    groups: Vec<String>,
    /// A human friendly description of how this token is used.
    #[arg(long, default_value = "")]
    description: String,
    /// Instead of printing only the token, print the full 'kubeadm join' flag needed to join the cluster.
    #[arg(long)]
    print_join_command: bool,
}

/// How the cluster is reached.
#[derive(Args, Clone, Debug)]
pub struct Admin {
    /// The kubeconfig file to use when talking to the cluster.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Directory of a node whose files lie below one directory.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// The path where the certificates are stored.
    #[arg(long)]
    cert_dir: Option<PathBuf>,
}

impl Admin {
    fn layout(&self) -> Layout {
        Layout::new(self.state_dir.clone(), self.cert_dir.clone())
    }

    fn conf(&self) -> PathBuf {
        self.kubeconfig
            .clone()
            .unwrap_or_else(|| self.layout().conf("admin"))
    }

    async fn client(&self) -> anyhow::Result<kube::Client> {
        let conf = self.conf();
        connect(Some(conf.as_path()), "kubeadm")
            .await
            .with_context(|| format!("failed to load admin kubeconfig {}", conf.display()))
    }
}

/// Runs the command.
pub async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Generate => println!("{}", Token::generate().reveal()),
        TokenCommand::List { admin, output } => print!("{}", list(&admin, output).await?),
        TokenCommand::Delete { tokens, admin } => token::delete(&admin.client().await?, &tokens).await?,
        TokenCommand::Create(create) => create_token(create).await?,
    }
    Ok(())
}

async fn list(admin: &Admin, output: Output) -> anyhow::Result<String> {
    let tokens = token::list(&admin.client().await?).await?;
    Ok(match output {
        Output::Text => token::render_table(&tokens, jiff::Timestamp::now()),
        // One document per token, as upstream prints them.
        Output::Json => tokens
            .iter()
            .map(|one| format!("{:#}\n", token::described(one)))
            .collect(),
        Output::Yaml => {
            let each = tokens
                .iter()
                .map(|one| crate::yaml::render(&token::described(one)));
            each.collect::<Vec<_>>().join("---\n")
        }
    })
}

async fn create_token(create: TokenCreate) -> anyhow::Result<()> {
    let made = create.token.clone().unwrap_or_else(Token::generate);
    let terms = Terms {
        ttl: (!create.ttl.is_zero()).then_some(create.ttl),
        usages: create.usages,
        groups: create.groups,
        description: create.description,
    };
    token::check(&terms)?;
    token::create(&create.admin.client().await?, &made, &terms).await?;
    if create.print_join_command {
        let endpoint = endpoint_of(&create.admin.conf())?;
        let ca = create.admin.layout().pki_file("ca.crt");
        println!(
            "{}",
            phases::upload::join_command(&endpoint, &made.reveal(), &ca)?
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
