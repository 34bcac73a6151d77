//! Checks of names and values, each returning upstream's messages (`k8s.io/apimachinery/pkg/util/validation`);
//! an empty list means valid.

use std::net::IpAddr;

/// Greatest length of a DNS-1123 and DNS-1035 label, of a label value and of the name part of a label key, in bytes.
pub const DNS1123_LABEL_MAX: usize = 63;
/// Greatest length of a DNS-1123 subdomain, in bytes.
pub const DNS1123_SUBDOMAIN_MAX: usize = 253;
const CONFIG_MAP_KEY_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Upstream's text for a value that does not match its regular expression.
pub fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let listed: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{format}')",
        listed.join(" or ")
    )
}

/// `must be no more than N bytes`.
pub fn max_len_error(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

/// `must be between LO and HI, inclusive`.
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// `must be non-empty`.
pub fn empty_error() -> String {
    "must be non-empty".to_owned()
}

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// First and last byte by `edge`, those between by `edge` or one of `inner`.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            edge(first) && edge(last) && bytes.iter().all(|byte| edge(*byte) || inner.contains(byte))
        }
        _ => false,
    }
}

fn label_shaped(text: &str) -> bool {
    framed(text, lower_alnum, b"-")
}

fn subdomain_shaped(text: &str) -> bool {
    text.split('.').all(label_shaped)
}

fn alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn checked(text: &str, max: usize, shaped: bool, refusal: impl FnOnce() -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > max {
        errors.push(max_len_error(max));
    }
    if !shaped {
        errors.push(refusal());
    }
    errors
}

/// A lowercase RFC 1123 label: namespaces, container names.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    checked(text, DNS1123_LABEL_MAX, label_shaped(text), || {
        let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                       and must start and end with an alphanumeric character";
        regex_error(message, LABEL_FMT, &["my-name", "123-abc"])
    })
}

/// A lowercase RFC 1123 subdomain: most object names.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    checked(text, DNS1123_SUBDOMAIN_MAX, subdomain_shaped(text), || {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                       and must start and end with an alphanumeric character";
        regex_error(message, SUBDOMAIN_FMT, &["example.com"])
    })
}

/// An RFC 1123 subdomain that may hold underscores in its labels.
pub fn is_dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let shaped = text.split('.').all(|label| framed(label, lower_alnum, b"-_"));
    checked(text, DNS1123_SUBDOMAIN_MAX, shaped, || {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                       and must start and end with an alphanumeric character";
        let format = r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        regex_error(message, format, &["example.com"])
    })
}

/// A DNS-1035 label: Service names.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let shaped = label_shaped(text) && text.as_bytes()[0].is_ascii_lowercase();
    checked(text, DNS1123_LABEL_MAX, shaped, || {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
                       start with an alphabetic character, and end with an alphanumeric character";
        regex_error(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"])
    })
}

/// `*.` and a subdomain.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let shaped = text.strip_prefix("*.").is_some_and(subdomain_shaped);
    checked(text, DNS1123_SUBDOMAIN_MAX, shaped, || {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                       consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        regex_error(message, &format!(r"\*\.{SUBDOMAIN_FMT}"), &["*.example.com"])
    })
}

/// An absolute or relative domain name of at least two labels.
pub fn is_fully_qualified_domain_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["Required value".to_owned()];
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let errors = is_dns1123_subdomain(name);
    if !errors.is_empty() {
        return errors;
    }
    if name.split('.').count() < 2 {
        return vec!["should be a domain with at least two segments separated by dots".to_owned()];
    }
    name.split('.').flat_map(is_dns1123_label).collect()
}

/// A label key, annotation key, resource name or finalizer: `[prefix/]name`.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                errors.push(format!("prefix part {}", empty_error()));
            } else {
                errors.extend(
                    is_dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|one| format!("prefix part {one}")),
                );
            }
            name
        }
        _ => {
            let refusal = regex_error(message, QUALIFIED_FMT, &examples);
            return vec![format!(
                "a qualified name {refusal} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push(format!("name part {}", empty_error()));
    } else if name.len() > DNS1123_LABEL_MAX {
        errors.push(format!("name part {}", max_len_error(DNS1123_LABEL_MAX)));
    }
    if !framed(name, alnum, b"-_.") {
        errors.push(format!(
            "name part {}",
            regex_error(message, QUALIFIED_FMT, &examples)
        ));
    }
    errors
}

/// A label's value; "" is one.
pub fn is_valid_label_value(text: &str) -> Vec<String> {
    checked(
        text,
        DNS1123_LABEL_MAX,
        text.is_empty() || framed(text, alnum, b"-_."),
        || {
            let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character";
            regex_error(
                message,
                &format!("({QUALIFIED_FMT})?"),
                &["MyValue", "my_value", "12345"],
            )
        },
    )
}

/// A path with a domain before it: `example.com/foo`.
pub fn is_domain_prefixed_path(text: &str) -> Result<(), (bool, String)> {
    let Some((host, path)) = text.split_once('/') else {
        return Err((
            false,
            "must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned(),
        ));
    };
    if host.is_empty() || path.is_empty() {
        return Err((
            false,
            "must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned(),
        ));
    }
    if let Some(first) = is_dns1123_subdomain(host).into_iter().next() {
        return Err((true, first));
    }
    let segment = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte);
    if path.bytes().all(segment) {
        Ok(())
    } else {
        Err((
            false,
            regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]),
        ))
    }
}

