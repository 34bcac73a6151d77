//! `/containerLogs`: a container's log file, without the runtime's own prefixes; followed by inotify.
//!
//! CRI's format is `TIME STREAM TAG MESSAGE`; `P` marks a part of a line whose rest follows. Rotation is followed by
//! looking at the path again when its directory changes.

use super::streams::Query;
use super::{Answer, Body, Server, text};
use crate::pod;
use crate::runtime::{container_config, sandbox_config};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use keelson_proto::cri::v1::ContainerState;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks on their way to a slow reader.
const CHUNKS_QUEUED: usize = 8;
/// How often a quiet follower looks whether its container has ended.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
    /// `Stdout` or `Stderr` only.
    stream: Option<&'static str>,
}

/// Serves one log.
pub(super) async fn serve(server: Arc<Server>, of: (&str, &str, &str), query: Option<&str>) -> Answer {
    let (namespace, name, container) = of;
    let options = match parse(&Query::parse(query), Timestamp::now()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(pod) = server.find(namespace, name, None) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist\n"));
    };
    if pod::find(&pod, container).is_none() {
        return text(
            StatusCode::NOT_FOUND,
            format!("container \"{container}\" not found in pod \"{name}\"\n"),
        );
    }
    let (id, path, ended) = match locate(&server, &pod, container, options.previous).await {
        Ok(found) => found,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            let message = format!("failed to open log file \"{}\": {error}", path.display());
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(CHUNKS_QUEUED);
    let follow = options.follow && !ended;
    tokio::spawn(async move {
        let reader = Reader {
            path,
            file,
            options,
            rest: Vec::new(),
            sent: 0,
            sender,
        };
        if let Err(error) = reader.run(follow, &server, &id).await {
            tracing::debug!(%error, "log stream ended");
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let body: Body =
        StreamBody::new(Box::pin(stream) as std::pin::Pin<Box<dyn futures::Stream<Item = _> + Send + Sync>>)
            .boxed();
    let mut answer = Response::new(body);
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    answer
}

fn parse(query: &Query, now: Timestamp) -> Result<Options, String> {
    let number = |key: &str| -> Result<Option<i64>, String> {
        query
            .get(key)
            .map(|v| {
                v.parse()
                    .map_err(|_| format!("unable to decode the request for container logs: {key} {v:?}"))
            })
            .transpose()
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(s), _) => now.checked_sub(SignedDuration::from_secs(s)).ok(),
        (None, Some(text)) if !text.is_empty() => {
            Some(text.parse().map_err(|_| format!("invalid sinceTime {text:?}"))?)
        }
        _ => None,
    };
    Ok(Options {
        follow: query.on(&["follow"]),
        previous: query.on(&["previous"]),
        timestamps: query.on(&["timestamps"]),
        tail: number("tailLines")?.and_then(|n| usize::try_from(n).ok()),
        limit: number("limitBytes")?.and_then(|n| usize::try_from(n).ok()),
        since,
        stream: match query.get("stream") {
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            _ => None,
        },
    })
}

/// Id, log file and whether the container has ended; or upstream's words for why there is no log.
async fn locate(
    server: &Server,
    pod: &k8s_openapi::api::core::v1::Pod,
    container: &str,
    previous: bool,
) -> Result<(String, PathBuf, bool), String> {
    use crate::runtime::labels;
    use keelson_proto::cri::v1::ContainerFilter;
    let selector = std::collections::HashMap::from([
        (labels::POD_UID.to_owned(), pod::uid(pod).to_owned()),
        (labels::CONTAINER_NAME.to_owned(), container.to_owned()),
    ]);
    let filter = ContainerFilter {
        label_selector: selector,
        ..ContainerFilter::default()
    };
    let mut found = server
        .host
        .cri
        .list_containers(filter)
        .await
        .map_err(|s| crate::cri::describe(&s))?;
    found.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    let name = pod::name(pod);
    let Some(one) = found.into_iter().nth(usize::from(previous)) else {
        return Err(if previous {
            format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
        } else {
            let waiting = pod.status.iter().flat_map(|s| {
                s.container_statuses
                    .iter()
                    .chain(&s.init_container_statuses)
                    .chain(&s.ephemeral_container_statuses)
                    .flatten()
            });
            let why = waiting
                .filter(|s| s.name == container)
                .find_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
            match why.as_deref() {
                Some("ErrImagePull" | "ImagePullBackOff") => {
                    format!(
                        "container \"{container}\" in pod \"{name}\" is waiting to start: trying and failing to pull image"
                    )
                }
                Some(why) => {
                    format!("container \"{container}\" in pod \"{name}\" is waiting to start: {why}")
                }
                None => format!("container \"{container}\" in pod \"{name}\" is not available"),
            }
        });
    };
    let attempt = one.metadata.as_ref().map_or(0, |m| m.attempt);
    let dir = sandbox_config::log_directory(&server.host.settings.pod_logs_dir, pod);
    let path = Path::new(&dir).join(container_config::log_path(container, attempt));
    let ended = one.state() == ContainerState::ContainerExited;
    Ok((one.id, path, ended))
}

/// Reads one log file to a client.
struct Reader {
    path: PathBuf,
    file: File,
    options: Options,
    /// Bytes of a line that has not ended yet.
    rest: Vec<u8>,
    sent: usize,
    sender: mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
}

impl Reader {
    async fn run(mut self, follow: bool, server: &Server, id: &str) -> std::io::Result<()> {
        // Watched before the first read, so that nothing written in between is missed.
        let watch = if follow {
            Some(Watch::new(&self.path)?)
        } else {
            None
        };
        if let Some(lines) = self.options.tail {
            let at = tail_offset(&mut self.file, lines)?;
            self.file.seek(SeekFrom::Start(at))?;
        }
        let mut last_look = false;
        loop {
            if !self.drain().await? {
                return Ok(());
            }
            let Some(watch) = &watch else { return Ok(()) };
            if self.rotated() {
                self.file = File::open(&self.path)?;
                continue;
            }
            if last_look {
                return Ok(());
            }
            tokio::select! {
                changed = watch.changed() => changed?,
                () = self.sender.closed() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    // After its end everything it wrote is read once more.
                    last_look = !matches!(server.host.cri.container_status(id).await,
                        Ok(status) if status.state() == ContainerState::ContainerRunning);
                }
            }
        }
    }

    /// Sends everything up to the end of the file; false when the client wants no more.
    async fn drain(&mut self) -> std::io::Result<bool> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = self.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&buffer[..read]);
            let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else {
                continue;
            };
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            let mut out = Vec::with_capacity(whole.len());
            for line in whole.split_inclusive(|b| *b == b'\n') {
                render(line, &self.options, &mut out);
            }
            let left = self.options.limit.map(|limit| limit - self.sent.min(limit));
            out.truncate(left.unwrap_or(out.len()).min(out.len()));
            self.sent += out.len();
            if !out.is_empty() && self.sender.send(Ok(Frame::data(Bytes::from(out)))).await.is_err() {
                return Ok(false);
            }
            if self.options.limit.is_some_and(|limit| self.sent >= limit) {
                return Ok(false);
            }
        }
    }

    fn rotated(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(now), Ok(open)) => now.ino() != open.ino(),
            _ => false,
        }
    }
}

