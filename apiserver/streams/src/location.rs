//! Where a pod's streams are at its kubelet, and which container is meant. Pure.

use keelson_machinery::{Status, Value, meta};

use crate::Streams;

/// The container to use: the one asked for, or the only one.
///
/// # Errors
/// 400 with upstream's text where the pod has no such container, or several and none was named.
pub fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod
            .pointer(&format!("/spec/{list}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        containers
            .filter_map(|one| one.get("name")?.as_str())
            .map(str::to_owned)
            .collect()
    };
    let (regular, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let pod_name = meta::name(pod);
    if !asked.is_empty() {
        let known = [&regular, &init, &ephemeral]
            .into_iter()
            .flatten()
            .any(|name| name == asked);
        return match known {
            true => Ok(asked.to_owned()),
            false => Err(Status::bad_request(format!(
                "container {asked} is not valid for pod {pod_name}"
            ))),
        };
    }
    match regular.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        many => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// The streams of a query of `PodExecOptions` or `PodAttachOptions`.
///
/// # Errors
/// 400 where it asks for none.
pub fn streams(query: &[(String, String)]) -> Result<Streams, Status> {
    let flag = |name: &str| {
        let given = query.iter().find(|(key, _)| key == name);
        given.is_some_and(|(_, value)| is_set(value))
    };
    let tty = flag("tty");
    let streams = Streams {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr") && !tty,
        tty,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(streams)
}

/// Go's reading of a boolean parameter that is present: clients write `true`, `True`, `1` or nothing.
fn is_set(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

/// `exec` at the kubelet.
pub fn exec(pod: &Value, container: &str, streams: Streams, command: &[String]) -> String {
    let command = command.iter().map(|word| ("command", word.as_str()));
    let query: Vec<(&str, &str)> = command.chain(flags(streams)).collect();
    with_query(pod_path("exec", pod, Some(container)), &query)
}

/// `attach` at the kubelet.
pub fn attach(pod: &Value, container: &str, streams: Streams) -> String {
    with_query(
        pod_path("attach", pod, Some(container)),
        &flags(streams).collect::<Vec<_>>(),
    )
}

/// `portForward` at the kubelet; `ports` as the old WebSocket form gives them.
pub fn port_forward(pod: &Value, ports: &[String]) -> String {
    let query: Vec<(&str, &str)> = ports.iter().map(|port| ("port", port.as_str())).collect();
    with_query(pod_path("portForward", pod, None), &query)
}

/// `containerLogs` at the kubelet, with what `PodLogOptions` asks.
pub fn log(pod: &Value, container: &str, query: &[(String, String)]) -> String {
    const FLAGS: [&str; 3] = ["follow", "previous", "timestamps"];
    const PASSED: [&str; 5] = ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];
    let asked = query.iter().filter_map(|(key, value)| {
        let key = key.as_str();
        if FLAGS.contains(&key) {
            return is_set(value).then_some((key, "true"));
        }
        (PASSED.contains(&key) && !value.is_empty()).then_some((key, value.as_str()))
    });
    let asked: Vec<(&str, &str)> = asked.collect();
    with_query(pod_path("containerLogs", pod, Some(container)), &asked)
}

fn flags<'a>(streams: Streams) -> impl Iterator<Item = (&'a str, &'a str)> {
    let flags = [
        (streams.stdin, ("input", "1")),
        (streams.stdout, ("output", "1")),
        (streams.stderr && !streams.tty, ("error", "1")),
        (streams.tty, ("tty", "1")),
    ];
    flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag)
}

fn pod_path(verb: &str, pod: &Value, container: Option<&str>) -> String {
    let mut path = format!(
        "/{verb}/{}/{}",
        encoded(meta::namespace(pod)),
        encoded(meta::name(pod))
    );
    if let Some(container) = container {
        path += &format!("/{}", encoded(container));
    }
    path
}

fn with_query(path: String, query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
        .collect();
    if pairs.is_empty() {
        path
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

/// Percent-encoding of all but unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_chosen_as_upstream_does() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(container(&two, "i").unwrap(), "i");
        assert_eq!(
            container(&one, "x").unwrap_err().message,
            "container x is not valid for pod p"
        );
        assert_eq!(
            container(&two, "").unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn streams_are_what_the_query_asks() {
        let query = |keys: &[&str]| -> Vec<(String, String)> {
            keys.iter()
                .map(|key| ((*key).to_owned(), "true".to_owned()))
                .collect()
        };
        let terminal = Streams {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        assert_eq!(
            streams(&query(&["stdin", "stdout", "stderr", "tty"])),
            Ok(terminal)
        );
        assert_eq!(streams(&query(&["tty"])).unwrap_err().code, 400);
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        for (value, set) in [
            ("true", true),
            ("True", true),
            ("1", true),
            ("", true),
            ("0", false),
            ("false", false),
            ("False", false),
        ] {
            let query = [("stdout".to_owned(), value.to_owned())];
            assert_eq!(streams(&query).is_ok(), set, "stdout={value}");
        }
    }

    #[test]
    fn locations() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}});
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: true,
        };
        let command = ["sh".to_owned(), "-c".to_owned(), "a b&c".to_owned()];
        assert_eq!(
            exec(&pod, "c", streams, &command),
            "/exec/n/p/c?command=sh&command=-c&command=a%20b%26c&input=1&output=1&tty=1"
        );
        let query = [
            ("follow".to_owned(), "True".to_owned()),
            ("previous".to_owned(), "False".to_owned()),
            ("container".to_owned(), "c".to_owned()),
        ];
        assert_eq!(log(&pod, "c", &query), "/containerLogs/n/p/c?follow=true");
        assert_eq!(port_forward(&pod, &[]), "/portForward/n/p");
    }
}
