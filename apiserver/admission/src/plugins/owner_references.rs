//! OwnerReferencesPermissionEnforcement (off by default): only who may delete an object may change its owners, and only who may set an
//! owner's finalizers may block its deletion.

use keelson_auth::{Attributes, Decision};
use keelson_machinery::{ObjectReader, Status, meta};
use serde_json::Value;

use crate::value::str_of;
use crate::{Admission, AdmissionAttributes, Operation};

/// Finds the resource (group, plural) of an owner's `apiVersion` and `kind`; CRDs count, so the server provides it.
pub type ResourceOf = dyn Fn(&str, &str) -> Option<(String, String)> + Send + Sync;

pub struct OwnerReferencesPermissionEnforcement {
    pub resource_of: std::sync::Arc<ResourceOf>,
}

impl Admission for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update)
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let old = a.old.map_or(&[][..], meta::owner_references);
        let new = meta::owner_references(object);
        if old == new {
            return Ok(());
        }
        if a.operation == Operation::Update
            && !self.may(a, "delete", &a.resource.group, &a.resource.resource, a.name, "")
        {
            let why = "cannot set an ownerRef on a resource you can't delete: ";
            return Err(a.forbidden(object, why.trim_end_matches(": ")));
        }
        let blocking = |reference: &&Value| reference["blockOwnerDeletion"] == true;
        for reference in new
            .iter()
            .filter(blocking)
            .filter(|reference| !old.contains(reference))
        {
            let (api_version, kind) = (str_of(&reference["apiVersion"]), str_of(&reference["kind"]));
            let Some((group, resource)) = (self.resource_of)(api_version, kind) else {
                let why = format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                     {api_version} Kind {kind}"
                );
                return Err(a.forbidden(object, &why));
            };
            if !self.may(
                a,
                "update",
                &group,
                &resource,
                str_of(&reference["name"]),
                "finalizers",
            ) {
                let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                           finalizers on";
                return Err(a.forbidden(object, why));
            }
        }
        Ok(())
    }
}

impl OwnerReferencesPermissionEnforcement {
    fn may(
        &self,
        a: &AdmissionAttributes<'_>,
        verb: &'static str,
        group: &str,
        resource: &str,
        name: &str,
        subresource: &'static str,
    ) -> bool {
        let request = Attributes {
            user: a.user.clone(),
            verb: verb.into(),
            namespace: a.namespace.to_owned(),
            group: group.to_owned().into(),
            version: "*".into(),
            resource: resource.to_owned().into(),
            subresource: subresource.into(),
            name: name.to_owned(),
            is_resource: true,
            ..Attributes::default()
        };
        a.authorizer.authorize(&request).0 == Decision::Allow
    }
}
