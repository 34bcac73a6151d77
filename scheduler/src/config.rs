//! KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): the file given with `--config`.
//!
//! Unknown fields and plugins are refused. Fields that concern parts we do not have (extenders, parallelism, sampling)
//! are refused when they ask for something and accepted where they change speed only.

use std::path::Path;

use k8s_openapi::api::core::v1 as api;
use serde::Deserialize;

use crate::args::{Args, ScoringStrategy, WeightedResource};
use crate::model::labels::{Labels, NodeTerm};
use crate::model::terms::SpreadConstraint;
use crate::plugins::{PLUGINS, Row};
use crate::profile::{Choice, Profile};
use crate::queue::Backoff;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not a KubeSchedulerConfiguration: {reason}")]
    Parse { path: String, reason: String },
    #[error("{0}")]
    Invalid(String),
}

/// The file, as far as it concerns us.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    pub client_connection: ClientConnection,
    #[serde(default)]
    pub leader_election: LeaderElection,
    #[serde(default)]
    profiles: Vec<ProfileFile>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    #[serde(default)]
    extenders: Vec<serde_json::Value>,
    /// Speed only: every node is looked at.
    #[serde(default, rename = "percentageOfNodesToScore")]
    _percentage_of_nodes_to_score: Option<u32>,
    #[serde(default, rename = "parallelism")]
    _parallelism: Option<u32>,
    #[serde(default, rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(default, rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(default, rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Option<bool>,
}

/// How to reach the API server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    #[serde(default)]
    pub kubeconfig: String,
}

/// Leader election; absent fields keep the flags' values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderElection {
    pub leader_elect: Option<bool>,
    pub lease_duration: Option<String>,
    pub renew_deadline: Option<String>,
    pub retry_period: Option<String>,
    pub resource_name: Option<String>,
    pub resource_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    scheduler_name: Option<String>,
    #[serde(default)]
    plugins: PluginsFile,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
    #[serde(default, rename = "percentageOfNodesToScore")]
    _percentage_of_nodes_to_score: Option<u32>,
}

/// Plugins per point; points we fold into filter or score count for those.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PluginsFile {
    multi_point: PluginSetFile,
    pre_enqueue: PluginSetFile,
    queue_sort: PluginSetFile,
    pre_filter: PluginSetFile,
    filter: PluginSetFile,
    post_filter: PluginSetFile,
    pre_score: PluginSetFile,
    score: PluginSetFile,
    reserve: PluginSetFile,
    permit: PluginSetFile,
    pre_bind: PluginSetFile,
    bind: PluginSetFile,
    post_bind: PluginSetFile,
}

