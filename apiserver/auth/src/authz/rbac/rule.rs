//! One RBAC policy rule: what it allows, and which rules it covers.

use serde_json::{Map, Value};

use crate::authz::Attributes;

/// `rbac/v1 PolicyRule`, read from its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == item)
}

fn has_or_any(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == item || own == "*")
}

fn has_all(list: &[String], items: &[String]) -> bool {
    has(list, "*") || items.iter().all(|item| has(list, item))
}

impl Rule {
    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: strings(&value["verbs"]),
            groups: strings(&value["apiGroups"]),
            resources: strings(&value["resources"]),
            names: strings(&value["resourceNames"]),
            urls: strings(&value["nonResourceURLs"]),
        }
    }

    /// A role's rules.
    pub fn list(rules: &Value) -> Vec<Self> {
        let rules = rules.as_array().map_or(&[][..], Vec::as_slice);
        rules.iter().map(Self::from_value).collect()
    }

    pub fn to_value(&self) -> Value {
        let mut rule = Map::new();
        rule.insert("verbs".to_owned(), self.verbs.clone().into());
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                rule.insert(key.to_owned(), list.clone().into());
            }
        }
        Value::Object(rule)
    }

    pub fn allows(&self, request: &Attributes) -> bool {
        if !has_or_any(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.urls.iter().any(|own| url_matches(own, &request.path));
        }
        has_or_any(&self.groups, &request.group)
            && self.resource_matches(&request.resource, &request.subresource)
            && (self.names.is_empty() || has(&self.names, &request.name))
    }

    fn resource_matches(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            own == "*"
                || match own.split_once('/') {
                    None => subresource.is_empty() && own == resource,
                    Some((head, tail)) => tail == subresource && (head == "*" || head == resource),
                }
        })
    }

    /// Whether whoever holds this rule holds `other`, which has one verb, group, resource, name or URL.
    fn covers(&self, other: &Rule) -> bool {
        has_all(&self.verbs, &other.verbs)
            && has_all(&self.groups, &other.groups)
            && self.covers_resources(other)
            && other
                .urls
                .iter()
                .all(|url| self.urls.iter().any(|own| url_matches(own, url)))
            && (self.names.is_empty() || (!other.names.is_empty() && has_all(&self.names, &other.names)))
    }

    fn covers_resources(&self, other: &Rule) -> bool {
        has_all(&self.resources, &other.resources)
            || other.resources.iter().all(|resource| {
                let any = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
                has(&self.resources, resource) || any.is_some_and(|any| has(&self.resources, &any))
            })
    }

    /// The rule as rules of one verb and one resource (and name) or URL each.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        let one = |item: &String| vec![item.clone()];
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    match self.names.is_empty() {
                        true => parts.push(part),
                        false => parts.extend(self.names.iter().map(|name| Rule {
                            names: one(name),
                            ..part.clone()
                        })),
                    }
                }
            }
        }
        for url in &self.urls {
            parts.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                urls: one(url),
                ..Rule::default()
            }));
        }
        parts
    }

    /// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["create"]}`, as upstream prints missing rights.
    pub fn compact_string(&self) -> String {
        let fields: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", go_strings(list)))
        .collect();
        format!("{{{}}}", fields.join(", "))
    }
}

/// Go's `%q` of a string slice: `["a" "b"]`.
pub fn go_strings(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix))
}

/// What of `wanted` the holder of `held` does not hold, joined where only verbs differ.
pub fn covers(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing = wanted
        .iter()
        .flat_map(Rule::parts)
        .filter(|part| !held.iter().any(|own| own.covers(part)));
    compact(missing)
}

/// Joins rules on the same resource (and name) into one with all their verbs.
fn compact(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = compacted.iter_mut().find(|other| {
            rule.urls.is_empty()
                && other.urls.is_empty()
                && other.groups == rule.groups
                && other.resources == rule.resources
                && other.names == rule.names
        });
        match same {
            Some(other) => {
                for verb in rule.verbs {
                    if !has(&other.verbs, &verb) {
                        other.verbs.push(verb);
                    }
                }
            }
            None => compacted.push(rule),
        }
    }
    compacted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: Value) -> Rule {
        Rule::from_value(&value)
    }

    #[test]
    fn resources_and_subresources_match() {
        for (own, resource, subresource, matches) in [
            ("*", "pods", "log", true),
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/log", "pods", "log", true),
            ("pods/log", "pods", "", false),
            ("*/scale", "deployments", "scale", true),
            ("*/scale", "deployments", "status", false),
        ] {
            let rule = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": [own]}));
            let request = Attributes {
                verb: "get".into(),
                resource: resource.into(),
                subresource: subresource.into(),
                is_resource: true,
                ..Attributes::default()
            };
            assert_eq!(
                rule.allows(&request),
                matches,
                "{own} on {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn urls_match_by_prefix() {
        for (own, path, matches) in [
            ("*", "/x", true),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
        ] {
            assert_eq!(url_matches(own, path), matches, "{own} on {path}");
        }
    }

    #[test]
    fn what_is_not_covered_is_told_compactly() {
        let held = [rule(
            json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/status", "pods"]}),
        )];
        for (wanted, missing) in [
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/status"]}),
                "",
            ),
            (
                json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
            ),
            (
                json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}),
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
            ),
        ] {
            let texts: Vec<String> = covers(&held, &[rule(wanted)])
                .iter()
                .map(Rule::compact_string)
                .collect();
            assert_eq!(texts.join("\n"), missing);
        }
        let one_name = [rule(
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        )];
        let any_name = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert_eq!(covers(&one_name, std::slice::from_ref(&any_name)), [any_name]);
    }
}
