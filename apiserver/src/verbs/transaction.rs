//! Read, decide, write if nothing changed: the loop every write runs.
//!
//! The first reading comes from the cache and may be stale: a decision to refuse, or to change nothing, counts only
//! when it was made on what the store holds.

use std::sync::Arc;

use bytes::Bytes;
use keelson_machinery::{Status, Value, meta};
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_schema::{decode, json};

use crate::convert;
use crate::limits::UPDATE_ATTEMPTS_MAX;
use crate::registry::Hub;
use crate::server::Server;
use crate::storage::{Written, codec};

/// The object as read.
#[derive(Clone, Debug)]
pub struct Current {
    pub value: Arc<Value>,
    pub revision: i64,
    /// As served, in the cached version.
    pub json: Bytes,
}

/// What to do with it.
#[derive(Debug)]
pub enum Outcome {
    /// Store this.
    Put(Value),
    /// Remove it; the answer shows it as it was, or as given.
    Remove(Option<Value>),
    /// Show this, store nothing.
    Show(Value),
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// The object as served, in the cached version.
    pub json: Bytes,
    pub created: bool,
    pub removed: bool,
}

/// One read-modify-write of one key.
pub struct Transaction<'a> {
    server: &'a Server,
    hub: &'a Hub,
    key: String,
    current: Option<Current>,
    /// Whether `current` was read from the store.
    fresh: bool,
    attempts: usize,
}

impl<'a> Transaction<'a> {
    /// Starts with what the cache has.
    pub fn begin(server: &'a Server, hub: &'a Hub, key: String) -> Self {
        let current = hub.cache.get(&key).map(|entry| Current {
            value: entry.value(),
            revision: entry.revision,
            json: entry.json.clone(),
        });
        Self {
            server,
            hub,
            key,
            current,
            fresh: false,
            attempts: 0,
        }
    }

    /// Starts a write of a key that should not exist.
    pub fn create(server: &'a Server, hub: &'a Hub, key: String) -> Self {
        Self {
            server,
            hub,
            key,
            current: None,
            fresh: true,
            attempts: 0,
        }
    }

    pub fn current(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    /// After a refusal: reads anew where that may change it. `true`: decide again.
    pub async fn reconsider(&mut self) -> Result<bool, Status> {
        if self.fresh {
            return Ok(false);
        }
        let before = self.current.as_ref().map(|current| current.revision);
        self.refresh().await?;
        Ok(before != self.current.as_ref().map(|current| current.revision))
    }

    async fn refresh(&mut self) -> Result<(), Status> {
        let found = self.server.store.get(&self.full_key()).await?;
        self.current = found.as_ref().map(|kv| self.read(kv)).transpose()?;
        self.fresh = true;
        Ok(())
    }

    fn full_key(&self) -> String {
        format!(
            "{}{}/{}",
            self.server.keys.root(),
            self.hub.storage_prefix,
            self.key
        )
    }

    fn read(&self, kv: &KeyValue) -> Result<Current, Status> {
        let served = self
            .hub
            .serve(&kv.value, kv.mod_revision)
            .map_err(|error| Status::internal(error.to_string()))?;
        let value =
            serde_json::from_slice(&served.json).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Current {
            value: Arc::new(value),
            revision: kv.mod_revision,
            json: served.json,
        })
    }

    /// Carries the decision out. `None`: the object changed meanwhile; decide again.
    pub async fn commit(&mut self, outcome: Outcome) -> Result<Option<Done>, Status> {
        self.attempts += 1;
        if self.attempts > UPDATE_ATTEMPTS_MAX {
            return Err(Status::modified(
                &self.hub.kind.info().group_resource(),
                &self.key,
            ));
        }
        match outcome {
            Outcome::Put(value) => self.put(value).await,
            Outcome::Remove(last) => self.remove(last).await,
            Outcome::Show(mut value) => Ok(Some(Done {
                json: encoded(&mut value, self.hub),
                created: false,
                removed: false,
            })),
        }
    }

