//! What every kind with a selector and a pod template checks.

use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors};

use crate::{check, equal, pod};

/// `selector`: there, valid, and not empty.
pub fn selector(e: &mut FieldErrors, c: &Cursor, kind: &str) {
    if c.is_absent() {
        e.required(c.path(), "");
        return;
    }
    check::label_selector(e, c);
    if check::selects_everything(c) {
        let detail = format!("empty selector is invalid for {kind}");
        check::invalid(e, c, detail);
    }
}

/// The template, whose labels the selector must match and whose pods restart always.
pub fn template(e: &mut FieldErrors, spec: &Cursor, kind: &str) {
    let template = spec.child("template");
    matches(e, spec, &template);
    pod::validate_template(e, &template);
    let pod = template.child("spec");
    let policy = pod.child("restartPolicy");
    if policy.str() != "Always" {
        e.not_supported(policy.path(), policy.str(), &["Always"]);
    }
    let deadline = pod.child("activeDeadlineSeconds");
    if !deadline.is_absent() {
        e.forbidden(
            deadline.path(),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

fn matches(e: &mut FieldErrors, spec: &Cursor, template: &Cursor) {
    let c = spec.child("selector");
    match Selector::from_label_selector(c.value()) {
        Err(_) => check::invalid(e, &c, "invalid label selector"),
        Ok(selector) if !check::selects_everything(&c) => {
            let labels = template.child("metadata").child("labels");
            if !selector.matches(labels.value()) {
                check::invalid(e, &labels, "`selector` does not match template `labels`");
            }
        }
        Ok(_) => {}
    }
}

/// `apps/v1` never lets a selector change.
pub fn immutable_selector(e: &mut FieldErrors, new: &Cursor, old: &Cursor) {
    let (selector, before) = (new.child("selector"), old.child("selector"));
    if !equal::unchanged(selector.value(), before.value()) {
        check::invalid(e, &selector, check::IMMUTABLE);
    }
}
