//! What a service account token says.

use serde_json::{Map, Value, json};

use crate::user::service_account_user;

/// An object a token is bound to, by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

impl Reference {
    fn to_value(&self) -> Value {
        json!({"name": self.name, "uid": self.uid})
    }

    fn from_value(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or("").to_owned();
        value.is_object().then(|| Self {
            name: text("name"),
            uid: text("uid"),
        })
    }
}

/// What besides the service account must exist for the token to be valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub pod: Option<Reference>,
    pub secret: Option<Reference>,
    /// The node of the pod, for information; without a pod, the node the token is bound to.
    pub node: Option<Reference>,
}

/// All claims; times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub issued_at_s: i64,
    pub not_before_s: i64,
    pub expires_at_s: i64,
    /// `jti`: a uuid.
    pub id: String,
    pub namespace: String,
    pub service_account: Reference,
    pub binding: Binding,
    /// When a client should have fetched a new token; 0 for none. Only a warning.
    pub warn_after_s: i64,
}

impl Claims {
    /// The JWT payload, with upstream's private claims under `kubernetes.io`.
    pub fn to_value(&self) -> Value {
        let mut private = Map::new();
        private.insert("namespace".to_owned(), self.namespace.as_str().into());
        let binding = [
            ("node", &self.binding.node),
            ("pod", &self.binding.pod),
            ("secret", &self.binding.secret),
        ];
        for (key, reference) in binding {
            if let Some(reference) = reference {
                private.insert(key.to_owned(), reference.to_value());
            }
        }
        private.insert("serviceaccount".to_owned(), self.service_account.to_value());
        if self.warn_after_s != 0 {
            private.insert("warnafter".to_owned(), self.warn_after_s.into());
        }
        json!({
            "aud": self.audiences,
            "exp": self.expires_at_s,
            "iat": self.issued_at_s,
            "iss": self.issuer,
            "jti": self.id,
            "kubernetes.io": private,
            "nbf": self.not_before_s,
            "sub": service_account_user(&self.namespace, &self.service_account.name),
        })
    }

    /// Reads a payload; `None` where it is not that of a bound service account token.
    pub fn from_value(payload: &Value) -> Option<Self> {
        let private = &payload["kubernetes.io"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        // Numeric dates may have fractions (RFC 7519); the second they lie in is enough.
        let date = |value: &Value| value.as_f64().map(|seconds| seconds as i64);
        let audiences = match &payload["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let claims = Self {
            issuer: text(&payload["iss"]),
            audiences,
            issued_at_s: date(&payload["iat"]).unwrap_or(0),
            not_before_s: date(&payload["nbf"]).unwrap_or(0),
            expires_at_s: date(&payload["exp"])?,
            id: text(&payload["jti"]),
            namespace: text(&private["namespace"]),
            service_account: Reference::from_value(&private["serviceaccount"])?,
            binding: Binding {
                pod: Reference::from_value(&private["pod"]),
                secret: Reference::from_value(&private["secret"]),
                node: Reference::from_value(&private["node"]),
            },
            warn_after_s: date(&private["warnafter"]).unwrap_or(0),
        };
        let subject = service_account_user(&claims.namespace, &claims.service_account.name);
        (payload["sub"] == subject.as_str()).then_some(claims)
    }
}