/// 1 to 65535.
pub fn is_valid_port_num(port: i64) -> Vec<String> {
    is_in_range(port, 1, 65_535)
}

/// Within bounds, inclusive.
pub fn is_in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![inclusive_range_error(low, high)]
    }
}

/// A user id.
pub fn is_valid_user_id(id: i64) -> Vec<String> {
    is_in_range(id, 0, i64::from(i32::MAX))
}

/// A group id.
pub fn is_valid_group_id(id: i64) -> Vec<String> {
    is_in_range(id, 0, i64::from(i32::MAX))
}

/// An IANA service name: what a port may be called.
pub fn is_valid_port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > PORT_NAME_MAX {
        errors.push(max_len_error(PORT_NAME_MAX));
    }
    if text.is_empty() || !text.bytes().all(|byte| lower_alnum(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// An IPv4 or IPv6 address.
pub fn is_valid_ip(text: &str) -> Vec<String> {
    match parse_ip_sloppy(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Reads an address as Go before 1.17 did: leading zeros in IPv4 octets are decimal.
pub fn parse_ip_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 9 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u32>().ok()?.try_into().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

/// A key of a ConfigMap or Secret.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > CONFIG_MAP_KEY_MAX {
        errors.push(max_len_error(CONFIG_MAP_KEY_MAX));
    }
    if text.is_empty() || !text.bytes().all(|byte| alnum(byte) || b"-._".contains(&byte)) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_error(
            message,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    } else {
        errors.extend(dot_prefix(text));
    }
    errors
}

/// An environment variable's name, strictly.
pub fn is_env_var_name(text: &str) -> Vec<String> {
    let first = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !first || !text.bytes().all(|byte| alnum(byte) || b"-._".contains(&byte)) {
        let message = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', \
                       and must not start with a digit";
        let refusal = regex_error(
            message,
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        );
        return vec![refusal];
    }
    dot_prefix(text).into_iter().collect()
}

/// An environment variable's name as accepted since 1.34 (KEP-4369): printable ASCII without `=`.
pub fn is_relaxed_env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !text
        .bytes()
        .all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=')
    {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        );
    }
    errors
}

/// A C identifier.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let first = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if first && text.bytes().all(|byte| alnum(byte) || byte == b'_') {
        return Vec::new();
    }
    let message = "a valid C identifier must start with alphabetic character or '_', \
                   followed by a string of alphanumeric characters or '_'";
    vec![regex_error(
        message,
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of an HTTP header.
pub fn is_http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| alnum(byte) || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// `N%`.
pub fn is_valid_percent(text: &str) -> Vec<String> {
    match text.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Vec::new(),
        _ => {
            let message = "a valid percent string must be a numeric string followed by an ending '%'";
            vec![regex_error(message, "[0-9]+%", &["1%", "93%"])]
        }
    }
}

/// What may stand as one segment of a URL path: names of RBAC objects and FlowSchemas.
pub fn is_valid_path_segment_name(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|bad| text.contains(*bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

fn dot_prefix(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ => text
            .starts_with("..")
            .then(|| "must not start with '..'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_upstreams_text() {
        assert!(is_dns1123_label("a-1").is_empty());
        let text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        assert_eq!(is_dns1123_label("A"), [text]);
        assert_eq!(
            is_dns1123_label(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        assert!(!is_dns1035_label("1a").is_empty());
        assert!(!is_dns1035_label("").is_empty());
    }

    #[test]
    fn good_and_bad_values() {
        type Check = fn(&str) -> Vec<String>;
        let table: [(Check, &[&str], &[&str]); 9] = [
            (
                is_dns1123_subdomain,
                &["a.b-c.d"],
                &["", "a..b", "-a", "a_b", "A"],
            ),
            (
                is_qualified_name,
                &["a", "a.b/c_D.e", "A"],
                &["", "/a", "a/", "a/b/c", "-a", "A/b"],
            ),
            (is_valid_label_value, &["", "a_B-c.d"], &["-", "a/b", "a "]),
            (
                is_config_map_key,
                &["a", ".a", "a..b"],
                &["", ".", "..", "..a", "a/b"],
            ),
            (is_env_var_name, &["A.b-c_1"], &["", "1a", "a=b", ".."]),
            (
                is_valid_port_name,
                &["http", "a-1"],
                &["", "-a", "a--b", "1", "A", "abcdefghijklmnop"],
            ),
            (
                is_valid_ip,
                &["10.0.0.1", "010.0.0.1", "::1"],
                &["", "10.0.0", "10.0.0.256", "a"],
            ),
            (
                is_valid_path_segment_name,
                &["system:a", "..."],
                &[".", "..", "a/b", "a%"],
            ),
            (
                is_wildcard_dns1123_subdomain,
                &["*.a.b"],
                &["*", "a.b", "*.", "*.*.a"],
            ),
        ];
        for (index, (check, good, bad)) in table.iter().enumerate() {
            for text in *good {
                assert!(check(text).is_empty(), "{index} {text:?}");
            }
            for text in *bad {
                assert!(!check(text).is_empty(), "{index} {text:?}");
            }
        }
    }
}
