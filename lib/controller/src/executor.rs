//! Carries out plans: requests, batches, Events, and the list of what was written. Decides nothing.

use futures::StreamExt;
use futures::stream;
use http::Request;
use keelson_client::{Informers, Recorder};
use kube::Client;
use serde::Deserialize;

use crate::action::{Action, Guard, Note, Target, Verb};
use crate::barrier::{self, Sign, Written};
use crate::limits;
use crate::plan::Plan;

/// The first action of a plan that failed; given to the next reconcile of the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What was tried.
    pub verb: Verb,
    /// On which kind.
    pub kind: String,
    /// HTTP code; 0 when there was no answer.
    pub code: u16,
    /// The server's message, or what kept it from answering.
    pub message: String,
    /// The namespace is being deleted.
    pub namespace_terminating: bool,
}

/// What the runtime reads of any answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: AnswerMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnswerMeta {
    name: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
}

/// Executes the plans of one controller.
#[derive(Clone)]
pub struct Executor {
    client: Client,
    informers: Informers,
    recorder: Recorder,
}

impl Executor {
    /// Requests go through `client`, Events through `recorder`; `informers` must show the kinds written.
    pub fn new(client: Client, informers: Informers, recorder: Recorder) -> Self {
        Self {
            client,
            informers,
            recorder,
        }
    }

    /// Everything a plan asks for; returns when the caches show it. The first failure, if any.
    pub async fn execute(&self, plan: Plan) -> Result<(), Failure> {
        for note in &plan.report.notes {
            self.tell(note, "", "");
        }
        let mut writes = Vec::new();
        let mut outcome = Ok(());
        for run in runs(plan.actions) {
            outcome = self.run(run, &mut writes).await;
            if outcome.is_err() {
                break;
            }
        }
        if let Some(status) = plan.status {
            let written = self.act(&status).await;
            let told = written.map(|write| writes.extend(write));
            outcome = outcome.and(told);
        }
        if !writes.is_empty() {
            barrier::wait(&self.informers, &writes).await;
        }
        outcome
    }

    async fn run(&self, run: Vec<Action>, writes: &mut Vec<Written>) -> Result<(), Failure> {
        let grow = match run.first().map(|action| action.verb) {
            Some(Verb::Create) => true,
            Some(_) => false,
            None => return Ok(()),
        };
        let mut batch = if grow { 1 } else { run.len() };
        let mut rest = run.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let mut requests = Vec::with_capacity(now.len());
            for action in now {
                requests.push(self.act(action));
            }
            let done: Vec<_> = stream::iter(requests)
                .buffered(limits::REQUESTS_MAX)
                .collect()
                .await;
            let mut first = Ok(());
            for outcome in done {
                match outcome {
                    Ok(write) => writes.extend(write),
                    Err(failure) if first.is_ok() => first = Err(failure),
                    Err(_) => {}
                }
            }
            first?;
            rest = later;
            batch *= 2;
        }
        Ok(())
    }

    /// One action; what it wrote, if anything.
    async fn act(&self, action: &Action) -> Result<Option<Written>, Failure> {
        let request = async {
            if let Some(guard) = &action.guard {
                self.check(guard).await?;
            }
            self.send(action).await
        };
        let answer = match tokio::time::timeout(limits::REQUEST_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(|error| failure(action, &error)),
            Err(_) => Err(Failure {
                verb: action.verb,
                kind: action.target.kind.clone(),
                code: 0,
                message: "the request timed out".to_owned(),
                namespace_terminating: false,
            }),
        };
        match answer {
            Ok(answer) => {
                let name = match answer.metadata.name.as_str() {
                    "" => action.target.name.as_str(),
                    name => name,
                };
                if let Some(note) = &action.on_success {
                    self.tell(note, name, "");
                }
                Ok(written(action, &answer))
            }
            Err(failure) if action.tolerated.contains(&failure.code) => Ok(None),
            // Nothing can be created in a namespace that goes away; its content goes too.
            Err(failure) if action.verb == Verb::Create && failure.namespace_terminating => Ok(None),
            Err(failure) => {
                if let Some(note) = &action.on_failure {
                    self.tell(note, &action.target.name, &failure.message);
                }
                Err(failure)
            }
        }
    }

    async fn check(&self, guard: &Guard) -> Result<(), kube::Error> {
        let request = Request::get(guard.target.path(true)).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        let answer: Answer = self.client.request(request).await?;
        if answer.metadata.uid == guard.uid && answer.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let Target { kind, name, .. } = &guard.target;
        let message = format!("{kind} {name} is gone or being deleted");
        let status = kube::core::Status::failure(&message, "Conflict").with_code(409);
        Err(kube::Error::Api(status.boxed()))
    }

    async fn send(&self, action: &Action) -> Result<Answer, kube::Error> {
        let target = &action.target;
        let (builder, content_type) = match action.verb {
            Verb::Create => (Request::post(target.path(false)), "application/json"),
            Verb::Post => (Request::post(target.path(true)), "application/json"),
            Verb::Update => (Request::put(target.path(true)), "application/json"),
            Verb::Delete => (Request::delete(target.path(true)), "application/json"),
            Verb::StrategicPatch => (
                Request::patch(target.path(true)),
                "application/strategic-merge-patch+json",
            ),
            Verb::MergePatch => (Request::patch(target.path(true)), "application/merge-patch+json"),
        };
        let body = serde_json::to_vec(&action.body).map_err(kube::Error::SerdeError)?;
        let request = builder
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    fn tell(&self, note: &Note, name: &str, error: &str) {
        let message = note.message.replace("{name}", name).replace("{error}", error);
        self.recorder
            .event_on(note.object.clone(), note.type_, note.reason, message);
    }
}

