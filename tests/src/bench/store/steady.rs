//! Puts, transactions and ranges: both servers run side by side and are asked in turns.

use std::path::Path;

use super::cluster::{Cluster, Server};
use super::load::{self, Work};
use super::table::{Bar, Table};
use super::{Options, Part};

/// Offered load, as a share of the slower server's rate in a closed loop.
const OFFERED_SHARE: f64 = 0.5;
/// Clients of the closed loops that compare transactions and reads.
const CLIENTS: usize = 16;
/// From this many clients on, the bar is CPU; below, it is the rate.
const MANY_CLIENTS: usize = 64;

/// Runs the parts that are wanted.
pub async fn run(options: &Options, work: &Path, table: &mut Table) -> anyhow::Result<()> {
    let mut clusters = Vec::new();
    for &server in &options.servers {
        clusters.push(options.start(server, work, options.members).await?);
    }
    if options.parts.contains(&Part::Puts) {
        for &bytes in &options.bytes {
            for &clients in &options.clients {
                puts(options, &clusters, table, bytes, clients).await?;
            }
        }
    }
    if options.parts.contains(&Part::Txn) {
        for &clients in &options.clients {
            let work = Work::Txn { bytes: 1024 };
            closed(options, &clusters, table, "txn 1 KiB", work, clients).await?;
        }
    }
    if options.parts.contains(&Part::Range) {
        for cluster in &clusters {
            load::fill(cluster, 1024).await?;
        }
        for (name, work, clients) in [
            (
                "one key, linearizable",
                Work::Get { serializable: false },
                CLIENTS,
            ),
            ("one key, serializable", Work::Get { serializable: true }, CLIENTS),
            ("10,000 keys of 1 KiB", Work::List, 1),
        ] {
            closed(options, &clusters, table, name, work, clients).await?;
        }
    }
    Ok(())
}

async fn puts(
    options: &Options,
    clusters: &[Cluster],
    table: &mut Table,
    bytes: usize,
    clients: usize,
) -> anyhow::Result<()> {
    let work = Work::Put { bytes };
    let name = format!("put {bytes} B");
    closed(options, clusters, table, &name, work, clients).await?;
    if clients < MANY_CLIENTS {
        return Ok(());
    }
    let rates = options
        .servers
        .iter()
        .filter_map(|&server| table.figure(server, &rate_row(options, &name, clients)));
    let rate = rates.fold(f64::INFINITY, f64::min) * OFFERED_SHARE;
    let rounded = (rate / 100.0).floor() * 100.0;
    let row = format!(
        "{name}, {} at {rounded:.0}/s offered, p99",
        shape(options, clients)
    );
    for _ in 0..options.rounds {
        for cluster in clusters {
            let clients = load::clients(cluster, clients, options.connections, bytes).await?;
            let outcome = load::offered(cluster, &clients, work, rounded, options.seconds).await?;
            table.add(
                cluster.server,
                &row,
                "ms",
                Bar::RatioAtMost(1.0),
                outcome.percentile_ms(99),
            );
        }
    }
    Ok(())
}

async fn closed(
    options: &Options,
    clusters: &[Cluster],
    table: &mut Table,
    name: &str,
    work: Work,
    clients: usize,
) -> anyhow::Result<()> {
    let bytes = match work {
        Work::Put { bytes } | Work::Txn { bytes } => bytes,
        Work::Get { .. } | Work::List => 0,
    };
    let writes = matches!(work, Work::Put { .. } | Work::Txn { .. });
    let rate_bar = if writes && clients == 1 {
        Bar::RatioAtLeast(1.0)
    } else {
        Bar::None
    };
    let cpu_bar = if matches!(work, Work::Put { .. }) && clients < MANY_CLIENTS {
        Bar::None
    } else {
        Bar::RatioAtMost(0.5)
    };
    for _ in 0..options.rounds {
        for cluster in clusters {
            let made = load::clients(cluster, clients, options.connections, bytes).await?;
            let outcome = load::closed(cluster, made, work, options.seconds).await?;
            let server: Server = cluster.server;
            table.add(
                server,
                &rate_row(options, name, clients),
                "/s",
                rate_bar,
                outcome.rate(),
            );
            let row = |what: &str| format!("{name}, {}, {what}", shape(options, clients));
            table.add(server, &row("CPU each"), "ms", cpu_bar, outcome.cpu_ms());
            table.add(server, &row("p99"), "ms", Bar::None, outcome.percentile_ms(99));
        }
    }
    Ok(())
}

fn rate_row(options: &Options, name: &str, clients: usize) -> String {
    format!("{name}, {}, rate", shape(options, clients))
}

fn shape(options: &Options, clients: usize) -> String {
    let members = if options.members == 1 {
        String::new()
    } else {
        format!(" {} members,", options.members)
    };
    let plural = if clients == 1 { "" } else { "s" };
    format!("{members} {clients} client{plural}")
        .trim_start()
        .to_owned()
}