/// Appends what a client sees of one line.
fn render(line: &[u8], options: &Options, out: &mut Vec<u8>) {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let (Some(time), Some(stream), Some(tag), Some(message)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    if options.stream.is_some_and(|s| s.as_bytes() != stream) {
        return;
    }
    if let Some(since) = options.since {
        let at = std::str::from_utf8(time)
            .ok()
            .and_then(|t| t.parse::<Timestamp>().ok());
        if at.is_some_and(|at| at < since) {
            return;
        }
    }
    if options.timestamps {
        out.extend_from_slice(time);
        out.push(b' ');
    }
    // A part ends without a line break of its own.
    let partial = tag.split(|b| *b == b':').next() == Some(b"P");
    out.extend_from_slice(if partial {
        message.strip_suffix(b"\n").unwrap_or(message)
    } else {
        message
    });
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut at = length;
    let mut found = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    while at > 0 {
        let take = at.min(CHUNK_BYTES as u64);
        at -= take;
        file.seek(SeekFrom::Start(at))?;
        let part = &mut buffer[..usize::try_from(take).unwrap_or(CHUNK_BYTES)];
        file.read_exact(part)?;
        for (i, byte) in part.iter().enumerate().rev() {
            if *byte == b'\n' && at + i as u64 + 1 != length {
                found += 1;
                if found == lines {
                    return Ok(at + i as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}

/// Changes in the log's directory: growth, and rotation. An inotify descriptor reads like a pipe.
struct Watch(Receiver);

impl Watch {
    fn new(path: &Path) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(
            dir,
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify)).map(Watch)
    }

    async fn changed(&self) -> std::io::Result<()> {
        self.0.readable().await?;
        // Which change it was does not matter: the file is read either way.
        let mut events = [0; 4096];
        while self.0.try_read(&mut events).is_ok_and(|n| n > 0) {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_lose_their_prefix() {
        let lines = [
            "2026-01-01T00:00:01Z stdout F one\n",
            "2026-01-01T00:00:02Z stderr P tw",
            "\n",
            "2026-01-01T00:00:03Z stderr F o\n",
        ];
        let text = lines.concat();
        let check = |options: Options, want: &str| {
            let mut out = Vec::new();
            for line in text.as_bytes().split_inclusive(|b| *b == b'\n') {
                render(line, &options, &mut out);
            }
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(Options::default(), "one\ntwo\n");
        check(
            Options {
                stream: Some("stdout"),
                ..Options::default()
            },
            "one\n",
        );
        check(
            Options {
                since: Some("2026-01-01T00:00:03Z".parse().unwrap()),
                ..Options::default()
            },
            "o\n",
        );
        check(
            Options {
                timestamps: true,
                stream: Some("stdout"),
                ..Options::default()
            },
            "2026-01-01T00:00:01Z one\n",
        );
    }

    #[test]
    fn tails_begin_at_lines() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a\nbb\nccc\n").unwrap();
        for (lines, want) in [(0, 9), (1, 5), (2, 2), (3, 0), (9, 0)] {
            assert_eq!(tail_offset(&mut file, lines).unwrap(), want, "{lines}");
        }
    }

    #[test]
    fn queries_become_options() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let options = parse(
            &Query::parse(Some("follow=true&tailLines=5&sinceSeconds=60")),
            now,
        )
        .unwrap();
        assert!(options.follow && options.tail == Some(5));
        assert_eq!(options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(parse(&Query::parse(Some("tailLines=x")), now).is_err());
    }
}
