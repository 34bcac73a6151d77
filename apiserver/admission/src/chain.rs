//! The enabled plugins, and the stages in which the server asks them.
//!
//! A write goes: [`Chain::early_effects`] and their execution, [`Chain::mutate`], mutating policies and webhooks, the
//! kind's own validation, [`Chain::validate`], validating policies and webhooks, [`Chain::charge`] and its execution, then the store.

use std::sync::Arc;

use keelson_machinery::{GroupVersion, ObjectReader, Status};
use keelson_schema::resources;
use serde_json::Value;

use crate::plugins::event_rate_limit::Limit;
use crate::plugins::owner_references::ResourceOf;
use crate::plugins::{ELSEWHERE, PLUGINS, Stage};
use crate::{Admission, AdmissionAttributes, Effect};

/// What the flags say.
#[derive(Clone)]
pub struct Config {
    /// `--enable-admission-plugins`.
    pub enable: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disable: Vec<String>,
    /// The limits of EventRateLimit.
    pub event_rate_limits: Vec<Limit>,
    /// Finds the group and plural of `apiVersion` and `kind`; the built-in resources by default.
    pub resource_of: Arc<ResourceOf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enable: Vec::new(),
            disable: Vec::new(),
            event_rate_limits: Vec::new(),
            resource_of: Arc::new(built_in),
        }
    }
}

fn built_in(api_version: &str, kind: &str) -> Option<(String, String)> {
    let version = GroupVersion::parse(api_version)?;
    let found = resources::all().iter().find(|resource| {
        resource.group == version.group && resource.version == version.version && resource.kind == kind
    })?;
    Some((found.group.to_string(), found.resource.to_string()))
}

/// The flags name a plugin wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("{0:?} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Both(String),
}

/// The enabled plugins in order.
pub struct Chain {
    early: Vec<Box<dyn Admission>>,
    late: Vec<Box<dyn Admission>>,
}

/// Makes the plugins that are on by default or enabled, and not disabled.
///
/// # Errors
/// A name is unknown, or both enabled and disabled.
pub fn chain(config: &Config) -> Result<Chain, ConfigError> {
    let known = |name: &String| {
        PLUGINS.iter().any(|plugin| plugin.name == name) || ELSEWHERE.contains(&name.as_str())
    };
    for (flag, names) in [
        ("enable-admission-plugins", &config.enable),
        ("disable-admission-plugins", &config.disable),
    ] {
        if let Some(name) = names.iter().find(|name| !known(name)) {
            let name = name.clone();
            return Err(ConfigError::Unknown { flag, name });
        }
    }
    if let Some(both) = config.enable.iter().find(|name| config.disable.contains(name)) {
        return Err(ConfigError::Both(both.clone()));
    }
    let has = |names: &[String], name: &str| names.iter().any(|own| own == name);
    let mut chain = Chain {
        early: Vec::new(),
        late: Vec::new(),
    };
    for plugin in PLUGINS {
        let wanted =
            (plugin.default_on || has(&config.enable, plugin.name)) && !has(&config.disable, plugin.name);
        if wanted {
            let stage = match plugin.stage {
                Stage::Early => &mut chain.early,
                Stage::Late => &mut chain.late,
            };
            stage.push((plugin.make)(config));
        }
    }
    Ok(chain)
}

impl Chain {
    /// The names of the enabled plugins, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.early.iter().chain(&self.late).map(|plugin| plugin.name())
    }

    fn asked<'a>(
        plugins: &'a [Box<dyn Admission>],
        attributes: &'a AdmissionAttributes<'_>,
    ) -> impl Iterator<Item = &'a dyn Admission> {
        plugins
            .iter()
            .map(AsRef::as_ref)
            .filter(|plugin| plugin.handles(attributes))
    }

    /// Writes to be done before anything else.
    ///
    /// # Errors
    /// A plugin refuses the request.
    pub fn early_effects(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        let mut effects = Vec::new();
        for plugin in Self::asked(&self.early, attributes) {
            effects.extend(plugin.early_effects(attributes, object, reader)?);
        }
        Ok(effects)
    }

    /// Changes the object; null for deletes.
    ///
    /// # Errors
    /// A plugin refuses the request.
    pub fn mutate(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        for plugin in Self::asked(&self.early, attributes) {
            plugin.mutate(attributes, object, reader)?;
        }
        Ok(())
    }

    /// Looks at the final object. The texts answered are for `Warning` headers.
    ///
    /// # Errors
    /// A plugin refuses the request.
    pub fn validate(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<String>, Status> {
        let mut warnings = Vec::new();
        for plugin in Self::asked(&self.early, attributes) {
            plugin.validate(attributes, object, reader)?;
            warnings.extend(plugin.warnings(attributes, object, reader));
        }
        Ok(warnings)
    }

    /// The last word, after webhooks: refusals, and writes (quota usage) to be done before the object is stored. Where such a
    /// write meets a conflict, the server calls again.
    ///
    /// # Errors
    /// A plugin refuses the request.
    pub fn charge(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        let mut effects = Vec::new();
        for plugin in Self::asked(&self.late, attributes) {
            plugin.validate(attributes, object, reader)?;
            effects.extend(plugin.effects(attributes, object, reader)?);
        }
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(enable: &[&str], disable: &[&str]) -> Result<Vec<&'static str>, String> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let config = Config {
            enable: owned(enable),
            disable: owned(disable),
            ..Config::default()
        };
        let chain = chain(&config).map_err(|error| error.to_string())?;
        Ok(chain.names().collect())
    }

    #[test]
    fn the_default_set_is_upstreams() {
        let wanted = [
            "NamespaceLifecycle",
            "LimitRanger",
            "ServiceAccount",
            "TaintNodesByCondition",
            "PodSecurity",
            "Priority",
            "DefaultTolerationSeconds",
            "DefaultStorageClass",
            "StorageObjectInUseProtection",
            "PersistentVolumeClaimResize",
            "RuntimeClass",
            "CertificateApproval",
            "CertificateSigning",
            "CertificateSubjectRestriction",
            "DefaultIngressClass",
            "PodTopologyLabels",
            "ResourceQuota",
        ];
        assert_eq!(names(&[], &[]).unwrap(), wanted);
    }

    #[test]
    fn flags_add_and_remove_but_do_not_reorder() {
        let names = |enable: &[&str], disable: &[&str]| names(enable, disable);
        let enabled = names(
            &["AlwaysDeny", "NodeRestriction", "MutatingAdmissionWebhook"],
            &["LimitRanger"],
        )
        .unwrap();
        assert_eq!(
            enabled[..3],
            ["NamespaceLifecycle", "ServiceAccount", "NodeRestriction"]
        );
        assert_eq!(enabled.last(), Some(&"AlwaysDeny"));
        assert_eq!(
            names(&["Nope"], &[]).unwrap_err(),
            "enable-admission-plugins plugin \"Nope\" is unknown"
        );
        assert_eq!(
            names(&["Priority"], &["Priority"]).unwrap_err(),
            "\"Priority\" in enable-admission-plugins and disable-admission-plugins overlapped"
        );
    }
}
