//! One request on its way through the filters to its verb.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use jiff::Timestamp;
use keelson_auth::UserInfo;
use keelson_machinery::Status;
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use crate::wire::{Query, RequestInfo};

/// Who is at the other end of the connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: std::net::SocketAddr,
    /// Certificates the client proved the key of, leaf first.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// A request and what the filters found out about it.
pub struct Context {
    pub parts: http::request::Parts,
    /// Taken by the verb that reads it.
    pub body: Option<Incoming>,
    pub query: Query,
    pub info: RequestInfo,
    pub peer: Peer,
    pub user: Arc<UserInfo>,
    /// Texts of `Warning` headers, in order.
    pub warnings: Vec<String>,
    /// When the request came in.
    pub received: Instant,
    pub now: Timestamp,
    /// When a request that is not long-running is given up.
    pub deadline: Option<Instant>,
    /// The place among the requests in flight, given back when the request is dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Context {
    pub fn new(request: http::Request<Incoming>, peer: Peer, now: Timestamp) -> Self {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        Self {
            parts,
            body: Some(body),
            query,
            info,
            peer,
            user: Arc::new(UserInfo::anonymous()),
            warnings: Vec::new(),
            received: Instant::now(),
            now,
            deadline: None,
            permit: None,
        }
    }

    /// The same request once more, without its body: for each object of a collection.
    pub fn for_one_more(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            body: None,
            query: self.query.clone(),
            info: self.info.clone(),
            peer: self.peer.clone(),
            user: self.user.clone(),
            warnings: Vec::new(),
            received: self.received,
            now: self.now,
            deadline: self.deadline,
            permit: None,
        }
    }

    /// A header as text; absent or not ASCII reads as empty.
    pub fn header(&self, name: &str) -> &str {
        self.parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// A warning, unless it was given before.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() && !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// The manager that managedFields name: asked for, or the first word of the user agent, or upstream's `unknown`.
    pub fn field_manager(&self) -> String {
        match self
            .query
            .get("fieldManager")
            .filter(|manager| !manager.is_empty())
        {
            Some(manager) => manager.to_owned(),
            None => {
                let agent = self.header("user-agent");
                let prefix = agent.split('/').next().unwrap_or_default();
                let name: String = prefix.chars().filter(|c| !c.is_control()).take(128).collect();
                match name.is_empty() {
                    true => "unknown".to_owned(),
                    false => name,
                }
            }
        }
    }

    /// Whether nothing shall be stored.
    ///
    /// # Errors
    /// Anything but `All`.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut dry_run = false;
        for value in self.query.all("dryRun") {
            match value {
                "All" => dry_run = true,
                "" => {}
                other => {
                    return Err(Status::bad_request(format!(
                        "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                    )));
                }
            }
        }
        Ok(dry_run)
    }
}
