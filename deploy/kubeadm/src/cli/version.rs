//! `kubeadm version`.

use clap::{Args, ValueEnum};
use serde_json::json;

#[derive(Args, Debug)]
pub struct VersionArgs {
    /// Output format; available options are 'yaml', 'json' and 'short'
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Yaml,
    Json,
    Short,
}

/// Runs the command.
pub fn run(args: &VersionArgs) -> anyhow::Result<()> {
    let full = keelson_base::version::FULL;
    let parts: Vec<&str> = full.trim_start_matches('v').splitn(3, '.').collect();
    let value = json!({"clientVersion": {
        "major": parts.first(), "minor": parts.get(1), "gitVersion": full,
        "platform": format!("linux/{}", architecture()),
    }});
    match args.output {
        None => println!("kubeadm version: {full} linux/{}", architecture()),
        Some(Output::Short) => println!("{full}"),
        Some(Output::Json) => println!("{value:#}"),
        Some(Output::Yaml) => print!("{}", crate::yaml::render(&value)),
    }
    Ok(())
}

/// The machine's architecture by Go's names.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
