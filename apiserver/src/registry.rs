//! Every resource this server serves: names, rules, stored form, cache.
//!
//! A resource served in several versions or groups (`horizontalpodautoscalers`, `events`) has one stored form and one
//! cache; its other forms are converted at the edge.

use std::collections::HashMap;
use std::sync::Arc;

use keelson_kinds::{Kind, ratchet};
use keelson_machinery::gvk::Name;
use keelson_machinery::{FieldErrors, GroupResource, GroupVersionKind, Value};
use keelson_schema::resources::{self, ResourceInfo};
use keelson_schema::types::{self, TypeDef};

use crate::cache::entry::Entry;
use crate::cache::feed::{Decode, Route};
use crate::cache::{Progress, ResourceCache};
use crate::foreign;
use crate::storage::codec;

/// Between a served version and the cached one.
#[derive(Clone, Copy)]
pub struct Conversion {
    pub to_hub: fn(&mut Value),
    pub from_hub: fn(&mut Value),
}

/// A stored resource: the version it is cached in.
pub struct Hub {
    pub gvk: GroupVersionKind,
    pub def: &'static TypeDef,
    pub kind: KindRef,
    /// The front of every cached object.
    pub head: String,
    /// Below the root: `pods`, `services/specs`.
    pub storage_prefix: Name,
    pub cache: Arc<ResourceCache>,
    /// Whether objects expire by a lease.
    pub expires: bool,
}

/// A resource in one version.
pub struct Served {
    pub info: ResourceInfo,
    pub gvk: GroupVersionKind,
    pub api_version: String,
    pub list_kind: String,
    /// The front of every object of this version.
    pub head: String,
    pub def: &'static TypeDef,
    /// The rules, which know the cached version.
    pub kind: KindRef,
    /// Stricter rules of this version alone; they take objects of the cached version too.
    strict: Option<KindRef>,
    pub hub: Arc<Hub>,
    /// `None`: this is the cached version.
    pub conversion: Option<Conversion>,
}

impl Served {
    pub fn group_resource(&self) -> GroupResource {
        self.info.group_resource()
    }

    /// Every error of a create or an update; the objects are of the cached version.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let rules = self.strict.as_ref().unwrap_or(&self.kind);
        let errors = rules.validate(new, old);
        match old {
            Some(old) if !errors.is_empty() => ratchet::not_excused(&**rules, errors, old),
            _ => errors,
        }
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.gvk)
    }
}

/// All served resources.
pub struct Registry {
    by_path: HashMap<(String, String, String), Arc<Served>>,
    hubs: Vec<Arc<Hub>>,
}

/// Resources whose parsed objects the server itself reads again and again, and which are few.
const KEPT_PARSED: &[&str] = &[
    "namespaces",
    "nodes",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "limitranges",
    "resourcequotas",
    "priorityclasses",
    "storageclasses",
    "ingressclasses",
    "runtimeclasses",
    "servicecidrs",
    "ipaddresses",
    "flowschemas",
    "prioritylevelconfigurations",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "customresourcedefinitions",
    "apiservices",
    "volumeattributesclasses",
    "csidrivers",
];

impl Registry {
    /// Every built-in kind with its cache.
    pub fn new(progress: &Progress) -> Self {
        let mut hubs: HashMap<Name, Arc<Hub>> = HashMap::new();
        for &kind in keelson_kinds::kinds() {
            let info = kind.info();
            if is_other_form(info) {
                continue;
            }
            if let Some(hub) = hub(kind, info, progress) {
                hubs.insert(hub_name(info), Arc::new(hub));
            }
        }
        let mut by_path = HashMap::new();
        for info in resources::all().iter().filter(|info| info.by_default) {
            if let Some(hub) = hubs.get(&hub_name(info))
                && let Some(served) = served(info, hub)
            {
                by_path.insert(
                    path_key(&info.group, &info.version, &info.resource),
                    Arc::new(served),
                );
            }
        }
        let mut hubs: Vec<Arc<Hub>> = hubs.into_values().collect();
        hubs.sort_by(|a, b| a.storage_prefix.cmp(&b.storage_prefix));
        Self { by_path, hubs }
    }

    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Served>> {
        self.by_path.get(&path_key(group, version, resource))
    }

