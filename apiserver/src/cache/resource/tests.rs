//! The cache under the loads it is bounded for: many readers, slow watchers, long histories, many pods.

use super::*;
use crate::storage::Etcd;
use crate::storage::codec;
use crate::storage::endpoints::EndpointOptions;

/// A cache behind which there is no store: only what is applied is in it.
fn cache() -> Arc<ResourceCache> {
    let store = Etcd::new(&EndpointOptions {
        servers: vec!["http://127.0.0.1:1".to_owned()],
        ca: None,
        cert_key: None,
    })
    .unwrap();
    Arc::new(ResourceCache::new(true, Progress::start(store, "/progress")))
}

fn entry(key: &str, node: &str, revision: i64, padding: usize) -> Entry {
    let text = format!(
        r#"{{"metadata":{{"name":"x"}},"data":"{}"}}"#,
        "x".repeat(padding)
    );
    let served = codec::with_revision(text.as_bytes(), revision).unwrap();
    Entry::new(key, revision, served, &[(NODE, node.to_owned())], false)
}

fn put(cache: &ResourceCache, key: &str, node: &str, revision: i64) {
    put_large(cache, key, node, revision, 0);
}

fn put_large(cache: &ResourceCache, key: &str, node: &str, revision: i64, padding: usize) {
    cache.apply(vec![Change {
        key: key.to_owned(),
        revision,
        entry: Some(entry(key, node, revision, padding)),
    }]);
}

fn remove(cache: &ResourceCache, key: &str, revision: i64) {
    cache.apply(vec![Change {
        key: key.to_owned(),
        revision,
        entry: None,
    }]);
}

fn keys(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.key).collect()
}

#[tokio::test]
async fn readers_of_one_state_share_one_list_and_the_objects_bytes() {
    let cache = cache();
    for number in 0..100 {
        put(&cache, &format!("ns/{number:03}"), "", number + 1);
    }
    let everything = Selection::all(None);
    let first = cache.list(&everything, &Page::default());
    let readers: Vec<Listing> = (0..32)
        .map(|_| cache.list(&everything, &Page::default()))
        .collect();
    let watcher = cache.watch(None, &everything).unwrap();
    for reader in &readers {
        assert!(Arc::ptr_eq(&first.entries, &reader.entries), "no list of its own");
    }
    assert!(
        Arc::ptr_eq(&first.entries, &watcher.initial),
        "initial events neither"
    );
    put(&cache, "ns/new", "", 200);
    let later = cache.list(&everything, &Page::default());
    assert_eq!((first.entries.len(), later.entries.len()), (100, 101));
    let (old, new) = (&first.entries[0], &later.entries[0]);
    assert_eq!(
        old.json.as_ptr(),
        new.json.as_ptr(),
        "objects are shared between states"
    );
    // Nothing but its readers holds a list.
    let held = Arc::downgrade(&later.entries);
    drop(later);
    assert!(held.upgrade().is_none());
}

#[tokio::test]
async fn a_watcher_that_does_not_keep_up_is_ended_and_holds_nobody_up() {
    let cache = cache();
    let everything = Selection::all(None);
    let mut slow = cache.watch(Some(0), &everything).unwrap();
    let mut quick = cache.watch(Some(0), &everything).unwrap();
    let sent = i64::try_from(WATCHER_EVENTS_MAX).unwrap() + 1;
    for revision in 1..=sent {
        put(&cache, "ns/x", "", revision);
        assert_eq!(quick.events.try_recv().unwrap().revision, revision);
    }
    assert_eq!(cache.watchers(), 1, "the slow one is gone");
    for revision in 1..sent {
        assert_eq!(
            slow.events.recv().await.unwrap().revision,
            revision,
            "its queue is still told"
        );
    }
    assert!(slow.events.recv().await.is_none(), "then it ends");
    put(&cache, "ns/x", "", sent + 1);
    assert_eq!(quick.events.try_recv().unwrap().revision, sent + 1);
}

#[tokio::test]
async fn the_window_is_bounded_by_events_and_by_bytes() {
    let cache = cache();
    let everything = Selection::all(None);
    let most = i64::try_from(WINDOW_EVENTS_MAX).unwrap();
    for revision in 1..=most + 5 {
        put(&cache, "ns/x", "", revision);
    }
    assert!(cache.watch(Some(5), &everything).is_ok());
    let beyond = cache.watch(Some(4), &everything).unwrap_err();
    assert_eq!(beyond, BeyondWindow { floor: 5 });
    // Large objects leave fewer events, but never fewer than the least.
    let large = WINDOW_BYTES_MAX / WINDOW_EVENTS_MIN;
    let start = most + 5;
    let least = i64::try_from(WINDOW_EVENTS_MIN).unwrap();
    for revision in start + 1..=start + 3 * least {
        put_large(&cache, "ns/x", "", revision, large);
    }
    let oldest = start + 2 * least;
    assert!(cache.watch(Some(oldest), &everything).is_ok());
    assert!(cache.watch(Some(oldest - 1), &everything).is_err());
}

#[tokio::test]
async fn pods_are_found_by_their_node() {
    let cache = cache();
    let on = |node: &str| Selection {
        node: Some(node.to_owned()),
        ..Selection::all(None)
    };
    put(&cache, "a/1", "n1", 1);
    put(&cache, "b/2", "n1", 2);
    put(&cache, "a/3", "", 3);
    put(&cache, "a/4", "n2", 4);
    let listed = |node: &str| cache.list(&on(node), &Page::default()).entries;
    assert_eq!(keys(&listed("n1")), ["a/1", "b/2"]);
    assert_eq!(keys(&cache.on_node("a", "n1")), ["a/1"]);
    // It moves with the object, and goes with it.
    put(&cache, "a/3", "n2", 5);
    remove(&cache, "a/4", 6);
    remove(&cache, "a/1", 7);
    assert_eq!(keys(&listed("n1")), ["b/2"]);
    assert_eq!(keys(&listed("n2")), ["a/3"]);
    remove(&cache, "b/2", 8);
    assert!(listed("n1").is_empty());
    assert_eq!(
        cache.state.read().on_node.len(),
        1,
        "a node without pods is forgotten"
    );
    cache.replace(vec![entry("c/5", "n3", 9, 0)], 9);
    assert_eq!(keys(&listed("n3")), ["c/5"]);
    assert!(listed("n2").is_empty());
}
