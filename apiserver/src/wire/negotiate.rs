//! Which of our forms a client wants: encoding, and whether as Table or PartialObjectMetadata.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use keelson_machinery::Status;

use super::query::Query;

/// Media types in upstream's order, as its refusals list them.
pub const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// The same for watches.
pub const ACCEPTED_WATCH: &str = "application/json;stream=watch, application/yaml;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// An encoding of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What an object is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Metadata,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub encoding: Encoding,
    pub shape: Shape,
    pub pretty: bool,
    pub gzip: bool,
}

impl Form {
    /// What a client gets that asked for nothing.
    pub const PLAIN: Self = Self {
        encoding: Encoding::Json,
        shape: Shape::Whole,
        pretty: false,
        gzip: false,
    };

    /// The form asked for by the headers.
    ///
    /// # Errors
    /// 406 where no accepted media type is ours.
    pub fn negotiate(headers: &HeaderMap, query: &Query, watch: bool) -> Result<Self, Status> {
        Self::negotiate_of(headers, query, watch, |_| true)
    }

    /// The form of what is never a Table nor mere metadata: reviews, whatever is answered and not stored.
    ///
    /// # Errors
    /// 406 where no accepted media type is ours.
    pub fn negotiate_whole(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        Self::negotiate_of(headers, query, false, |shape| shape == Shape::Whole)
    }

    fn negotiate_of(
        headers: &HeaderMap,
        query: &Query,
        watch: bool,
        has: impl Fn(Shape) -> bool,
    ) -> Result<Self, Status> {
        let accept = accept(headers);
        let (encoding, shape) = if accept.trim().is_empty() {
            (Encoding::Json, Shape::Whole)
        } else {
            clauses(&accept)
                .into_iter()
                .filter_map(|clause| accepted(clause, watch))
                .find(|(_, shape)| has(*shape))
                .ok_or_else(|| Status::not_acceptable(if watch { ACCEPTED_WATCH } else { ACCEPTED }))?
        };
        Ok(Self {
            encoding,
            shape,
            pretty: wants_pretty(headers, query),
            gzip: takes_gzip(headers),
        })
    }
}

/// The first of these media types that the client takes, in its order of preference; any will do for one that names none.
pub fn media_type<'a>(headers: &HeaderMap, ours: &[&'a str]) -> Option<&'a str> {
    let accept = accept(headers);
    if accept.trim().is_empty() {
        return ours.first().copied();
    }
    clauses(&accept).into_iter().find_map(|clause| {
        let wanted = clause.split(';').next().unwrap_or_default().trim();
        let takes = |one: &str| match wanted.split_once('/') {
            Some((kind, "*")) => kind == "*" || one.split('/').next() == Some(kind),
            _ => one.eq_ignore_ascii_case(wanted),
        };
        ours.iter().copied().find(|one| takes(one))
    })
}

/// The Accept headers as one.
fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(ACCEPT).into_iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// The clauses of an Accept header, best first.
fn clauses(accept: &str) -> Vec<&str> {
    let mut ranked: Vec<(f32, &str)> = accept
        .split(',')
        .map(|clause| {
            let quality = clause
                .split(';')
                .find_map(|parameter| parameter.trim().strip_prefix("q="))
                .and_then(|quality| quality.parse().ok());
            (quality.unwrap_or(1.0), clause.trim())
        })
        .filter(|(quality, _)| *quality > 0.0)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().map(|(_, clause)| clause).collect()
}

fn accepted(clause: &str, watch: bool) -> Option<(Encoding, Shape)> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = Encoding::of(&parts.next()?.to_ascii_lowercase())?;
    let (mut kind, mut version, mut group, mut stream) = ("", "", "", "");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("v", value)) => version = value,
            Some(("g", value)) => group = value,
            Some(("stream", value)) => stream = value,
            _ => {}
        }
    }
    if !(stream.is_empty() || watch && stream == "watch") {
        return None;
    }
    let shape = match kind {
        "" => Shape::Whole,
        _ if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") => return None,
        "Table" if encoding != Encoding::Protobuf => Shape::Table,
        "PartialObjectMetadata" => Shape::Metadata,
        "PartialObjectMetadataList" if !watch => Shape::Metadata,
        _ => return None,
    };
    Some((encoding, shape))
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    match query.get("pretty") {
        Some(asked) => !matches!(asked, "false" | "0"),
        None => {
            let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
            let agent = agent.unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|prefix| agent.starts_with(prefix))
        }
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"))
}

/// The encoding of a request's body; JSON where none is named.
///
/// # Errors
/// 415 for anything else.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(Encoding::Json);
    };
    let media_type = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    match Encoding::of(&media_type.to_ascii_lowercase()) {
        Some(encoding) if !media_type.contains('*') => Ok(encoding),
        _ if media_type.is_empty() => Ok(Encoding::Json),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str, watch: bool) -> Option<(Encoding, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Form::negotiate(&headers, &Query::default(), watch)
            .ok()
            .map(|form| (form.encoding, form.shape))
    }

    #[test]
    fn clients_get_the_first_form_we_have() {
        use Encoding::{Json, Protobuf, Yaml};
        for (accept, watch, want) in [
            ("application/json", false, Some((Json, Shape::Whole))),
            ("*/*", false, Some((Json, Shape::Whole))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                false,
                Some((Json, Shape::Table)),
            ),
            (
                "application/vnd.kubernetes.protobuf, */*",
                false,
                Some((Protobuf, Shape::Whole)),
            ),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                true,
                Some((Protobuf, Shape::Whole)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                true,
                Some((Protobuf, Shape::Metadata)),
            ),
            (
                "application/cbor,application/yaml;q=0.5",
                false,
                Some((Yaml, Shape::Whole)),
            ),
            (
                "application/yaml;q=0.5,application/json;q=0.9",
                false,
                Some((Json, Shape::Whole)),
            ),
            ("application/cbor", false, None),
            ("text/html", false, None),
            ("application/json;as=Nothing;v=v1;g=meta.k8s.io", false, None),
        ] {
            assert_eq!(form(accept, watch), want, "{accept}");
        }
    }

    #[test]
    fn documents_come_as_the_first_media_type_we_have() {
        for (accept, want) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("application/*", Some("application/json")),
            ("application/spec@v1", Some("application/spec@v1")),
            (
                "application/spec@v1, application/json;q=0.9",
                Some("application/spec@v1"),
            ),
            ("application/other,Application/JSON", Some("application/json")),
            ("application/other", None),
            ("text/*", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            let ours = ["application/json", "application/spec@v1"];
            assert_eq!(media_type(&headers, &ours), want, "{accept}");
        }
    }
}
