//! Which changes put which keys on a queue.

use keelson_client::{Event, Informer, Key, Object};
use keelson_controller::Queue;
use keelson_controller::action::Kind;

use crate::owner;

/// Each change of an object queues the object itself.
pub fn on_self<K: Object>(informer: &Informer<K>, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.on(move |event| queue.add(Key::of(event.object().as_ref())));
}

/// Each change of an object queues its controller, if that is of `kind`; a change of controller queues both.
pub fn on_owned<K: Object + Kind>(informer: &Informer<K>, queue: &Queue<Key>, kind: &'static str) {
    let queue = queue.clone();
    informer.on(move |event| {
        let before = match event {
            Event::Modified { old, .. } => owner_key(old.as_ref(), kind),
            _ => None,
        };
        let after = owner_key(event.object().as_ref(), kind);
        if before != after
            && let Some(key) = before
        {
            queue.add(key);
        }
        if let Some(key) = after {
            queue.add(key);
        }
    });
}

/// The key of an object's controller of a kind.
pub fn owner_key<K: Kind>(object: &K, kind: &str) -> Option<Key> {
    let meta = object.metadata();
    let owner = owner::controller_of(meta).filter(|owner| owner.kind == kind)?;
    Some(Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        &owner.name,
    ))
}

/// Each new or relabelled object without a controller queues those who may adopt it.
pub fn on_orphans<K: Object + Kind>(
    informer: &Informer<K>,
    queue: &Queue<Key>,
    adopters: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = queue.clone();
    informer.on(move |event| {
        let object = match event {
            Event::Added(object) => object,
            Event::Modified { old, new } if adoptable_now(old.as_ref(), new.as_ref()) => new,
            _ => return,
        };
        if owner::controller_of(object.metadata()).is_none() {
            adopters(object.as_ref())
                .into_iter()
                .for_each(|key| queue.add(key));
        }
    });
}

fn adoptable_now<K: Kind>(old: &K, new: &K) -> bool {
    let (old, new) = (old.metadata(), new.metadata());
    old.labels != new.labels || owner::controller_of(old) != owner::controller_of(new)
}
