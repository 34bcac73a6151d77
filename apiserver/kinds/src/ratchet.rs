//! Rules that came later than the objects they forbid: an update may keep what was wrong before.
//!
//! Upstream looks at the stored object before it applies such a rule. Here the rules are always applied, and of a
//! refused update those errors are let go that the stored object has as well: the same error at the same place, or, of
//! some rules, any error of that rule. Only refusals pay for it.

use keelson_machinery::{FieldError, FieldErrors, Value};

use crate::Kind;

/// How much must have been wrong before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The same value at the same place.
    Same,
    /// Anything by the same rule.
    Any,
}
use Before::{Any, Same};

/// Ends of paths, indexes and keys left out, with how each rule is eased.
const EASED: &[(&str, Before)] = &[
    ("topologySpreadConstraints.labelSelector.matchLabels", Any),
    (
        "topologySpreadConstraints.labelSelector.matchExpressions.values",
        Any,
    ),
    ("labelSelector.matchLabels", Any),
    ("labelSelector.matchExpressions.values", Any),
    ("nodeSelectorTerms.matchExpressions.values", Any),
    ("spec.selector.matchLabels", Any),
    ("spec.selector.matchExpressions.values", Any),
    ("podSelector.matchLabels", Any),
    ("podSelector.matchExpressions.values", Any),
    ("namespaceSelector.matchLabels", Any),
    ("namespaceSelector.matchExpressions.values", Any),
    ("sources.serviceAccountToken.path", Any),
    ("securityContext.sysctls.name", Any),
    ("resources.requests", Any),
    ("resources.limits", Any),
    ("metadata.annotations", Same),
    ("tls.secretName", Any),
    ("rules.host", Any),
    ("spec.timeZone", Same),
    ("spec.schedule", Same),
    ("spec.serviceName", Same),
    ("drivers.nodeID", Same),
    ("spec.clusterIPs", Same),
    ("spec.externalIPs", Same),
    ("spec.loadBalancerSourceRanges", Same),
    ("spec.podCIDRs", Same),
    ("ipBlock.cidr", Same),
    ("ipBlock.except", Same),
    ("hostAliases.ip", Same),
    ("dnsConfig.nameservers", Same),
    ("addresses.ip", Same),
    ("matchConditions.expression", Same),
    ("validations.expression", Same),
    ("variables.expression", Same),
];

/// Resource amounts are eased for this reason alone.
const INDIVISIBLE: &str = "must be a positive integer multiple of";
/// Annotations are eased for this key alone.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The errors of an update that the stored object does not excuse.
pub fn not_excused(kind: &dyn Kind, errors: FieldErrors, old: &Value) -> FieldErrors {
    if !errors.0.iter().any(|error| rule(error).is_some()) {
        return errors;
    }
    let standing = kind.validate(old, Some(old));
    let excused = |error: &FieldError| match rule(error) {
        None => false,
        Some((_, Same)) => standing.0.contains(error),
        Some(eased) => standing.0.iter().any(|before| rule(before) == Some(eased)),
    };
    FieldErrors(errors.0.into_iter().filter(|error| !excused(error)).collect())
}

/// The eased rule an error comes from.
fn rule(error: &FieldError) -> Option<(&'static str, Before)> {
    let path = plain(&error.field);
    let eased = EASED.iter().copied().find(|(end, _)| path.ends_with(end))?;
    let fits = match eased.0 {
        "resources.requests" | "resources.limits" => error.detail.contains(INDIVISIBLE),
        "metadata.annotations" => error.field.contains(DELETION_COST),
        _ => true,
    };
    fits.then_some(eased)
}

/// A path without what stands in brackets.
fn plain(path: &str) -> String {
    let mut depth = 0;
    path.chars()
        .filter(|letter| {
            let inside = depth > 0 || *letter == '[';
            match letter {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            !inside
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use crate::testing::errors;
    use serde_json::json;

    fn update(resource: &str, mut new: Value, mut old: Value) -> Vec<String> {
        let kind = *kinds()
            .iter()
            .find(|kind| kind.info().resource == resource)
            .unwrap();
        for object in [&mut new, &mut old] {
            object["metadata"] = json!({"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "1"});
            kind.set_defaults(object);
        }
        kind.prepare_update(&mut new, &old);
        errors(&not_excused(kind, kind.validate(&new, Some(&old)), &old))
    }

    fn cron_job(zone: &str, suspend: bool) -> Value {
        json!({"spec": {"schedule": "@daily", "timeZone": zone, "suspend": suspend, "jobTemplate": {"spec": {"template": {
            "metadata": {}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}}}}})
    }

    #[test]
    fn an_unknown_time_zone_may_stay_and_not_come() {
        assert_eq!(
            update(
                "cronjobs",
                cron_job("Not/There", true),
                cron_job("Not/There", false)
            ),
            [""; 0]
        );
        let changed = update(
            "cronjobs",
            cron_job("Not/Here", true),
            cron_job("Not/There", false),
        );
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(
            changed[0].starts_with("spec.timeZone: Invalid value: \"Not/Here\""),
            "{changed:?}"
        );
    }

    fn deployment(spread: &str, replicas: i64) -> Value {
        json!({"spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"a": spread}}}]}}}})
    }

    #[test]
    fn a_broken_selector_of_spreading_may_stay_while_others_change() {
        assert_eq!(
            update(
                "deployments",
                deployment("no=label", 2),
                deployment("no=label", 1)
            ),
            [""; 0]
        );
        assert_eq!(
            update("deployments", deployment("no=label", 1), deployment("b", 1)).len(),
            1
        );
        // What no rule eases is refused, whatever else may stay.
        let refused = update(
            "deployments",
            deployment("no=label", -1),
            deployment("no=label", 1),
        );
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].starts_with("spec.replicas"), "{refused:?}");
    }

    #[test]
    fn brackets_are_no_part_of_a_rule() {
        assert_eq!(plain("spec.tls[0].secretName"), "spec.tls.secretName");
        assert_eq!(
            plain("metadata.annotations[a.b/c[0]].x"),
            "metadata.annotations.x"
        );
    }
}
