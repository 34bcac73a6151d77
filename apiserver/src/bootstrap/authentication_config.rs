//! `kube-system/extension-apiserver-authentication`: how others verify the clients this server vouches for.

use keelson_machinery::{GroupResource, Status, Value};
use serde_json::{Map, json};

use crate::options::AuthnOptions;
use crate::server::Server;

const CONFIG_MAPS: GroupResource = GroupResource::new("", "configmaps");

/// The ConfigMap's data, read once at start.
pub fn data(options: &AuthnOptions) -> Map<String, Value> {
    let mut data = Map::new();
    let file =
        |path: &Option<std::path::PathBuf>| path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if let Some(ca) = file(&options.client_ca_file) {
        data.insert("client-ca-file".to_owned(), ca.into());
    }
    if let Some(ca) = file(&options.requestheader_client_ca_file) {
        data.insert("requestheader-client-ca-file".to_owned(), ca.into());
        for (key, list) in [
            (
                "requestheader-allowed-names",
                &options.requestheader_allowed_names,
            ),
            (
                "requestheader-extra-headers-prefix",
                &options.requestheader_extra_headers_prefix,
            ),
            (
                "requestheader-group-headers",
                &options.requestheader_group_headers,
            ),
            ("requestheader-uid-headers", &options.requestheader_uid_headers),
            (
                "requestheader-username-headers",
                &options.requestheader_username_headers,
            ),
        ] {
            data.insert(key.to_owned(), json!(list).to_string().into());
        }
    }
    data
}

/// Writes it.
pub async fn write(server: &Server, data: &Map<String, Value>) -> Result<(), Status> {
    if data.is_empty() {
        return Ok(());
    }
    let name = "extension-apiserver-authentication";
    server
        .update_own(&CONFIG_MAPS, "kube-system", name, |stored| match stored {
            Some(stored) => {
                let mut new = stored.clone();
                for (key, value) in data {
                    new["data"][key] = value.clone();
                }
                (new != *stored).then_some(new)
            }
            None => Some(json!({"metadata": {"name": name, "namespace": "kube-system"}, "data": data})),
        })
        .await
}
