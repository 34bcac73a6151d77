//! What a request's method and path mean (`k8s.io/apiserver/pkg/endpoints/request.RequestInfo`).

use http::Method;

use super::query::{Query, decode};

/// The parts of a path, and the verb.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// Whether the path names resources, as opposed to `/healthz`, `/apis`, ...
    pub is_resource: bool,
    /// The whole path, as sent.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the method in lower case
    /// for paths that are no resources.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource: the path of a proxy request.
    pub rest: String,
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            path: path.to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let trimmed = path.trim_matches('/');
        let decoded: Vec<String> = trimmed.split('/').map(|part| decode(part, false)).collect();
        let mut parts: &[String] = &decoded;
        match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => {
                info.version.clone_from(&parts[1]);
                parts = &parts[2..];
            }
            Some("apis") if parts.len() >= 4 => {
                info.group.clone_from(&parts[1]);
                info.version.clone_from(&parts[2]);
                parts = &parts[3..];
            }
            _ => return info,
        }
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
        let old_watch = parts.len() > 1 && parts[0] == "watch";
        if old_watch {
            parts = &parts[1..];
        }
        info.locate(parts);
        info.refine_verb(query, old_watch);
        info
    }

    fn locate(&mut self, mut parts: &[String]) {
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace.clone_from(&parts[1]);
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        self.resource.clone_from(&parts[0]);
        if let Some(name) = parts.get(1) {
            self.name.clone_from(name);
        }
        if let Some(subresource) = parts.get(2) {
            self.subresource.clone_from(subresource);
        }
        if let Some(rest) = parts.get(3..).filter(|rest| !rest.is_empty()) {
            self.rest = rest.join("/");
        }
    }

    fn refine_verb(&mut self, query: &Query, old_watch: bool) {
        if old_watch && self.verb == "get" {
            self.verb = "watch".to_owned();
        }
        if self.name.is_empty() && self.verb == "get" {
            self.verb = match query.flag("watch") {
                Some(true) => "watch",
                _ => "list",
            }
            .to_owned();
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
        if self.name.is_empty()
            && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Some(selector) = query.get("fieldSelector")
            && let Some(name) = selector
                .split(',')
                .find_map(|part| part.strip_prefix("metadata.name="))
        {
            // Authorization by name covers `-w name` and single-object informers.
            name.trim_start_matches('=').clone_into(&mut self.name);
        }
    }

    /// Requests that stay open: no deadline, not counted against the limits in flight.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || (self.is_resource
                && matches!(
                    self.subresource.as_str(),
                    "proxy" | "exec" | "attach" | "portforward" | "log"
                ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(&method, path, &Query::parse(Some(query)))
    }

    #[test]
    fn paths_mean_what_upstream_says() {
        // method, url -> verb, group/version, namespace, resource, name, subresource
        for (method, url, want) in [
            (
                Method::GET,
                "/api/v1/namespaces/x/pods/p/log",
                "get /v1 x pods p log",
            ),
            (Method::GET, "/api/v1/pods?watch=true", "watch /v1  pods  "),
            (Method::GET, "/api/v1/watch/pods", "watch /v1  pods  "),
            (Method::GET, "/api/v1/namespaces", "list /v1  namespaces  "),
            (Method::GET, "/api/v1/namespaces/x", "get /v1 x namespaces x "),
            (
                Method::PUT,
                "/api/v1/namespaces/x/finalize",
                "update /v1 x namespaces x finalize",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/x/deployments",
                "deletecollection apps/v1 x deployments  ",
            ),
            (
                Method::GET,
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
                "list /v1  nodes n1 ",
            ),
            (
                Method::HEAD,
                "/apis/apps/v1/deployments",
                "list apps/v1  deployments  ",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/x/pods/p/eviction",
                "create /v1 x pods p eviction",
            ),
        ] {
            let info = parse(method, url);
            let got = format!(
                "{} {}/{} {} {} {} {}",
                info.verb,
                info.group,
                info.version,
                info.namespace,
                info.resource,
                info.name,
                info.subresource
            );
            assert_eq!(got, want, "{url}");
            assert!(info.is_resource);
        }
    }

    #[test]
    fn other_paths_keep_their_method() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps/v1", "/healthz/etcd"] {
            let info = parse(Method::GET, path);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }

    #[test]
    fn the_rest_of_a_proxy_path_is_kept() {
        let info = parse(Method::GET, "/api/v1/namespaces/x/services/s:80/proxy/a/b");
        assert_eq!((info.name.as_str(), info.rest.as_str()), ("s:80", "a/b"));
        assert!(info.is_long_running());
    }
}
