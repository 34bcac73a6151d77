//! `pods/eviction`: a delete that PodDisruptionBudgets may refuse.

use std::sync::Arc;

use keelson_admission::Operation;
use keelson_kinds::eviction::{self, Decision};
use keelson_machinery::{GroupResource, GroupVersionKind, ObjectReader, Status, Value, meta};
use keelson_schema::types;

use super::binding::success;
use crate::context::Context;
use crate::server::Server;
use crate::storage::keys;
use crate::verbs::admit::Write;
use crate::verbs::delete_options::DeleteOptions;
use crate::verbs::transaction::{Outcome, Transaction};
use crate::verbs::{Target, decode, delete, rules};
use crate::wire::Response;

const EVICTION: GroupVersionKind = GroupVersionKind::new("policy", "v1", "Eviction");
const BUDGETS: GroupResource = GroupResource::new("policy", "poddisruptionbudgets");
/// How often a budget that changed meanwhile is read again, as upstream's retries.
const ATTEMPTS: usize = 20;

/// Evicts the pod.
pub async fn create(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
) -> Result<Response, Status> {
    let def = types::of_kind(&EVICTION).ok_or_else(Status::no_such_path)?;
    let mut posted = decode::object(context, &EVICTION, def).await?;
    rules::name(&mut posted, target)?;
    rules::place(&mut posted, target)?;
    let mut options = DeleteOptions::parse(posted["deleteOptions"].clone())?;
    options.dry_run |= context.dry_run()?;
    let mut write = Write::new(target, Operation::Create, None, options.dry_run);
    write.kind = EVICTION;
    write.mutate(server, context, &mut posted).await?;
    write.validate(server, context, &posted).await?;
    server.progress.wait_current().await?;
    spend(server, context, target, options.dry_run).await?;
    let pod = Target {
        subresource: String::new(),
        ..target.clone()
    };
    delete::run(server, context, &pod, &options).await?;
    success(target)
}

/// Takes the eviction off the budget that covers the pod.
async fn spend(server: &Server, context: &Context, target: &Target, dry_run: bool) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let pod = target
            .served
            .hub
            .cache
            .get(&target.key())
            .ok_or_else(|| target.not_found())?;
        let budgets = server.reader.list(&BUDGETS, Some(&target.namespace));
        let budgets: Vec<&Value> = budgets.iter().map(|budget| &**budget).collect();
        match eviction::decide(&pod.value(), &budgets, dry_run, context.now)? {
            Decision::Delete => return Ok(()),
            Decision::Spend(_) if dry_run => return Ok(()),
            Decision::Spend(budget) => {
                if store(server, budget).await? {
                    return Ok(());
                }
                server.progress.wait_current().await?;
            }
        }
    }
    Err(Status::too_many_requests(
        "Cannot evict pod as its PodDisruptionBudget keeps changing.",
        10,
    ))
}

/// `false`: the budget changed meanwhile.
async fn store(server: &Server, budget: Value) -> Result<bool, Status> {
    let served = server
        .registry
        .cached(&BUDGETS)
        .ok_or_else(|| Status::internal("poddisruptionbudgets are not served"))?;
    let key = keys::local(meta::namespace(&budget), meta::name(&budget));
    let mut transaction = Transaction::begin(server, &served.hub, key);
    let version = meta::resource_version(&budget);
    let same = transaction
        .current()
        .is_some_and(|current| current.revision.to_string() == version);
    Ok(same && transaction.commit(Outcome::Put(budget)).await?.is_some())
}
