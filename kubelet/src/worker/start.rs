//! Starts one container: image, configuration, create, start, postStart hook.

use super::Worker;
use crate::plan::actions::{Start, Waiting};
use crate::pod::{self, Kind};
use crate::runtime::{container_config, env, hosts_file, sandbox_config, security};
use crate::volumes::container_mounts::{self, MountInputs};
use crate::{handlers, images};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Secret};
use keelson_client::EventType;
use keelson_proto::cri::v1::Mount;
use std::sync::Arc;
use std::time::Instant;

/// How soon a container is tried again that could not be created, and one that could not be started.
const CREATE_RETRY_S: i64 = 10;
const START_RETRY_S: i64 = 1;

/// Why a start failed: the waiting reason, its message, when to try again.
struct Failure {
    reason: &'static str,
    message: String,
    retry_at: Option<Timestamp>,
}

impl Failure {
    fn soon(reason: &'static str, message: impl Into<String>, seconds: i64) -> Self {
        let retry_at = Timestamp::now()
            .checked_add(SignedDuration::from_secs(seconds))
            .ok();
        Failure {
            reason,
            message: message.into(),
            retry_at,
        }
    }
}

impl Worker {
    /// Starts a container; failures become its waiting state and an event.
    pub(super) async fn start_container(&mut self, start: &Start) {
        let Some(member) = pod::find(&self.pod, &start.name) else {
            return;
        };
        let container = member.container.into_owned();
        self.seen.retry_at.remove(&start.name);
        match self.try_start(start, &container).await {
            Ok(()) => {
                self.known.waiting.remove(&start.name);
            }
            Err(failure) => {
                let waiting = Waiting {
                    reason: failure.reason.into(),
                    message: failure.message,
                };
                self.known.waiting.insert(start.name.clone(), waiting);
                // A failure without a time waits for a change of the spec.
                let never = Timestamp::MAX;
                self.seen
                    .retry_at
                    .insert(start.name.clone(), failure.retry_at.unwrap_or(never));
            }
        }
        if let Some(backoff) = start.backoff {
            self.seen.restarts.insert(start.name.clone(), backoff);
        }
        self.probes.reconcile(&self.pod, &self.seen);
        self.report();
    }

    async fn try_start(&mut self, start: &Start, container: &Container) -> Result<(), Failure> {
        let host = self.host.clone();
        let image = self.ensure_image(start, container).await?;
        let _permit = host.starts.acquire().await;
        let began = Instant::now();
        let id = self.create(start, container, &image).await?;
        if let Err(status) = host.cri.start_container(&id).await {
            let message = status.message().to_owned();
            self.container_event(
                start.kind,
                &start.name,
                EventType::Warning,
                "Failed",
                format!("Error: {message}"),
            );
            self.observe_container(&id).await;
            return Err(Failure::soon("RunContainerError", message, START_RETRY_S));
        }
        self.container_event(
            start.kind,
            &start.name,
            EventType::Normal,
            "Started",
            "Container started".into(),
        );
        self.link_log(&start.name, start.restart_count, &id);
        self.observe_container(&id).await;
        host.metrics.step("container", began.elapsed());
        drop(_permit);
        self.run_post_start(start, container, &id).await
    }

    async fn ensure_image(
        &mut self,
        start: &Start,
        container: &Container,
    ) -> Result<images::Ensured, Failure> {
        let began = Instant::now();
        let secrets = self.pull_secrets().await;
        let config = self.current_sandbox_config();
        let (host, pod) = (self.host.clone(), self.pod.clone());
        let on = pod::reference(&pod, Some((start.kind, &start.name)));
        let tell = |type_, reason: &str, message: String| host.event(on.clone(), type_, reason, message);
        let result = host
            .images
            .ensure(&pod, container, &secrets, &config, &tell)
            .await;
        host.metrics.step("image", began.elapsed());
        result.map_err(|error| {
            let message = format!("Error: {}", error.reason);
            tell(EventType::Warning, "Failed", message);
            Failure {
                reason: error.reason,
                message: error.message,
                retry_at: error.retry_at,
            }
        })
    }

