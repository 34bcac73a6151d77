//! Handlers, probes and lifecycle hooks.

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::Context;
use crate::check;

/// Signals a container may ask to be stopped with.
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL",
    "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT",
    "SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX-10", "SIGRTMAX-11", "SIGRTMAX-12", "SIGRTMAX-13", "SIGRTMAX-14",
    "SIGRTMAX-2", "SIGRTMAX-3", "SIGRTMAX-4", "SIGRTMAX-5", "SIGRTMAX-6", "SIGRTMAX-7", "SIGRTMAX-8",
    "SIGRTMAX-9", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13",
    "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+2", "SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5", "SIGRTMIN+6",
    "SIGRTMIN+7", "SIGRTMIN+8", "SIGRTMIN+9", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM",
    "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH",
    "SIGXCPU", "SIGXFSZ",
];

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
    check::one_of_or_absent(e, &lifecycle.child("stopSignal"), SIGNALS);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = c.child(key);
        if !probe.is_absent() {
            self::probe(e, &probe, key, ctx);
        }
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
