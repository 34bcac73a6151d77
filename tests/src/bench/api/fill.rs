//! Stores pods through the API, spread over namespaces.

use clap::Args;
use http::Method;
use serde_json::json;

use super::Bench;
use super::connection::JSON;
use super::load::{self, Load};
use super::objects;

/// Options of filling.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Pods there shall be
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Pods there are already, from an earlier fill
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Requests at a time
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

pub async fn run(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    make_namespaces(bench).await?;
    let load = load::run(
        bench,
        options.from..options.pods,
        options.clients,
        |connection, number| async move {
            let body = objects::bytes(&objects::pod(&format!("pod-{number:06}")));
            let path = objects::pods(&objects::namespace(number));
            let headers = [("content-type", JSON)];
            connection.run(Method::POST, &path, &headers, body).await?;
            Ok(())
        },
    )
    .await?;
    println!("{}", Load::head());
    println!("{}", load.row(&format!("fill to {} pods", options.pods)));
    println!("{}", bench.processes.memory_line()?);
    Ok(())
}

/// The namespaces, each with the service account that pods need: no controller need run.
pub async fn make_namespaces(bench: &Bench) -> anyhow::Result<()> {
    let connection = &bench.connections[0];
    for number in 0..objects::NAMESPACES {
        let namespace = objects::namespace(number);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        connection
            .ensure("/api/v1/namespaces", objects::bytes(&body))
            .await?;
        let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        connection.ensure(&path, objects::bytes(&body)).await?;
    }
    Ok(())
}
