//! Which of the kubelet's paths serves a pod's log, exec, attach or port-forward. Pure.

use keelson_machinery::{Status, Value, meta};

use crate::verbs::Target;
use crate::wire::Query;

/// Parameters the kubelet understands, by its path.
const LOG: &[&str] = &[
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "insecureSkipTLSVerifyBackend",
    "stream",
];
const EXEC: &[&str] = &["stdin", "stdout", "stderr", "tty", "command"];
const PORT_FORWARD: &[&str] = &["ports"];

/// Path and query for the kubelet.
///
/// # Errors
/// 400 where the container cannot be told or the pod is on no node.
pub fn kubelet_path(pod: &Value, target: &Target, query: &Query) -> Result<String, Status> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let (path, parameters) = match target.subresource.as_str() {
        "log" => (
            format!("/containerLogs/{namespace}/{name}/{}", container(pod, query)?),
            LOG,
        ),
        "exec" | "attach" => (
            format!(
                "/{}/{namespace}/{name}/{}",
                target.subresource,
                container(pod, query)?
            ),
            EXEC,
        ),
        "portforward" => (format!("/portForward/{namespace}/{name}"), PORT_FORWARD),
        _ => return Err(Status::no_such_path()),
    };
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let pairs: Vec<String> = parameters
        .iter()
        .filter(|parameter| **parameter != "insecureSkipTLSVerifyBackend")
        .flat_map(|parameter| {
            let values = query.all(parameter).collect::<Vec<_>>();
            let sent_name = kubelet_parameter(&target.subresource, parameter);
            values
                .into_iter()
                .map(move |value| format!("{sent_name}={}", encode(kubelet_value(sent_name, value))))
        })
        .collect();
    Ok(match pairs.is_empty() {
        true => path,
        false => format!("{path}?{}", pairs.join("&")),
    })
}

/// The kubelet's streaming endpoints have names of their own.
fn kubelet_parameter<'a>(subresource: &str, parameter: &'a str) -> &'a str {
    match (subresource, parameter) {
        ("exec" | "attach", "stdin") => "input",
        ("exec" | "attach", "stdout") => "output",
        ("exec" | "attach", "stderr") => "error",
        ("portforward", "ports") => "port",
        _ => parameter,
    }
}

fn kubelet_value<'a>(parameter: &str, value: &'a str) -> &'a str {
    match (parameter, value) {
        ("input" | "output" | "error" | "tty", "true") => "1",
        ("input" | "output" | "error" | "tty", "false") => "0",
        _ => value,
    }
}

/// The container asked for, or the only one, or the one the pod's annotation names.
fn container(pod: &Value, query: &Query) -> Result<String, Status> {
    let name = meta::name(pod);
    let names = |field: &str| -> Vec<&str> {
        let list = pod["spec"][field].as_array().into_iter().flatten();
        list.filter_map(|container| container["name"].as_str()).collect()
    };
    let (containers, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    match query.get("container").filter(|asked| !asked.is_empty()) {
        Some(asked) if containers.contains(&asked) || init.contains(&asked) || ephemeral.contains(&asked) => {
            Ok(asked.to_owned())
        }
        Some(asked) => Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        ))),
        None => match containers.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}"
            ))),
            _ => {
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    containers.join(" ")
                );
                if !init.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        },
    }
}

/// Percent-encodes what is not plain in a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let pod = |names: &[&str]| {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
        };
        let none = Query::default();
        assert_eq!(container(&pod(&["a"]), &none).unwrap(), "a");
        let error = container(&pod(&["a", "b"]), &none).unwrap_err();
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        let asked = Query::parse(Some("container=c"));
        assert_eq!(
            container(&pod(&["a"]), &asked).unwrap_err().message,
            "container c is not valid for pod p"
        );
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(encode("echo a&b"), "echo%20a%26b");
    }
}
