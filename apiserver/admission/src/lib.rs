//! Admission: what is added to an object before it is stored, and what is refused although its author may write it.
//!
//! One file per plugin, one table with upstream's order and default set ([`plugins`]). Plugins are synchronous functions over values and the
//! server's watch cache; what needs a write elsewhere (a quota's usage) is returned as an [`Effect`] for the server
//! to carry out.

pub mod attributes;
mod certificate_request;
pub mod chain;
pub mod plugins;
mod pod_resources;
pub mod quota;
#[cfg(test)]
mod testing;
mod value;

pub use attributes::{AdmissionAttributes, Operation};
pub use chain::{Chain, Config, ConfigError, chain};

use keelson_machinery::{GroupResource, ObjectReader, Status};
use serde_json::Value;

/// A write that a plugin needs done before the request may go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create this object, unless it exists.
    Create { resource: GroupResource, object: Value },
    /// Write `object.status` if the stored object still has the resourceVersion of `object`. On a conflict the server reads anew
    /// and asks the plugin again.
    UpdateStatus { resource: GroupResource, object: Value },
}

/// One admission plugin.
pub trait Admission: Send + Sync {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether the plugin looks at such requests at all.
    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool;

    /// Writes to be done before any plugin looks at the request.
    ///
    /// # Errors
    /// The request is refused.
    fn early_effects(
        &self,
        _attributes: &AdmissionAttributes<'_>,
        _object: &Value,
        _reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        Ok(Vec::new())
    }

    /// Changes the object; null for deletes.
    ///
    /// # Errors
    /// The request is refused.
    fn mutate(
        &self,
        _attributes: &AdmissionAttributes<'_>,
        _object: &mut Value,
        _reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Looks at the object as it will be stored; null for deletes.
    ///
    /// # Errors
    /// The request is refused.
    fn validate(
        &self,
        _attributes: &AdmissionAttributes<'_>,
        _object: &Value,
        _reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Writes to be done after everyone else has agreed, before the object is stored.
    ///
    /// # Errors
    /// The request is refused.
    fn effects(
        &self,
        _attributes: &AdmissionAttributes<'_>,
        _object: &Value,
        _reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        Ok(Vec::new())
    }

    /// Texts for `Warning` headers.
    fn warnings(
        &self,
        _attributes: &AdmissionAttributes<'_>,
        _object: &Value,
        _reader: &dyn ObjectReader,
    ) -> Vec<String> {
        Vec::new()
    }
}
