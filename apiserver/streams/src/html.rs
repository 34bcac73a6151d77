//! Links of a proxied page, made to lead back through the proxy's path (`k8s.io/apimachinery/pkg/util/proxy`).
//!
//! A small scanner, not a parser: it changes the value of a known attribute of a known tag and nothing else.

/// Where links come from and must lead to.
pub(crate) struct Rewrite<'a> {
    /// The path of the proxy.
    pub(crate) mount: &'a str,
    /// `host:port` of the backend.
    pub(crate) backend: &'a str,
    /// What the client called this server.
    pub(crate) host: &'a str,
}

impl Rewrite<'_> {
    /// An absolute path, or a URL of the backend itself, gets the mount before it; all else stays.
    pub(crate) fn link(&self, link: &str) -> String {
        let path = match link.find("://") {
            Some(scheme_end) => {
                let rest = &link[scheme_end + 3..];
                let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                if host != self.backend && host != self.host {
                    return link.to_owned();
                }
                path
            }
            None if link.starts_with("//") => return link.to_owned(),
            None => link,
        };
        if !path.starts_with('/') || path.starts_with(self.mount) {
            return link.to_owned();
        }
        format!("{}{path}", self.mount.trim_end_matches('/'))
    }
}

/// Tags and the attributes of each that hold a link.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// The page with its links rewritten.
pub(crate) fn rewrite(page: &[u8], rewrite: &Rewrite<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 8);
    let mut rest = page;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        // "<" before anything but a letter opens no element.
        let end = if rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
            tag_end(rest)
        } else {
            1
        };
        write_tag(&mut out, &rest[..end], rewrite);
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
    out
}

/// The length of a tag up to and including `>`, which within quotes does not count.
fn tag_end(tag: &[u8]) -> usize {
    let mut quote = None;
    for (index, &byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') if index > 0 && tag[index - 1] == b'=' => quote = Some(byte),
            (None, b'>') => return index + 1,
            _ => {}
        }
    }
    tag.len()
}

fn write_tag(out: &mut Vec<u8>, tag: &[u8], rewrite: &Rewrite<'_>) {
    let name_end = tag[1..]
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric())
        .map_or(tag.len(), |at| at + 1);
    let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
    let attributes = LINKS
        .iter()
        .find(|(tag, _)| *tag == name)
        .map(|(_, attributes)| *attributes);
    let (Some(attributes), Ok(text)) = (attributes, std::str::from_utf8(tag)) else {
        out.extend_from_slice(tag);
        return;
    };
    let mut from = 0;
    for attribute in quoted_attributes(text) {
        if attributes
            .iter()
            .any(|one| one.eq_ignore_ascii_case(&text[attribute.name.clone()]))
        {
            out.extend_from_slice(&tag[from..attribute.value.start]);
            out.extend_from_slice(rewrite.link(&text[attribute.value.clone()]).as_bytes());
            from = attribute.value.end;
        }
    }
    out.extend_from_slice(&tag[from..]);
}

/// The places of a name and of its value between quotes.
struct Attribute {
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

fn quoted_attributes(tag: &str) -> Vec<Attribute> {
    let bytes = tag.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(equals) = bytes[at..]
        .iter()
        .position(|byte| *byte == b'=')
        .map(|offset| at + offset)
    {
        at = equals + 1;
        let Some(quote @ (b'"' | b'\'')) = bytes.get(at).copied() else {
            continue;
        };
        let name_start = bytes[..equals]
            .iter()
            .rposition(u8::is_ascii_whitespace)
            .map_or(0, |space| space + 1);
        let Some(length) = bytes[at + 1..].iter().position(|byte| *byte == quote) else {
            break;
        };
        found.push(Attribute {
            name: name_start..equals,
            value: at + 1..at + 1 + length,
        });
        at += length + 2;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWRITE: Rewrite<'static> = Rewrite {
        mount: "/api/v1/pods/p/proxy",
        backend: "10.0.0.1:80",
        host: "server:6443",
    };

    #[test]
    fn links_lead_back() {
        for (link, rewritten) in [
            ("/a?b=c", "/api/v1/pods/p/proxy/a?b=c"),
            ("/", "/api/v1/pods/p/proxy/"),
            ("a", "a"),
            ("//other/a", "//other/a"),
            ("http://10.0.0.1:80/a", "/api/v1/pods/p/proxy/a"),
            ("https://other/a", "https://other/a"),
            ("/api/v1/pods/p/proxy/a", "/api/v1/pods/p/proxy/a"),
        ] {
            assert_eq!(REWRITE.link(link), rewritten);
        }
    }

    #[test]
    fn pages_keep_all_but_their_links() {
        let page = "<!doctype html><p x=\"/p\"><a class='k' href=\"/rewriteme\">test</a> 1 < 2 <IMG SRC='/i'><a href=\"/unclosed";
        let expected = "<!doctype html><p x=\"/p\"><a class='k' href=\"/api/v1/pods/p/proxy/rewriteme\">test</a> 1 < 2 \
                        <IMG SRC='/api/v1/pods/p/proxy/i'><a href=\"/unclosed";
        assert_eq!(
            String::from_utf8(rewrite(page.as_bytes(), &REWRITE)).unwrap(),
            expected
        );
        for odd in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"",
            "<a\u{e9} href='/'>",
            "<<<>>>",
            "<a =''>",
        ] {
            let _ = rewrite(odd.as_bytes(), &REWRITE);
        }
    }
}
