//! The built-in resources: names, scope, verbs, subresources, and where and as what each is stored.
//!
//! Read once from `tables/resources.tsv`, which is the specification's `resources.tsv` and `storage-keys.tsv` joined
//! (`tests/tables.rs` compares). Resources made at run time carry a `ResourceInfo` of their own.

use std::sync::LazyLock;

use keelson_machinery::gvk::{GroupResource, GroupVersionKind, GroupVersionResource, Name};

/// What discovery, storage and routing know of one resource in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    pub group: Name,
    pub version: Name,
    pub kind: Name,
    /// The plural, as in URL paths.
    pub resource: Name,
    pub singular: Name,
    pub namespaced: bool,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    pub verbs: Vec<Name>,
    pub subresources: Vec<SubresourceInfo>,
    /// The key below `/registry/`: `pods`, `services/endpoints`, `minions`; "" where nothing is stored.
    pub storage_prefix: Name,
    /// `apiVersion` of the stored form: `apps/v1`; another than `version` where upstream stores another.
    pub storage_version: Name,
    /// Served without `--runtime-config`: stable versions.
    pub by_default: bool,
}

/// One subresource and the kind that travels there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubresourceInfo {
    pub name: Name,
    pub group: Name,
    pub version: Name,
    pub kind: Name,
    pub verbs: Vec<Name>,
}

impl ResourceInfo {
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }

    pub fn group_version_kind(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
        }
    }

    pub fn group_version_resource(&self) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&SubresourceInfo> {
        self.subresources.iter().find(|one| one.name == name)
    }
}

static TABLE: LazyLock<Vec<ResourceInfo>> =
    LazyLock::new(|| include_str!("../tables/resources.tsv").lines().map(row).collect());

/// Every built-in resource, also those off by default, ordered by group (core first), version and kind.
pub fn all() -> &'static [ResourceInfo] {
    &TABLE
}

/// A resource by its names in a URL path.
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static ResourceInfo> {
    TABLE
        .iter()
        .find(|one| one.resource == resource && one.group == group && one.version == version)
}

/// A resource by the kind of its objects.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    TABLE
        .iter()
        .find(|one| one.kind == kind && one.group == group && one.version == version)
}

fn row(line: &'static str) -> ResourceInfo {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [
        group,
        version,
        kind,
        resource,
        singular,
        scope,
        short_names,
        categories,
        verbs,
        subresources,
        by_default,
        prefix,
        stored,
    ] = columns[..]
    else {
        panic!(
            "tables/resources.tsv: a row has {} columns: {line}",
            columns.len()
        );
    };
    ResourceInfo {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        resource: resource.into(),
        singular: singular.into(),
        namespaced: scope == "namespaced",
        short_names: names(short_names, ','),
        categories: names(categories, ','),
        verbs: names(verbs, ','),
        subresources: subresources
            .split(';')
            .filter(|one| !one.is_empty())
            .map(|one| subresource(one, group))
            .collect(),
        storage_prefix: prefix.into(),
        storage_version: stored.into(),
        by_default: by_default == "on",
    }
}

fn names(text: &'static str, separator: char) -> Vec<Name> {
    text.split(separator)
        .filter(|one| !one.is_empty())
        .map(Name::from)
        .collect()
}

/// `scale(autoscaling/v1.Scale:get/patch/update)`; a kind without group is of the resource's own.
fn subresource(text: &'static str, own_group: &'static str) -> SubresourceInfo {
    let parts = text.strip_suffix(')').and_then(|text| {
        let (name, rest) = text.split_once('(')?;
        let (kind, verbs) = rest.split_once(':')?;
        let (group, kind) = kind.split_once('/').unwrap_or((own_group, kind));
        let (version, kind) = kind.split_once('.')?;
        Some((name, group, version, kind, verbs))
    });
    let Some((name, group, version, kind, verbs)) = parts else {
        panic!("tables/resources.tsv: no subresource: {text}");
    };
    SubresourceInfo {
        name: name.into(),
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        verbs: names(verbs, '/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads() {
        let pods = find("", "v1", "pods").unwrap();
        assert_eq!(
            (pods.short_names.as_slice(), pods.namespaced),
            (&[Name::from("po")][..], true)
        );
        let eviction = pods.subresource("eviction").unwrap();
        assert_eq!(
            (eviction.group.as_ref(), eviction.kind.as_ref()),
            ("policy", "Eviction")
        );
        assert_eq!(
            find("", "v1", "endpoints").unwrap().storage_prefix,
            "services/endpoints"
        );
        assert_eq!(
            find("autoscaling", "v1", "horizontalpodautoscalers")
                .unwrap()
                .storage_version,
            "autoscaling/v2"
        );
        assert_eq!(
            find("events.k8s.io", "v1", "events").unwrap().storage_version,
            "v1"
        );
        assert_eq!(all().iter().filter(|one| one.by_default).count(), 68);
    }
}
