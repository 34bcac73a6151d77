//! The query options of writes, checked at once and with upstream's texts: `CreateOptions`, `UpdateOptions`,
//! `PatchOptions`.

use http::HeaderMap;
use keelson_machinery::{FieldErrors, GroupKind, Path, Status};

use crate::wire::Query;

/// Bytes a manager's name may have.
const MANAGER_BYTES_MAX: usize = 128;

/// Checks the options of a create, an update or a patch.
///
/// # Errors
/// 422 that names every option that is wrong.
pub fn check(verb: &str, query: &Query, headers: &HeaderMap) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => {
            check_patch(&mut errors, query, headers);
            "PatchOptions"
        }
        _ => return Ok(()),
    };
    check_manager(&mut errors, query.get("fieldManager").unwrap_or_default());
    let dry_runs: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
    if dry_runs.iter().any(|value| *value != "All") {
        errors.not_supported(&Path::new("dryRun"), dry_runs, &["All"]);
    }
    let validation = query.get("fieldValidation").unwrap_or_default();
    let known = ["", "Ignore", "Strict", "Warn"];
    if !known.contains(&validation) {
        errors.not_supported(&Path::new("fieldValidation"), validation, &known);
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", &errors)),
    }
}

fn check_patch(errors: &mut FieldErrors, query: &Query, headers: &HeaderMap) {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if content_type.starts_with("application/apply-patch+") {
        if query.get("fieldManager").unwrap_or_default().is_empty() {
            errors.required(&Path::new("fieldManager"), "is required for apply patch");
        }
    } else if query.get("force").is_some() {
        errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
    }
}

fn check_manager(errors: &mut FieldErrors, manager: &str) {
    let path = Path::new("fieldManager");
    if manager.len() > MANAGER_BYTES_MAX {
        errors.too_long(&path, MANAGER_BYTES_MAX);
    }
    for (at, letter) in manager.char_indices().filter(|(_, letter)| letter.is_control()) {
        let code = u32::from(letter);
        errors.invalid(
            &path,
            manager,
            format!("invalid character U+{code:04X} (at position {at})"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(verb: &str, query: &str, content_type: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, content_type.parse().unwrap());
        check(verb, &Query::parse(Some(query)), &headers)
            .err()
            .map(|status| status.message)
    }

    #[test]
    fn every_wrong_option_is_named() {
        let apply = "application/apply-patch+yaml";
        let long = format!("fieldManager={}", "x".repeat(MANAGER_BYTES_MAX + 1));
        for (verb, query, content_type, want) in [
            (
                "create",
                "dryRun=All&fieldManager=a&fieldValidation=Strict",
                "",
                None,
            ),
            ("delete", "dryRun=Some", "", None),
            ("patch", "fieldManager=a&force=true", apply, None),
            (
                "create",
                "dryRun=Some&fieldValidation=Maybe",
                "",
                Some(
                    "CreateOptions.meta.k8s.io \"\" is invalid: [dryRun: Unsupported value: [\"Some\"]: \
                     supported values: \"All\", fieldValidation: Unsupported value: \"Maybe\": supported values: \
                     \"\", \"Ignore\", \"Strict\", \"Warn\"]",
                ),
            ),
            (
                "update",
                "fieldManager=a%0Ab",
                "",
                Some(
                    "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\nb\": \
                     invalid character U+000A (at position 1)",
                ),
            ),
            (
                "update",
                &long,
                "",
                Some(
                    "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
                ),
            ),
            (
                "patch",
                "",
                apply,
                Some(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: \
                     is required for apply patch",
                ),
            ),
            (
                "patch",
                "force=true",
                "application/merge-patch+json",
                Some(
                    "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: \
                     may not be specified for non-apply patch",
                ),
            ),
        ] {
            assert_eq!(
                refused(verb, query, content_type).as_deref(),
                want,
                "{verb} {query}"
            );
        }
    }
}
