//! `kubeadm reset`.

use anyhow::{Context, bail};
use clap::Args;

use super::node::NodeArgs;
use crate::layout::bin_dir;
use crate::reset;

#[derive(Args, Debug)]
pub struct ResetArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Reset the node without prompting for confirmation.
    #[arg(short, long)]
    force: bool,
    /// Keep certificates, administrators' kubeconfigs and the store, so that 'init' finds the same cluster.
    #[arg(long)]
    keep_data: bool,
}

/// Runs the command.
pub async fn run(args: &ResetArgs) -> anyhow::Result<()> {
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
    reset::run(&reset::Reset {
        manager: args.node.manager(),
        layout: &layout,
        cri_socket: args.node.cri_socket.as_ref().unwrap_or(&socket),
        bin_dir: &bin_dir().context("find our own directory")?,
        cgroup_root: std::path::Path::new("/sys/fs/cgroup"),
        keep_data: args.keep_data,
    })
    .await
}
