//! Handlers, probes and lifecycle hooks.

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::Context;
use crate::check;

const ONE_HANDLER: &str = "may not specify more than 1 handler type";

/// The three probes and the hooks of a container that may have them.
pub fn container(e: &mut FieldErrors, c: &Cursor, ctx: &Context) {
    let lifecycle = c.child("lifecycle");
    for key in ["postStart", "preStop"] {
        let hook = lifecycle.child(key);
        if !hook.is_absent() {
            handler(e, &hook, &["exec", "httpGet", "tcpSocket", "sleep"], ctx);
        }
    }
    if !lifecycle.is_absent() {
        stop_signal(e, &lifecycle.child("stopSignal"));
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = c.child(key);
        if !probe.is_absent() {
            self::probe(e, &probe, key, ctx);
        }
    }
}

fn stop_signal(e: &mut FieldErrors, c: &Cursor) {
    if !c.is_absent() && !c.str().starts_with("SIG") {
        check::invalid_str(e, c, "must be a valid signal name");
    }
}

fn probe(e: &mut FieldErrors, c: &Cursor, kind: &str, ctx: &Context) {
    handler(e, c, &["exec", "httpGet", "tcpSocket", "grpc"], ctx);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        check::non_negative(e, &c.child(key));
    }
    let grace = c.child("terminationGracePeriodSeconds");
    check::positive(e, &grace);
    let threshold = c.child("successThreshold");
    if kind == "readinessProbe" {
        if !grace.is_absent() {
            check::invalid_int(e, &grace, "must not be set for readinessProbes");
        }
    } else if threshold.i64() != Some(1) {
        check::invalid_int(e, &threshold, "must be 1");
    }
}

fn handler(e: &mut FieldErrors, c: &Cursor, kinds: &[&str], ctx: &Context) {
    let mut found = false;
    for kind in kinds {
        let action = c.child(kind);
        if action.is_absent() {
            continue;
        }
        if found {
            e.forbidden(action.path(), ONE_HANDLER);
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if action.child("command").is_empty() {
                    e.required(action.child("command").path(), "");
                }
            }
            "httpGet" => http_get(e, &action),
            "sleep" => sleep(e, &action, ctx),
            "grpc" => check::port(e, &action.child("port")),
            _ => check::port_or_name(e, &action.child("port")),
        }
    }
    if !found {
        e.required(c.path(), "must specify a handler type");
    }
}

fn http_get(e: &mut FieldErrors, c: &Cursor) {
    check::required(e, &c.child("path"));
    check::port_or_name(e, &c.child("port"));
    check::supported(e, &c.child("scheme"), &["HTTP", "HTTPS"]);
    let headers = c.child("httpHeaders");
    for header in headers.items() {
        let name = header.child("name").str();
        for message in names::is_http_header_name(name) {
            e.invalid(headers.path(), name, message);
        }
    }
}

fn sleep(e: &mut FieldErrors, c: &Cursor, ctx: &Context) {
    let seconds = c.child("seconds").i64().unwrap_or(0);
    if let Some(grace) = ctx.grace_period_s
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        e.invalid(c.path(), Value::from(seconds), detail);
    }
}
