//! Single operations: create, get, patch, apply.

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::json;

use super::Bench;
use super::connection::{Connection, JSON};
use super::fill::make_namespaces;
use super::load::{self, Load};
use super::objects;

/// Options of single operations.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Operations of each kind
    #[arg(long, default_value_t = 3_000)]
    count: usize,
    /// Requests at a time
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Repeat the operations that change nothing of the count: gets, patches and applies
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    CreateConfigMap,
    CreatePod,
    GetCached,
    GetConsistent,
    MergePatchPod,
    ApplyPod,
    DeletePod,
    DeleteConfigMap,
}

impl Operation {
    /// Whether it can be done to one object again and again.
    fn is_repeatable(self) -> bool {
        use Operation::{ApplyPod, GetCached, GetConsistent, MergePatchPod};
        matches!(self, GetCached | GetConsistent | MergePatchPod | ApplyPod)
    }
}

/// In this order: later ones work on the objects of earlier ones.
const OPERATIONS: &[(&str, Operation)] = &[
    ("create ConfigMap 1 KiB", Operation::CreateConfigMap),
    ("create Pod 3.3 KB", Operation::CreatePod),
    ("get Pod, from cache", Operation::GetCached),
    ("get Pod, consistent", Operation::GetConsistent),
    ("merge patch Pod", Operation::MergePatchPod),
    ("apply Pod", Operation::ApplyPod),
    ("delete Pod", Operation::DeletePod),
    ("delete ConfigMap", Operation::DeleteConfigMap),
];

pub async fn run(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    make_namespaces(bench).await?;
    println!("{}", Load::head());
    for (name, operation) in OPERATIONS {
        let rounds = if operation.is_repeatable() {
            options.rounds
        } else {
            1
        };
        let range = 0..options.count * rounds;
        let load = load::run(bench, range, options.clients, |connection, number| {
            once(*operation, connection, number % options.count, number)
        })
        .await?;
        println!("{}", load.row(name));
    }
    Ok(())
}

/// `number` names the object, `turn` makes each change another.
async fn once(
    operation: Operation,
    connection: Connection,
    number: usize,
    turn: usize,
) -> anyhow::Result<()> {
    let namespace = objects::namespace(number);
    let name = format!("request-{number:06}");
    let (pods, config_maps) = (objects::pods(&namespace), objects::config_maps(&namespace));
    let pod = format!("{pods}/{name}");
    let send = async |method, path: &str, kind, body| {
        connection
            .run(method, path, &[("content-type", kind)], body)
            .await
    };
    match operation {
        Operation::CreateConfigMap => {
            let body = objects::bytes(&objects::config_map(&name));
            send(Method::POST, &config_maps, JSON, body).await?
        }
        Operation::CreatePod => {
            let body = objects::bytes(&objects::pod(&name));
            send(Method::POST, &pods, JSON, body).await?
        }
        Operation::GetCached => {
            let path = format!("{pod}?resourceVersion=0");
            send(Method::GET, &path, JSON, Bytes::new()).await?
        }
        Operation::GetConsistent => send(Method::GET, &pod, JSON, Bytes::new()).await?,
        Operation::MergePatchPod => {
            let patch = json!({"metadata": {"annotations": {"example.com/touched": turn.to_string()}}});
            send(Method::PATCH, &pod, MERGE_PATCH, objects::bytes(&patch)).await?
        }
        Operation::ApplyPod => {
            let mut applied = objects::pod(&name);
            applied["metadata"]["labels"]["applied"] = turn.to_string().into();
            let path = format!("{pod}?fieldManager=bench-apply&force=true");
            send(Method::PATCH, &path, APPLY_PATCH, objects::bytes(&applied)).await?
        }
        Operation::DeletePod => {
            let body = objects::bytes(&json!({"gracePeriodSeconds": 0}));
            send(Method::DELETE, &pod, JSON, body).await?
        }
        Operation::DeleteConfigMap => {
            let path = format!("{config_maps}/{name}");
            send(Method::DELETE, &path, JSON, Bytes::new()).await?
        }
    };
    Ok(())
}
