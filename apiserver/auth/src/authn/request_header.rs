//! The front proxy: a trusted proxy that authenticated the user itself and says so in headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;

use super::client_ca::ClientCa;
use super::{AuthError, Authenticator, Credentials};
use crate::user::UserInfo;

/// `--requestheader-*`.
pub struct RequestHeader {
    /// The CA of proxies; not the one of clients.
    pub ca: Arc<ClientCa>,
    /// Common names of proxies; any where empty.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_header_prefixes: Vec<String>,
}

impl RequestHeader {
    /// Removes the headers, so that nothing behind this server takes them for its word.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let fixed = [&self.username_headers, &self.uid_headers, &self.group_headers];
        for name in fixed.into_iter().flatten() {
            headers.remove(name.as_str());
        }
        let extra: Vec<_> = headers
            .keys()
            .filter(|key| self.extra_key(key.as_str()).is_some())
            .cloned()
            .collect();
        for key in extra {
            headers.remove(key);
        }
    }

    fn extra_key<'a>(&self, header: &'a str) -> Option<&'a str> {
        self.extra_header_prefixes.iter().find_map(|prefix| {
            let head = header.get(..prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| &header[prefix.len()..])
        })
    }
}

fn first<'a>(headers: &'a HeaderMap, names: &[String]) -> Option<&'a str> {
    let mut found = names
        .iter()
        .filter_map(|name| headers.get(name.as_str())?.to_str().ok());
    found.find(|value| !value.is_empty())
}

/// Header names carry only some characters, so clients percent-encode the others in keys.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3);
        match pair
            .filter(|_| bytes[at] == b'%')
            .map(|hex| u8::from_str_radix(hex, 16))
        {
            Some(Ok(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    // A key that is no UTF-8 once decoded is taken as it came.
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

impl Authenticator for RequestHeader {
    fn authenticate(
        &self,
        given: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, AuthError> {
        // A user's own certificate without these headers is the next authenticator's.
        let Some(name) = first(given.headers, &self.username_headers) else {
            return Ok(None);
        };
        if given.client_certificates.is_empty() {
            return Ok(None);
        }
        let proxy = self.ca.verify(given.client_certificates, now)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.common_name) {
            let why = format!("subject with cn={} is not in the allowed list", proxy.common_name);
            return Err(AuthError::Certificate(why));
        }
        let groups = self
            .group_headers
            .iter()
            .flat_map(|name| given.headers.get_all(name.as_str()));
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in given.headers {
            if let (Some(key), Ok(value)) = (self.extra_key(header.as_str()), value.to_str()) {
                let key = percent_decoded(&key.to_ascii_lowercase());
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Ok(Some(Arc::new(UserInfo {
            name: name.to_owned(),
            uid: first(given.headers, &self.uid_headers).unwrap_or("").to_owned(),
            groups: groups
                .filter_map(|value| value.to_str().ok())
                .map(str::to_owned)
                .collect(),
            extra,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_once_and_only_where_they_can_be() {
        for (text, decoded) in [
            ("a%2fb", "a/b"),
            ("a%zz", "a%zz"),
            ("%", "%"),
            ("%ff", "%ff"),
            ("a%252f", "a%2f"),
        ] {
            assert_eq!(percent_decoded(text), decoded);
        }
    }
}
