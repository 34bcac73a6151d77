//! `meta.v1.ListOptions` of lists, watches and deletecollections, checked as upstream checks them.

use keelson_machinery::{FieldErrors, GroupKind, Path, Status, fields, labels};

use super::Target;
use super::continue_token::Continue;
use crate::cache::Selection;
use crate::wire::Query;

/// How the asked-for revision is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Exact,
    NotOlderThan,
}

/// The options, parsed.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub selection: Selection,
    /// `None`: the most recent. 0: any.
    pub revision: Option<i64>,
    pub revision_match: Option<Match>,
    /// 0: all.
    pub limit: usize,
    pub next: Option<Continue>,
    pub timeout_s: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// # Errors
    /// 400 or 422 with upstream's texts.
    pub fn parse(query: &Query, target: &Target, watch: bool) -> Result<Self, Status> {
        let revision = match query.get("resourceVersion") {
            None | Some("") => None,
            Some(text) => Some(parse_revision(text)?),
        };
        let number = |name: &str| -> Result<Option<i64>, Status> {
            match query.get(name) {
                None | Some("") => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|_| {
                    Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
                }),
            }
        };
        let revision_match = check(query, watch)?;
        let next = match query.get("continue") {
            None | Some("") => None,
            Some(_) if revision.is_some_and(|revision| revision != 0) => {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            Some(token) => Some(Continue::decode(token)?),
        };
        Ok(Self {
            selection: selection(query, target)?,
            revision,
            revision_match,
            limit: number("limit")?.map_or(0, |limit| usize::try_from(limit).unwrap_or(0)),
            next,
            timeout_s: number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
        })
    }
}

/// A resourceVersion as a number.
pub fn parse_revision(text: &str) -> Result<i64, Status> {
    text.parse()
        .ok()
        .filter(|revision| *revision >= 0)
        .ok_or_else(|| {
            let mut errors = FieldErrors::default();
            errors.invalid(
                &Path::new("resourceVersion"),
                text,
                format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
            );
            invalid(&errors)
        })
}

fn invalid(errors: &FieldErrors) -> Status {
    Status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", errors)
}

/// Upstream's `ValidateListOptions`.
fn check(query: &Query, watch: bool) -> Result<Option<Match>, Status> {
    let mut errors = FieldErrors::default();
    let found = match query.get("resourceVersionMatch") {
        Some("Exact") => Some(Match::Exact),
        Some("NotOlderThan") => Some(Match::NotOlderThan),
        _ => None,
    };
    match watch {
        true => check_watch(&mut errors, query, found),
        false => check_list(&mut errors, query, found),
    }
    match errors.is_empty() {
        true => Ok(found),
        false => Err(invalid(&errors)),
    }
}

fn is_given(query: &Query, name: &str) -> bool {
    query.get(name).is_some_and(|value| !value.is_empty())
}

fn check_watch(errors: &mut FieldErrors, query: &Query, found: Option<Match>) {
    let path = Path::new("resourceVersionMatch");
    let asked = query.get("resourceVersionMatch").unwrap_or_default();
    let initial_events = query.flag("sendInitialEvents").is_some();
    let fits = found == Some(Match::NotOlderThan);
    if initial_events && !fits {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.forbidden(&path, why);
    }
    if asked.is_empty() {
        return;
    }
    if !initial_events {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.forbidden(&path, why);
    }
    if !fits {
        errors.not_supported(&path, asked, &["NotOlderThan"]);
    }
    if is_given(query, "continue") {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.forbidden(&path, why);
    }
}

fn check_list(errors: &mut FieldErrors, query: &Query, found: Option<Match>) {
    let path = Path::new("resourceVersionMatch");
    let asked = query.get("resourceVersionMatch").unwrap_or_default();
    if !asked.is_empty() {
        if !is_given(query, "resourceVersion") {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.forbidden(&path, why);
        }
        if is_given(query, "continue") {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.forbidden(&path, why);
        }
        if found.is_none() {
            errors.not_supported(&path, asked, &["Exact", "NotOlderThan", ""]);
        }
        if found == Some(Match::Exact) && query.get("resourceVersion") == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.forbidden(&path, why);
        }
    }
    if query.flag("sendInitialEvents").is_some() {
        let path = Path::new("sendInitialEvents");
        errors.forbidden(&path, "sendInitialEvents is forbidden for list");
    }
}

fn selection(query: &Query, target: &Target) -> Result<Selection, Status> {
    let labels = match query.get("labelSelector") {
        None | Some("") => None,
        Some(text) => {
            let selector = labels::Selector::parse(text).map_err(Status::bad_request)?;
            (!selector.is_everything()).then_some(selector)
        }
    };
    let kind = &target.served.kind;
    let fields = match query.get("fieldSelector") {
        None | Some("") => None,
        Some(text) => {
            let selector = fields::Selector::parse(text)
                .and_then(|selector| {
                    selector.transform(|label, value| {
                        Ok((kind.convert_field_label(label)?.into_owned(), value.to_owned()))
                    })
                })
                .map_err(Status::bad_request)?;
            (!selector.is_empty()).then_some(selector)
        }
    };
    let exact = |field: &str| {
        fields
            .as_ref()
            .and_then(|fields| fields.requires_exact_match(field))
            .map(str::to_owned)
    };
    let (name, node) = (exact("metadata.name"), exact("spec.nodeName"));
    let namespace = match (target.served.info.namespaced, target.namespace.is_empty()) {
        (true, false) => Some(target.namespace.clone()),
        (true, true) => exact("metadata.namespace"),
        (false, _) => None,
    };
    Ok(Selection {
        namespace,
        name,
        labels,
        fields,
        node: node.filter(|_| target.served.info.resource == "pods"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictory_options_are_refused_with_upstreams_texts() {
        for (query, watch, want) in [
            (
                "resourceVersionMatch=Exact",
                false,
                Some("unless resourceVersion is provided"),
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                false,
                Some("for resourceVersion \"0\""),
            ),
            (
                "resourceVersionMatch=Nope&resourceVersion=1",
                false,
                Some("Unsupported value: \"Nope\""),
            ),
            (
                "sendInitialEvents=true",
                false,
                Some("sendInitialEvents is forbidden for list"),
            ),
            (
                "resourceVersionMatch=NotOlderThan",
                true,
                Some("forbidden for watch unless"),
            ),
            (
                "sendInitialEvents=true",
                true,
                Some("requires setting resourceVersionMatch"),
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                true,
                None,
            ),
            ("resourceVersionMatch=Exact&resourceVersion=5", false, None),
            ("", false, None),
        ] {
            let outcome = check(&Query::parse(Some(query)), watch);
            match want {
                None => assert!(outcome.is_ok(), "{query}"),
                Some(text) => {
                    let status = outcome.unwrap_err();
                    assert!(status.message.contains(text), "{}", status.message);
                    assert_eq!(status.code, 422);
                }
            }
        }
    }
}