impl PluginsFile {
    fn sets(&self) -> [&PluginSetFile; 13] {
        [
            &self.multi_point,
            &self.pre_enqueue,
            &self.queue_sort,
            &self.pre_filter,
            &self.filter,
            &self.post_filter,
            &self.pre_score,
            &self.score,
            &self.reserve,
            &self.permit,
            &self.pre_bind,
            &self.bind,
            &self.post_bind,
        ]
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PluginSetFile {
    enabled: Vec<PluginFile>,
    disabled: Vec<PluginFile>,
}

impl PluginSetFile {
    fn enables(&self, name: &str) -> Option<&PluginFile> {
        self.enabled.iter().find(|p| p.name == name)
    }

    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|p| p.name == name || p.name == "*")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginFile {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: serde_json::Value,
}

impl Choice for PluginsFile {
    fn filters(&self, row: &Row) -> bool {
        let point = match row.name {
            "SchedulingGates" => &self.pre_enqueue,
            "DefaultPreemption" => &self.post_filter,
            _ => &self.filter,
        };
        enabled(&self.multi_point, point, row.name).is_some()
    }

    fn weight(&self, row: &Row) -> Option<i64> {
        let weight = enabled(&self.multi_point, &self.score, row.name)?;
        Some(if weight > 0 { weight } else { row.weight })
    }
}

/// The weight a plugin is enabled with at a point (0 when none is given); `None` when it is disabled. A point's own
/// list wins over `multiPoint`; a plugin that a list both disables and enables is enabled.
fn enabled(multi: &PluginSetFile, point: &PluginSetFile, name: &str) -> Option<i64> {
    if let Some(plugin) = point.enables(name) {
        return Some(plugin.weight);
    }
    if point.disables(name) {
        return None;
    }
    match multi.enables(name) {
        Some(plugin) => Some(plugin.weight),
        None if multi.disables(name) => None,
        None => Some(0),
    }
}

impl File {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: shown.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| ConfigError::Parse { path: shown, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        if file.kind != "KubeSchedulerConfiguration" || file.api_version != "kubescheduler.config.k8s.io/v1" {
            return Err(format!(
                "no kind \"{}\" is registered for version \"{}\"",
                file.kind, file.api_version
            ));
        }
        if !file.extenders.is_empty() {
            return Err("extenders are not supported".to_owned());
        }
        Ok(file)
    }

    /// Backoff of failed pods.
    pub fn backoff(&self) -> Backoff {
        let default = Backoff::default();
        let seconds = std::time::Duration::from_secs;
        Backoff {
            initial: self.pod_initial_backoff_seconds.map_or(default.initial, seconds),
            max: self.pod_max_backoff_seconds.map_or(default.max, seconds),
        }
    }

    /// The profiles; the default one where none is given.
    pub fn profiles(&self) -> Result<Vec<Profile>, ConfigError> {
        let invalid = ConfigError::Invalid;
        if self.profiles.is_empty() {
            return Ok(vec![Profile::new(
                DEFAULT_NAME,
                &crate::profile::Defaults,
                Args::default(),
            )]);
        }
        let mut profiles: Vec<Profile> = Vec::new();
        for (at, file) in self.profiles.iter().enumerate() {
            let name = file.scheduler_name.as_deref().unwrap_or(DEFAULT_NAME);
            if profiles.iter().any(|p| *p.name == *name) {
                return Err(invalid(format!(
                    "profiles[{at}].schedulerName: Duplicate value: \"{name}\""
                )));
            }
            let known =
                |name: &str| name == "*" || PLUGINS.iter().any(|r| r.name == name) || FOREIGN.contains(&name);
            let named = file
                .plugins
                .sets()
                .into_iter()
                .flat_map(|s| s.enabled.iter().chain(&s.disabled));
            if let Some(unknown) = named.map(|p| &p.name).find(|n| !known(n)) {
                return Err(invalid(format!(
                    "profiles[{at}]: {unknown} does not exist in the plugin registry"
                )));
            }
            let mut args = Args::default();
            for config in &file.plugin_config {
                set_args(&mut args, &config.name, config.args.clone()).map_err(|reason| {
                    invalid(format!("profiles[{at}].pluginConfig {}: {reason}", config.name))
                })?;
            }
            profiles.push(Profile::new(name, &file.plugins, args));
        }
        Ok(profiles)
    }
}

/// The profile that pods without a `schedulerName` ask for.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// Upstream plugins that files name and that have nothing to do here: they can be enabled or disabled without effect.
const FOREIGN: &[&str] = &[
    "DynamicResources",
    "NodeVolumeLimits",
    "EBSLimits",
    "GCEPDLimits",
    "AzureDiskLimits",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ArgsFile {
    added_affinity: Option<api::NodeAffinity>,
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<StrategyFile>,
    resources: Option<Vec<ResourceFile>>,
    default_constraints: Vec<api::TopologySpreadConstraint>,
    defaulting_type: Option<String>,
    hard_pod_affinity_weight: Option<i32>,
    min_candidate_nodes_percentage: Option<usize>,
    min_candidate_nodes_absolute: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StrategyFile {
    #[serde(rename = "type")]
    type_: String,
    resources: Option<Vec<ResourceFile>>,
    requested_to_capacity_ratio: Option<RatioFile>,
}

#[derive(Deserialize)]
struct ResourceFile {
    name: String,
    weight: Option<i64>,
}

#[derive(Deserialize)]
struct RatioFile {
    shape: Vec<PointFile>,
}

#[derive(Deserialize)]
struct PointFile {
    utilization: i64,
    score: i64,
}

fn set_args(args: &mut Args, plugin: &str, value: serde_json::Value) -> Result<(), String> {
    let file: ArgsFile = match value {
        serde_json::Value::Null => ArgsFile::default(),
        value => serde_json::from_value(value).map_err(|e| e.to_string())?,
    };
    let weighted = |list: Vec<ResourceFile>| {
        let one = |r: ResourceFile| WeightedResource {
            name: r.name.into(),
            weight: r.weight.unwrap_or(1).max(1),
        };
        list.into_iter().map(one).collect::<Vec<_>>()
    };
    match plugin {
        "NodeAffinity" => {
            let added = file.added_affinity.unwrap_or_default();
            let required = added.required_during_scheduling_ignored_during_execution;
            args.added_required_node_terms =
                required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect());
            let preferred = added
                .preferred_during_scheduling_ignored_during_execution
                .unwrap_or_default();
            args.added_preferred_node_terms = preferred
                .iter()
                .map(|p| (p.weight, NodeTerm::new(&p.preference)))
                .collect();
        }
        "NodeResourcesFit" => {
            args.ignored_resources = file.ignored_resources.into_iter().map(Into::into).collect();
            args.ignored_resource_groups = file.ignored_resource_groups.into_iter().map(Into::into).collect();
            if let Some(strategy) = file.scoring_strategy {
                args.scoring_strategy = match strategy.type_.as_str() {
                    "LeastAllocated" => ScoringStrategy::LeastAllocated,
                    "MostAllocated" => ScoringStrategy::MostAllocated,
                    "RequestedToCapacityRatio" => ScoringStrategy::RequestedToCapacityRatio(shape(
                        strategy.requested_to_capacity_ratio,
                    )?),
                    other => return Err(format!("scoringStrategy.type: Unsupported value: \"{other}\"")),
                };
                if let Some(resources) = strategy.resources.filter(|r| !r.is_empty()) {
                    args.scored_resources = weighted(resources);
                }
            }
        }
        "NodeResourcesBalancedAllocation" => {
            if let Some(resources) = file.resources.filter(|r| !r.is_empty()) {
                args.balanced_resources = weighted(resources);
            }
        }
        "PodTopologySpread" => {
            if file.defaulting_type.as_deref() == Some("List") {
                let constraints = file.default_constraints.iter();
                args.default_constraints = Some(
                    constraints
                        .map(|c| SpreadConstraint::new(c, &Labels::default()))
                        .collect(),
                );
            } else if !file.default_constraints.is_empty() {
                return Err("defaultConstraints: when .defaultingType is System".to_owned());
            }
        }
        "InterPodAffinity" => {
            args.hard_pod_affinity_weight = file.hard_pod_affinity_weight.unwrap_or(1);
        }
        "DefaultPreemption" => {
            args.min_candidate_nodes_percentage = file.min_candidate_nodes_percentage.unwrap_or(10);
            args.min_candidate_nodes_absolute = file.min_candidate_nodes_absolute.unwrap_or(100);
        }
        "VolumeBinding" | "DynamicResources" => {}
        other => return Err(format!("{other} takes no arguments")),
    }
    Ok(())
}

fn shape(ratio: Option<RatioFile>) -> Result<Vec<(i64, i64)>, String> {
    let points = ratio.map(|r| r.shape).unwrap_or_default();
    // Scores are given as 0..=10 and kept as 0..=100.
    let points: Vec<_> = points
        .into_iter()
        .map(|p| (p.utilization, p.score * 10))
        .collect();
    let sorted = points.is_sorted_by(|a, b| a.0 < b.0);
    let inside = points
        .iter()
        .all(|(u, s)| (0..=100).contains(u) && (0..=100).contains(s));
    if points.is_empty() || !sorted || !inside {
        return Err(
            "requestedToCapacityRatio.shape: points must rise in utilization, 0..=100, score 0..=10".into(),
        );
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

    fn profiles(rest: &str) -> Result<Vec<Profile>, String> {
        File::parse(&format!("{HEAD}{rest}"))?
            .profiles()
            .map_err(|e| e.to_string())
    }

    fn weight(profile: &Profile, name: &str) -> Option<i64> {
        let scores = profile
            .fixed_scores
            .iter()
            .chain(&profile.normalized_scores)
            .chain(&profile.cluster_scores);
        scores
            .into_iter()
            .find(|s| PLUGINS[s.row].name == name)
            .map(|s| s.weight)
    }

    #[test]
    fn plugins_are_enabled_disabled_and_weighed() {
        let rest = "profiles:\n- schedulerName: mine\n  plugins:\n    score:\n      disabled: [{name: ImageLocality}]\n      \
                    enabled: [{name: NodeAffinity, weight: 7}]\n    multiPoint:\n      disabled: [{name: DefaultPreemption}, \
                    {name: TaintToleration}]\n";
        let mine = &profiles(rest).unwrap()[0];
        assert_eq!(&*mine.name, "mine");
        assert_eq!(weight(mine, "NodeAffinity"), Some(7));
        assert_eq!(weight(mine, "ImageLocality"), None);
        assert_eq!(weight(mine, "TaintToleration"), None);
        assert_eq!(weight(mine, "PodTopologySpread"), Some(2));
        assert!(!mine.preempts && mine.gates);
        assert!(
            mine.node_filters
                .iter()
                .all(|f| PLUGINS[f.row].name != "TaintToleration")
        );
    }

    #[test]
    fn arguments_reach_their_plugins() {
        let rest = "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      scoringStrategy:\n        \
                    type: RequestedToCapacityRatio\n        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, \
                    {utilization: 100, score: 10}]}\n  - name: InterPodAffinity\n    args: {hardPodAffinityWeight: 5}\n";
        let args = &profiles(rest).unwrap()[0].args;
        let expected = ScoringStrategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]);
        assert_eq!(
            (&args.scoring_strategy, args.hard_pod_affinity_weight),
            (&expected, 5)
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for (rest, expected) in [
            ("nonsense: 1\n", "unknown field `nonsense`"),
            (
                "profiles:\n- plugins: {filter: {enabled: [{name: Foo}]}}\n",
                "Foo does not exist",
            ),
            (
                "profiles: [{schedulerName: a}, {schedulerName: a}]\n",
                "Duplicate value: \"a\"",
            ),
            (
                "extenders: [{urlPrefix: http://x}]\n",
                "extenders are not supported",
            ),
        ] {
            let error = profiles(rest).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
        assert!(File::parse("apiVersion: v1\nkind: Pod\n").is_err());
    }
}