    /// Secrets that exist; a missing one is left out, as upstream does.
    async fn pull_secrets(&self) -> Vec<Secret> {
        let mut found = Vec::new();
        for reference in pod::spec(&self.pod).image_pull_secrets.iter().flatten() {
            let got = self
                .host
                .objects
                .secrets
                .get(pod::uid(&self.pod), pod::namespace(&self.pod), &reference.name)
                .await;
            if let Ok(secret) = got {
                found.push(Secret::clone(&secret));
            }
        }
        found
    }

    /// Creates the container and gives its id.
    async fn create(
        &mut self,
        start: &Start,
        container: &Container,
        image: &images::Ensured,
    ) -> Result<String, Failure> {
        let (env, mounts) = match self.prepare(start, container, image).await {
            Ok(prepared) => prepared,
            Err(message) => {
                let event = format!("Error: {message}");
                self.container_event(start.kind, &start.name, EventType::Warning, "Failed", event);
                return Err(Failure::soon(
                    "CreateContainerConfigError",
                    message,
                    CREATE_RETRY_S,
                ));
            }
        };
        let target_id = self.target_id(start.kind, &start.name);
        let config = container_config::render(
            &self.pod,
            container,
            container_config::ContainerInputs {
                kind: start.kind,
                restart_count: start.restart_count,
                image_ref: &image.id,
                env: &env,
                mounts,
                image_user: image.user.clone(),
                target_id: target_id.as_deref(),
                node: self.host.settings.limits,
                security: &self.host.settings.security,
            },
        );
        let sandbox = self
            .seen
            .runtime
            .sandbox()
            .map(|s| s.id.clone())
            .unwrap_or_default();
        let sandbox_config = self.current_sandbox_config();
        match self
            .host
            .cri
            .create_container(&sandbox, config, sandbox_config)
            .await
        {
            Ok(id) => {
                self.container_event(
                    start.kind,
                    &start.name,
                    EventType::Normal,
                    "Created",
                    "Container created".into(),
                );
                Ok(id)
            }
            Err(status) => {
                let event = format!("Error: {}", status.message());
                self.container_event(start.kind, &start.name, EventType::Warning, "Failed", event);
                if status.code() == tonic::Code::NotFound {
                    // The sandbox vanished meanwhile.
                    self.mailbox.put_relist();
                }
                Err(Failure::soon(
                    "CreateContainerError",
                    status.message(),
                    CREATE_RETRY_S,
                ))
            }
        }
    }

    /// Environment and mounts, or why the container's configuration is not possible.
    async fn prepare(
        &self,
        start: &Start,
        container: &Container,
        image: &images::Ensured,
    ) -> Result<(Vec<(String, String)>, Vec<Mount>), String> {
        let sources = self.env_sources(container).await?;
        let env = env::of_container(&self.pod, container, &sources)?;
        security::verify_non_root(&self.pod, container, &image.user)?;
        let inputs = MountInputs {
            root: &self.host.settings.root_dir,
            env: &env,
            hosts: self.hosts_text(),
            restart_count: start.restart_count,
        };
        let mounts = container_mounts::prepare(&self.pod, container, &inputs)?;
        Ok((env, mounts))
    }