    /// The resource in the version it is cached in.
    pub fn cached(&self, resource: &GroupResource) -> Option<&Arc<Served>> {
        self.by_path.values().find(|served| {
            served.conversion.is_none()
                && served.info.group == resource.group
                && served.info.resource == resource.resource
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.by_path.values()
    }

    pub fn hubs(&self) -> &[Arc<Hub>] {
        &self.hubs
    }

    /// Where the feed sends changes.
    pub fn routes(&self) -> HashMap<String, Route> {
        let route = |hub: &Arc<Hub>| Route {
            cache: hub.cache.clone(),
            decode: hub.clone(),
        };
        self.hubs
            .iter()
            .filter(|hub| !hub.storage_prefix.is_empty())
            .map(|hub| (hub.storage_prefix.to_string(), route(hub)))
            .collect()
    }

    /// The caches by group and resource, also under the other names they are served by.
    pub fn caches(&self) -> HashMap<GroupResource, Arc<ResourceCache>> {
        self.by_path
            .values()
            .map(|served| (served.group_resource(), served.hub.cache.clone()))
            .collect()
    }
}

fn path_key(group: &str, version: &str, resource: &str) -> (String, String, String) {
    (group.to_owned(), version.to_owned(), resource.to_owned())
}

/// What forms of one resource share: where they are stored, or, of what is not stored, the name.
fn hub_name(info: &ResourceInfo) -> Name {
    match info.storage_prefix.is_empty() {
        true => info.resource.clone(),
        false => info.storage_prefix.clone(),
    }
}

/// A form converted from another: `events` of events.k8s.io, `horizontalpodautoscalers` v1.
fn is_other_form(info: &ResourceInfo) -> bool {
    crate::convert::conversion(&info.group, &info.version, &info.resource).is_some()
}

fn hub(kind: &'static dyn Kind, info: &ResourceInfo, progress: &Progress) -> Option<Hub> {
    let gvk = info.group_version_kind();
    let def = types::of_kind(&gvk)?;
    Some(Hub {
        head: codec::head(&gvk.kind, &gvk.api_version()),
        def,
        kind: KindRef::Static(kind),
        storage_prefix: info.storage_prefix.clone(),
        cache: Arc::new(ResourceCache::new(info.namespaced, progress.clone())),
        expires: info.resource == "events",
        gvk,
    })
}

fn served(info: &ResourceInfo, hub: &Arc<Hub>) -> Option<Served> {
    let gvk = info.group_version_kind();
    Some(Served {
        info: info.clone(),
        api_version: gvk.api_version(),
        list_kind: format!("{}List", gvk.kind),
        head: codec::head(&gvk.kind, &gvk.api_version()),
        def: types::of_kind(&gvk)?,
        kind: hub.kind.clone(),
        strict: keelson_kinds::find(&info.group, &info.resource)
            .filter(|_| info.group == "events.k8s.io")
            .map(KindRef::Static),
        conversion: crate::convert::conversion(&info.group, &info.version, &info.resource),
        hub: hub.clone(),
        gvk,
    })
}

impl Decode for Hub {
    fn entry(&self, key: &str, value: &[u8], revision: i64) -> Option<Entry> {
        match self.serve(value, revision) {
            Ok(served) => Some(self.entry_of(key, revision, served)),
            Err(error) => {
                let resource = &self.storage_prefix;
                tracing::error!(%resource, key, %error, "a stored object cannot be read; it is left out");
                None
            }
        }
    }
}

impl Hub {
    /// A stored value as it is served.
    ///
    /// # Errors
    /// What is encrypted, or no object of the kind.
    pub fn serve(&self, stored: &[u8], revision: i64) -> Result<codec::Served, codec::CodecError> {
        let made;
        let own = match foreign::is_own(stored, &self.head) {
            true => stored,
            false => {
                made = foreign::normal(stored, self)?;
                &made[..]
            }
        };
        codec::serve(own, revision)
    }

    /// A cache entry of an object that is ready to be served.
    pub fn entry_of(&self, key: &str, revision: i64, served: codec::Served) -> Entry {
        let names = self.kind.selectable_field_names();
        let fields = match names.is_empty() {
            true => Vec::new(),
            // A pod's fields are a small part of it: the rest is not read for them.
            false => self.kind.selectable_fields(&codec::parts(&served, names)),
        };
        let keep = KEPT_PARSED.contains(&self.kind.info().resource.as_ref());
        Entry::new(key, revision, served, &fields, keep)
    }
}

/// A kind of the built-in table, or one made at run time.
#[derive(Clone)]
pub enum KindRef {
    Static(&'static dyn Kind),
    Shared(Arc<dyn Kind>),
}

impl std::ops::Deref for KindRef {
    type Target = dyn Kind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Static(kind) => *kind,
            Self::Shared(kind) => &**kind,
        }
    }
}
