//! DNS policy and configuration, host aliases.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_BYTES_MAX: usize = 2048;

/// `dnsPolicy`.
pub fn policy(e: &mut FieldErrors, spec: &Cursor) {
    check::one_of(
        e,
        &spec.child("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
}

/// `dnsConfig`, which the policy `None` needs.
pub fn config(e: &mut FieldErrors, spec: &Cursor) {
    let c = spec.child("dnsConfig");
    let servers = c.child("nameservers");
    if spec.child("dnsPolicy").str() == "None" {
        if c.is_absent() {
            e.required(c.path(), "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            e.required(
                servers.path(),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        check::invalid(e, &servers, detail);
    }
    for server in servers.items() {
        check::named(e, &server, names::is_valid_ip);
    }
    let searches = c.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        check::invalid(e, &searches, detail);
    }
    let total: usize = searches.items().map(|search| search.str().len() + 1).sum();
    if total > SEARCH_LIST_BYTES_MAX + 1 {
        let detail = format!(
            "must not have more than {SEARCH_LIST_BYTES_MAX} characters (including spaces) in the search list"
        );
        check::invalid(e, &searches, detail);
    }
    for search in searches.items() {
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        if search.str() != "." {
            for message in names::is_dns1123_subdomain_with_underscore(name) {
                e.invalid(search.path(), name, message);
            }
        }
    }
    for option in c.child("options").items() {
        if option.child("name").str().is_empty() {
            e.required(option.path(), "must not be empty");
        }
    }
}

/// `hostAliases`.
pub fn host_aliases(e: &mut FieldErrors, list: &Cursor) {
    for alias in list.items() {
        check::named(e, &alias.child("ip"), names::is_valid_ip);
        for hostname in alias.child("hostnames").items() {
            check::named(e, &hostname, names::is_dns1123_subdomain);
        }
    }
}