    /// Everything the container's environment names, fetched.
    async fn env_sources(&self, container: &Container) -> Result<env::Sources, String> {
        let mut sources = env::Sources {
            services: self.visible_services(),
            host_ips: self.host.settings.host_ips.clone(),
            pod_ips: self.pod_ips(),
            allocatable: self.host.settings.allocatable.clone(),
            ..env::Sources::default()
        };
        let (uid, namespace) = (pod::uid(&self.pod), pod::namespace(&self.pod));
        let vars = container
            .env
            .iter()
            .flatten()
            .filter_map(|v| v.value_from.as_ref());
        let from = container.env_from.iter().flatten();
        let maps = vars
            .clone()
            .filter_map(|v| v.config_map_key_ref.as_ref().map(|r| &r.name));
        let maps = maps.chain(
            from.clone()
                .filter_map(|f| f.config_map_ref.as_ref().map(|r| &r.name)),
        );
        for name in maps {
            match self.host.objects.config_maps.get(uid, namespace, name).await {
                Ok(map) => drop(sources.config_maps.insert(name.clone(), (*map).clone())),
                Err(crate::objects::Missing::NotFound) => {}
                Err(crate::objects::Missing::Failed(why)) => return Err(why),
            }
        }
        let secrets = vars.filter_map(|v| v.secret_key_ref.as_ref().map(|r| &r.name));
        for name in secrets.chain(from.filter_map(|f| f.secret_ref.as_ref().map(|r| &r.name))) {
            match self.host.objects.secrets.get(uid, namespace, name).await {
                Ok(secret) => drop(sources.secrets.insert(name.clone(), (*secret).clone())),
                Err(crate::objects::Missing::NotFound) => {}
                Err(crate::objects::Missing::Failed(why)) => return Err(why),
            }
        }
        Ok(sources)
    }

    fn visible_services(&self) -> Vec<Arc<k8s_openapi::api::core::v1::Service>> {
        let namespace = pod::namespace(&self.pod);
        let mut services = self.host.services.list_namespace(namespace);
        if namespace != "default" {
            services.extend(self.host.services.get("default", "kubernetes"));
        }
        services
    }

    fn hosts_text(&self) -> Option<String> {
        let aliases = pod::spec(&self.pod).host_aliases.as_deref().unwrap_or_default();
        if pod::host_network(&self.pod) {
            let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            return Some(hosts_file::render_host_network(&own, aliases));
        }
        let (hostname, domain) =
            sandbox_config::hostname_and_domain(&self.pod, &self.host.settings.dns.domain);
        Some(hosts_file::render(&self.pod_ips(), &hostname, &domain, aliases))
    }

    /// The running container an ephemeral one looks into.
    fn target_id(&self, kind: Kind, name: &str) -> Option<String> {
        if kind != Kind::Ephemeral {
            return None;
        }
        let ephemeral = pod::ephemeral_containers(&self.pod)
            .iter()
            .find(|e| e.name == name)?;
        let target = ephemeral
            .target_container_name
            .as_deref()
            .filter(|t| !t.is_empty())?;
        self.seen.runtime.latest(target).map(|c| c.id.clone())
    }

    /// `/var/log/containers/POD_NS_NAME-ID.log`, where log collectors look. Best effort, as upstream.
    fn link_log(&self, name: &str, restart_count: u32, id: &str) {
        let pod = &self.pod;
        let dir = std::path::Path::new("/var/log/containers");
        let settings = &self.host.settings;
        let log = format!(
            "{}/{}",
            sandbox_config::log_directory(&settings.pod_logs_dir, pod),
            container_config::log_path(name, restart_count)
        );
        let link = dir.join(format!(
            "{}_{}_{name}-{id}.log",
            pod::name(pod),
            pod::namespace(pod)
        ));
        if std::fs::create_dir_all(dir).is_ok() {
            let _ = std::os::unix::fs::symlink(log, link);
        }
    }

    async fn run_post_start(
        &mut self,
        start: &Start,
        container: &Container,
        id: &str,
    ) -> Result<(), Failure> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = self.pod_ips().first().cloned().unwrap_or_default();
        let Err(why) = handlers::run_hook(&self.host.cri, id, container, hook, &ip).await else {
            return Ok(());
        };
        tracing::warn!(pod = %pod::full_name(&self.pod), container = %start.name, %why, "postStart hook failed");
        self.container_event(
            start.kind,
            &start.name,
            EventType::Warning,
            "FailedPostStartHook",
            "PostStartHook failed".into(),
        );
        let grace = pod::grace_period_s(&self.pod);
        self.container_event(
            start.kind,
            &start.name,
            EventType::Normal,
            "Killing",
            "FailedPostStartHook".into(),
        );
        self.stop_with_hook(id, container, grace).await;
        self.observe_container(id).await;
        Err(Failure::soon(
            "PostStartHookError",
            format!("PostStart handler: {why}"),
            START_RETRY_S,
        ))
    }
}
