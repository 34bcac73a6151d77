//! Sources of projected volumes: secrets, config maps, downward API, tokens and trust bundles in one directory.

use keelson_machinery::{Cursor, FieldErrors};

use super::volumes;
use crate::check;

const DUPLICATE: &str = "conflicting duplicate paths";

/// `sources` of the volume at `c`; no two may write the same path.
pub fn sources(e: &mut FieldErrors, c: &Cursor) {
    let mut paths: Vec<&str> = Vec::new();
    for source in c.child("sources").items() {
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let projection = source.child(kind);
            if projection.is_absent() {
                continue;
            }
            count += 1;
            check::required(e, &projection.child("name"));
            for item in projection.child("items").items() {
                volumes::key_to_path(e, &item);
                let name = projection.child("name").str();
                take(e, c, &mut paths, item.child("path").str(), name);
            }
        }
        let downward = source.child("downwardAPI");
        if !downward.is_absent() {
            count += 1;
            for item in downward.child("items").items() {
                volumes::downward_file(e, &item, &downward);
                let path = item.child("path").str();
                take(e, c, &mut paths, path, path);
            }
        }
        let token = source.child("serviceAccountToken");
        if !token.is_absent() {
            count += 1;
            self::token(e, c, &token);
        }
        let bundle = source.child("clusterTrustBundle");
        if !bundle.is_absent() {
            count += 1;
            trust_bundle(e, &bundle);
            let path = bundle.child("path").str();
            take(e, c, &mut paths, path, path);
        }
        if !source.child("podCertificate").is_absent() {
            count += 1;
            check::required(e, &source.child("podCertificate").child("signerName"));
        }
        if count > 1 {
            e.forbidden(
                source.path(),
                "may not specify more than 1 volume type per source",
            );
        }
    }
}

fn take<'a>(e: &mut FieldErrors, at: &Cursor, paths: &mut Vec<&'a str>, path: &'a str, shown: &str) {
    if path.is_empty() {
        return;
    }
    match paths.contains(&path) {
        true => e.invalid(at.path(), shown, DUPLICATE),
        false => paths.push(path),
    }
}

/// Upstream reports the token's path at the volume, not at the token.
fn token(e: &mut FieldErrors, volume: &Cursor, token: &Cursor) {
    let expiration = token.child("expirationSeconds");
    let seconds = expiration.i64().unwrap_or(0);
    if seconds < 600 {
        check::invalid_int(e, &expiration, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        check::invalid_int(
            e,
            &expiration,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    let path = token.child("path");
    let at = Cursor::at(path.value(), volume.path().child("path"));
    if check::required(e, &at) {
        volumes::local_path(e, &at);
    }
}

fn trust_bundle(e: &mut FieldErrors, c: &Cursor) {
    let (name, signer) = (c.child("name"), c.child("signerName"));
    match (name.is_absent(), signer.is_absent()) {
        (false, false) => check::invalid(e, c, "only one of name and signerName may be used"),
        (true, true) => e.required(c.path(), "either name or signerName must be specified"),
        (false, true) => {
            if name.str().is_empty() {
                e.required(name.path(), "must be a valid object name");
            }
            if !c.child("labelSelector").is_absent() {
                check::invalid(
                    e,
                    &c.child("labelSelector"),
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (true, false) => {
            if signer.str().is_empty() {
                e.required(signer.path(), "must be a valid signer name");
            }
            check::label_selector(e, &c.child("labelSelector"));
        }
    }
    check::required(e, &c.child("path"));
    volumes::local_path(e, &c.child("path"));
}
