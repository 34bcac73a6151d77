//! Structured logs to standard error, with upstream's flags.

use clap::Args;
use tracing_subscriber::EnvFilter;

/// The flags of logging, flattened into each binary's own.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Number for the log level verbosity: 0-1 warnings and information, 4 debug, 6 and more trace.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
    /// Format of log lines: text or json.
    #[arg(long = "logging-format", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verbosity: 0,
            format: "text".to_owned(),
        }
    }
}

/// Starts logging; `RUST_LOG` overrides the verbosity. A second call in one process changes nothing.
pub fn init(options: &Options) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(options.verbosity)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let started = match options.format.as_str() {
        "json" => builder.json().try_init(),
        _ => builder.try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Libraries stay at warnings until one asks for very much.
fn directives(verbosity: u8) -> &'static str {
    match verbosity {
        0..=3 => {
            "info,hyper=warn,h2=warn,tower=warn,kube_client=warn,kube_runtime=warn,rustls=warn,sled=warn,raft=warn,hickory=warn"
        }
        4..=5 => "debug,hyper=info,h2=info,tower=info,rustls=info,sled=info",
        _ => "trace,h2=info",
    }
}
