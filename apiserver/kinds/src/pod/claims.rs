//! Resource claims a pod refers to.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

/// Validates `resourceClaims`; returns their names, which containers may refer to.
pub fn list<'a>(e: &mut FieldErrors, list: &Cursor<'a>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for claim in list.items() {
        let name = claim.child("name");
        if name.str().is_empty() {
            e.required(name.path(), "");
        } else if seen.contains(&name.str()) {
            e.duplicate(name.path(), name.str());
        } else {
            check::named(e, &name, names::is_dns1123_label);
            seen.push(name.str());
        }
        let (direct, template) = (
            claim.child("resourceClaimName"),
            claim.child("resourceClaimTemplateName"),
        );
        match (direct.is_absent(), template.is_absent()) {
            (false, false) => check::invalid(
                e,
                &claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (true, true) => check::invalid(
                e,
                &claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {}
        }
        for reference in [direct, template] {
            if !reference.is_absent() {
                check::named(e, &reference, names::is_dns1123_subdomain);
            }
        }
    }
    seen
}
