//! Objects the server writes for itself: without admission, as nobody's request.

use jiff::Timestamp;
use keelson_machinery::{GroupResource, Status, Value, meta, time};
use keelson_schema::{decode, managed};

use crate::registry::Served;
use crate::server::Server;
use crate::storage::keys;
use crate::verbs::rules;
use crate::verbs::transaction::{Done, Outcome, Transaction};

/// What managedFields say of these writes.
const MANAGER: &str = "kube-apiserver";

impl Server {
    fn own(&self, resource: &GroupResource) -> Result<&Served, Status> {
        self.registry
            .cached(resource)
            .map(|served| &**served)
            .ok_or_else(|| Status::internal(format!("{resource} is not served")))
    }

    /// Creates the object; `false`: it exists.
    pub async fn create_own(&self, resource: &GroupResource, mut object: Value) -> Result<bool, Status> {
        let served = self.own(resource)?;
        let now = Timestamp::now();
        meta::of_mut(&mut object);
        object["apiVersion"] = served.api_version.clone().into();
        object["kind"] = served.gvk.kind.as_ref().into();
        decode::normalize(&mut object, served.hub.def).map_err(Status::internal)?;
        served.kind.set_defaults(&mut object);
        rules::fill_metadata(&mut object, now, &uuid::Uuid::new_v4().to_string());
        let status = object.get("status").cloned();
        served.kind.prepare_create(&mut object);
        if let Some(status) = status {
            object["status"] = status;
        }
        managed::update(
            None,
            &mut object,
            served.hub.def,
            MANAGER,
            "",
            &time::format_rfc3339(now),
        );
        let key = keys::local(meta::namespace(&object), meta::name(&object));
        let mut transaction = Transaction::create(self, &served.hub, key);
        Ok(transaction.commit(Outcome::Put(object)).await?.is_some())
    }

    /// Changes the object, or makes it: `change` gets what is there and answers what shall be; `None` leaves it.
    pub async fn update_own(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(Option<&Value>) -> Option<Value>,
    ) -> Result<(), Status> {
        let served = self.own(resource)?;
        loop {
            let mut transaction = Transaction::begin(self, &served.hub, keys::local(namespace, name));
            let Some(current) = transaction.current() else {
                match change(None) {
                    None => return Ok(()),
                    Some(object) if self.create_own(resource, object.clone()).await? => return Ok(()),
                    // It exists, and the cache is about to know.
                    Some(_) => {
                        self.progress.wait_current().await?;
                        continue;
                    }
                }
            };
            let old = current.value.clone();
            let Some(mut new) = change(Some(&old)) else {
                return Ok(());
            };
            rules::keep_metadata(&mut new, &old);
            if transaction.commit(Outcome::Put(new)).await?.is_some() {
                return Ok(());
            }
            self.progress.wait_current().await?;
        }
    }

    /// Removes the object where it is there, and `still` agrees.
    pub async fn delete_own(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        still: impl Fn(&Value) -> bool,
    ) -> Result<Option<Done>, Status> {
        let served = self.own(resource)?;
        let mut transaction = Transaction::begin(self, &served.hub, keys::local(namespace, name));
        loop {
            let agreed = transaction.current().is_some_and(|current| still(&current.value));
            if !agreed {
                match transaction.reconsider().await? {
                    true => continue,
                    false => return Ok(None),
                }
            }
            if let Some(done) = transaction.commit(Outcome::Remove(None)).await? {
                return Ok(Some(done));
            }
        }
    }
}
