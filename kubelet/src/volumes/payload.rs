//! What the files of configMap, secret, downwardAPI and projected volumes contain. Pure.

use crate::pod;
use crate::runtime::env;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, File>;

/// Modes and selection that apply to one source.
#[derive(Clone, Copy)]
pub struct Select<'a> {
    pub items: Option<&'a [KeyToPath]>,
    pub default_mode: u32,
    pub optional: bool,
}

pub fn config_map(map: &ConfigMap, select: Select<'_>) -> Result<Payload, String> {
    let mut all: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    all.extend(
        map.data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.as_bytes().to_vec())),
    );
    all.extend(
        map.binary_data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.clone())),
    );
    pick(all, select, "configmap")
}

pub fn secret(secret: &Secret, select: Select<'_>) -> Result<Payload, String> {
    pick(
        secret
            .data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.clone()))
            .collect(),
        select,
        "secret",
    )
}

fn pick(all: BTreeMap<&str, Vec<u8>>, select: Select<'_>, kind: &str) -> Result<Payload, String> {
    let Some(items) = select.items.filter(|i| !i.is_empty()) else {
        let mode = select.default_mode;
        return Ok(all
            .into_iter()
            .map(|(key, data)| (key.to_owned(), File { data, mode }))
            .collect());
    };
    let mut out = Payload::new();
    for item in items {
        match all.get(item.key.as_str()) {
            Some(data) => {
                let mode = item.mode.map_or(select.default_mode, i32::cast_unsigned);
                out.insert(
                    clean(&item.path)?,
                    File {
                        data: data.clone(),
                        mode,
                    },
                );
            }
            None if select.optional => {}
            None => {
                return Err(format!("references non-existent {kind} key: {}", item.key)
                    .replace("configmap key", "config key"));
            }
        }
    }
    Ok(out)
}

/// Files of the downward API. `addresses` are the host's and the pod's.
pub fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    addresses: (&[String], &[String]),
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            env::field_value(pod, &field.field_path, addresses.0, addresses.1)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let member = pod::find(pod, name).ok_or_else(|| format!("container {name} not found"))?;
            env::resource_value(pod, &member.container, resource, allocatable)?
        } else {
            continue;
        };
        let mode = item.mode.map_or(default_mode, i32::cast_unsigned);
        out.insert(
            clean(&item.path)?,
            File {
                data: text.into_bytes(),
                mode,
            },
        );
    }
    Ok(out)
}

/// A path that stays inside the volume; the API server refuses others, this is the second lock.
pub fn clean(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if path.starts_with('/') || parts.is_empty() || parts.contains(&"..") || parts[0].starts_with("..") {
        return Err(format!(
            "invalid path {path:?}: must be relative and must not contain or start with '..'"
        ));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_select_and_rename() {
        let map: ConfigMap = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        let all = config_map(
            &map,
            Select {
                items: None,
                default_mode: 0o644,
                optional: false,
            },
        )
        .unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        let items = [KeyToPath {
            key: "a".into(),
            path: "x/y".into(),
            mode: Some(0o400),
        }];
        let some = config_map(
            &map,
            Select {
                items: Some(&items),
                default_mode: 0o644,
                optional: false,
            },
        )
        .unwrap();
        assert_eq!(
            some["x/y"],
            File {
                data: b"1".to_vec(),
                mode: 0o400
            }
        );
        let none = [KeyToPath {
            key: "z".into(),
            path: "z".into(),
            mode: None,
        }];
        let err = config_map(
            &map,
            Select {
                items: Some(&none),
                default_mode: 0,
                optional: false,
            },
        )
        .unwrap_err();
        assert_eq!(err, "references non-existent config key: z");
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(clean("a/./b").unwrap(), "a/b");
        for bad in ["/a", "../a", "a/../b", "", "..data/x"] {
            assert!(clean(bad).is_err(), "{bad}");
        }
    }
}