    async fn put(&mut self, mut value: Value) -> Result<Option<Done>, Status> {
        meta::of_mut(&mut value).remove("resourceVersion");
        let bytes = encoded(&mut value, self.hub);
        let expected = self.current.as_ref().map_or(0, |current| current.revision);
        if let Some(current) = &self.current
            && may_be_equal(&bytes, current)
            && served(&bytes, current.revision)? == current.json
        {
            if !self.fresh && self.reconsider().await? {
                return Ok(None);
            }
            return Ok(self.current.as_ref().map(|current| Done {
                json: current.json.clone(),
                created: false,
                removed: false,
            }));
        }
        let lease = match self.hub.expires {
            true => self.server.leases.get(&self.server.store).await?,
            false => 0,
        };
        let stored = stored_form(&bytes, self.hub);
        let written = self
            .server
            .store
            .put_if(&self.full_key(), expected, stored, lease)
            .await?;
        match written {
            Written::Done(revision) => {
                let json = served(&bytes, revision)?;
                self.server.wrote(self.hub, revision).await;
                Ok(Some(Done {
                    json,
                    created: expected == 0,
                    removed: false,
                }))
            }
            Written::Conflict(found) => self.conflict(found.as_ref()),
        }
    }

    async fn remove(&mut self, last: Option<Value>) -> Result<Option<Done>, Status> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        let json = match last {
            None => current.json.clone(),
            Some(mut value) => {
                meta::of_mut(&mut value).remove("resourceVersion");
                encoded(&mut value, self.hub)
            }
        };
        match self
            .server
            .store
            .delete_if(&self.full_key(), current.revision)
            .await?
        {
            Written::Done(revision) => {
                let json = served(&json, revision)?;
                self.server.wrote(self.hub, revision).await;
                if self.hub.storage_prefix == crate::allocators::SERVICES {
                    // Boxed: freeing an address deletes an object, by this same function.
                    Box::pin(self.server.allocators.after_delete(self.server, &json)).await;
                }
                Ok(Some(Done {
                    json,
                    created: false,
                    removed: true,
                }))
            }
            Written::Conflict(found) => self.conflict(found.as_ref()),
        }
    }

    fn conflict(&mut self, found: Option<&KeyValue>) -> Result<Option<Done>, Status> {
        self.current = found.map(|kv| self.read(kv)).transpose()?;
        self.fresh = true;
        Ok(None)
    }
}

/// The object's bytes, in the form Go would give them.
pub fn encoded(value: &mut Value, hub: &Hub) -> Bytes {
    decode::complete(value, hub.def);
    json::to_vec(value, hub.def).into()
}

/// Whether the bytes are as many as those of the current object without its revision: most changes need no closer look.
fn may_be_equal(bytes: &[u8], current: &Current) -> bool {
    let revision = format!(r#","resourceVersion":"{}""#, current.revision);
    // Of metadata that hold nothing else there is no comma.
    [revision.len(), revision.len() - 1].contains(&current.json.len().saturating_sub(bytes.len()))
}

/// The object's bytes with its revision in place.
fn served(bytes: &[u8], revision: i64) -> Result<Bytes, Status> {
    codec::with_revision(bytes, revision)
        .map(|served| served.json)
        .ok_or_else(|| Status::internal("an object without metadata cannot be stored"))
}

/// The bytes as stored: with the `apiVersion` upstream stores, where that is another.
fn stored_form(bytes: &Bytes, hub: &Hub) -> Bytes {
    let stored = &hub.kind.info().storage_version;
    if let Some((convert, def)) = convert::to_stored(&hub.gvk.kind, stored)
        && let Ok(mut value) = serde_json::from_slice(bytes)
    {
        convert(&mut value);
        return json::to_vec(&value, def).into();
    }
    if stored.is_empty() || **stored == hub.gvk.api_version() || !bytes.starts_with(hub.head.as_bytes()) {
        return bytes.clone();
    }
    let head = codec::head(&hub.gvk.kind, stored);
    [head.as_bytes(), &bytes[hub.head.len()..]].concat().into()
}