/// Neighbours that may share a batch: creations of one kind, deletions; everything else alone.
fn runs(actions: Vec<Action>) -> Vec<Vec<Action>> {
    let mut runs: Vec<Vec<Action>> = Vec::new();
    for action in actions {
        let joins = runs.last().and_then(|run| run.last()).is_some_and(|last| {
            last.verb == action.verb
                && match action.verb {
                    Verb::Create => last.target.kind == action.target.kind,
                    Verb::Delete => true,
                    _ => false,
                }
        });
        match runs.last_mut() {
            Some(run) if joins => run.push(action),
            _ => runs.push(vec![action]),
        }
    }
    runs
}

fn failure(action: &Action, error: &kube::Error) -> Failure {
    let (code, message) = match error {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => (0, keelson_base::error::chain(other)),
    };
    Failure {
        verb: action.verb,
        kind: action.target.kind.clone(),
        code,
        message,
        namespace_terminating: namespace_terminating(error),
    }
}

fn namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

fn written(action: &Action, answer: &Answer) -> Option<Written> {
    let mut target = action.target.clone();
    let uid = match action.uid.as_str() {
        "" => answer.metadata.uid.clone(),
        uid => uid.to_owned(),
    };
    if action.verb == Verb::Delete {
        let sign = Sign::Deleted;
        return Some(Written { target, uid, sign });
    }
    // Some subresources answer with another kind; its version says nothing about the object.
    if answer.kind != target.kind {
        return None;
    }
    target.name.clone_from(&answer.metadata.name);
    let sign = Sign::Version(answer.metadata.resource_version.parse().ok()?);
    Some(Written { target, uid, sign })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};

    #[test]
    fn neighbours_share_a_batch() {
        let pod = Pod::default();
        let map = ConfigMap::default();
        let actions = vec![
            Action::create(&pod),
            Action::create(&pod),
            Action::create(&map),
            Action::delete(&pod),
            Action::delete(&map),
            Action::update(&pod),
            Action::update(&pod),
        ];
        let lengths: Vec<usize> = runs(actions).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 2, 1, 1]);
    }
}
