//! Image names: the check and the default tag of the reference grammar (distribution/reference).

/// The name with `:latest` where it has neither tag nor digest, or why it is no name.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name \"{image}\": invalid reference format");
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if digest.is_some_and(|d| !is_digest(d)) || tag.is_some_and(|t| !is_tag(t)) {
        return Err(invalid());
    }
    if name.bytes().any(|b| b.is_ascii_uppercase())
        && is_name(&name.to_ascii_lowercase())
        && !domain_only_upper(name)
    {
        return Err(format!(
            "couldn't parse image name \"{image}\": invalid reference format: repository name ({}) must be lowercase",
            name.rsplit_once('/')
                .map_or(format!("library/{name}"), |_| name.to_owned())
        ));
    }
    if !is_name(name) {
        return Err(invalid());
    }
    Ok(match (tag, digest) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_owned(),
    })
}

/// Upper case is allowed in the registry's host name.
fn domain_only_upper(name: &str) -> bool {
    split_domain(name).is_some_and(|(_, path)| !path.bytes().any(|b| b.is_ascii_uppercase()))
}

fn split_domain(name: &str) -> Option<(&str, &str)> {
    let (first, path) = name.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost" || first.to_ascii_lowercase() != first)
        .then_some((first, path))
}

/// The registry an image comes from; `docker.io` for short names.
pub fn registry(image: &str) -> &str {
    split_domain(image).map_or("docker.io", |(domain, _)| domain)
}

fn is_name(name: &str) -> bool {
    let (domain, path) = split_domain(name).map_or((None, name), |(d, p)| (Some(d), p));
    let domain_ok = domain.is_none_or(|d| {
        let host = d
            .rsplit_once(':')
            .filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()))
            .map_or(d, |(h, _)| h);
        !host.is_empty()
            && (host.starts_with('[') && host.ends_with(']')
                || host.split('.').all(|l| {
                    !l.is_empty()
                        && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                        && !l.starts_with('-')
                        && !l.ends_with('-')
                }))
    });
    domain_ok && name.len() <= 255 && path.split('/').all(is_component)
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or dashes.
fn is_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    let separators = part
        .split(|c: char| c.is_ascii() && alnum(c as u8))
        .filter(|s| !s.is_empty());
    separators
        .into_iter()
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (image, want) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.15", "nginx:1.15"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("Registry.Example.com/a", "Registry.Example.com/a:latest"),
            (
                "a@sha256:0123456789abcdef0123456789abcdef",
                "a@sha256:0123456789abcdef0123456789abcdef",
            ),
            ("a__b-c.d", "a__b-c.d:latest"),
        ] {
            assert_eq!(with_default_tag(image).as_deref(), Ok(want));
        }
        for image in ["", "a:", "a b", "-a", "a..b", "a:b:c", "a@x", "/a", "http://a"] {
            assert!(with_default_tag(image).is_err(), "{image}");
        }
        assert_eq!(
            with_default_tag("NGINX").unwrap_err(),
            "couldn't parse image name \"NGINX\": invalid reference format: repository name (library/NGINX) must be lowercase"
        );
        assert_eq!(
            (registry("nginx"), registry("a.b/c"), registry("u/c")),
            ("docker.io", "a.b", "docker.io")
        );
    }
}
