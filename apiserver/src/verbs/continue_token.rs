//! Continue tokens: where a paged list goes on, and at which revision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keelson_machinery::Status;
use serde_json::{Value, json};

const VERSION: &str = "meta.k8s.io/v1";

/// Where to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Continue {
    /// `None`: at whatever revision is current (an inconsistent continuation).
    pub revision: Option<i64>,
    /// The last key given.
    pub after: String,
}

impl Continue {
    pub fn encode(&self) -> String {
        let token = json!({
            "v": VERSION,
            "rv": self.revision.unwrap_or(-1),
            "start": format!("{}\0", self.after),
        });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// # Errors
    /// 400 for what is no token of ours.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let refuse = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let text = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|error| refuse(error.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        if value["v"] != VERSION {
            return Err(refuse(format!(
                "server does not recognize this encoded version {}",
                value["v"]
            )));
        }
        let revision = match value["rv"].as_i64() {
            None | Some(0) => {
                return Err(refuse(
                    "incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into(),
                ));
            }
            Some(revision) => (revision > 0).then_some(revision),
        };
        let start = value["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(refuse("encoded start key empty (version meta.k8s.io/v1)".into()));
        }
        if start.split('/').any(|part| part == "..") || start.starts_with('/') {
            return Err(refuse(start.to_owned()));
        }
        Ok(Self {
            revision,
            after: start.trim_end_matches('\0').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_round_trip() {
        for revision in [None, Some(7)] {
            let token = Continue {
                revision,
                after: "ns/name".to_owned(),
            };
            assert_eq!(Continue::decode(&token.encode()), Ok(token));
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for token in [
            "%%%".to_owned(),
            encoded("[]"),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets"}"#),
        ] {
            assert_eq!(Continue::decode(&token).unwrap_err().code, 400, "{token}");
        }
    }
}
