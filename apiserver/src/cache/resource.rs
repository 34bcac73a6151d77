//! The cache of one resource: its objects in key order, a window of its latest changes, its watchers.
//!
//! Invariants: the window holds every change after `floor`, in order; a watcher is registered in the same critical
//! section that reads what it starts from, so it misses nothing and sees nothing twice; a watcher that does not keep
//! up is dropped, never waited for.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use super::entry::{Entry, Event};
use super::progress::Progress;
use super::selection::Selection;
use crate::limits::{WATCHER_EVENTS_MAX, WINDOW_BYTES_MAX, WINDOW_EVENTS_MAX, WINDOW_EVENTS_MIN};

/// A resource's objects, changes and watchers.
#[derive(Debug)]
pub struct ResourceCache {
    namespaced: bool,
    progress: Progress,
    state: RwLock<State>,
    /// The list of all objects as its readers have it, and the generation it is of. Taken after `state`.
    whole: Mutex<(u64, Weak<Vec<Arc<Entry>>>)>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeSet<ByKey>,
    /// Those that name a node, by node.
    on_node: HashMap<Box<str>, BTreeSet<ByKey>>,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    /// Changes up to here may be missing from the window.
    floor: i64,
    /// The newest change of this resource.
    last: i64,
    generation: u64,
    watchers: Watchers,
}

#[derive(Debug)]
struct ByKey(Arc<Entry>);

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}
impl Eq for ByKey {}
impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}
impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

/// The field that pods are indexed by: kubelets list and watch by it, and authorizers ask by it.
const NODE: &str = "spec.nodeName";

impl State {
    #[expect(
        clippy::mutable_key_type,
        reason = "ordered by the key alone, which never changes"
    )]
    fn insert(&mut self, entry: &Arc<Entry>) {
        if let Some(node) = entry.field(NODE) {
            let pods = match self.on_node.get_mut(node) {
                Some(pods) => pods,
                None => self.on_node.entry(node.into()).or_default(),
            };
            pods.insert(ByKey(entry.clone()));
        }
        self.objects.insert(ByKey(entry.clone()));
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let entry = self.objects.take(key)?.0;
        if let Some(node) = entry.field(NODE)
            && let Some(pods) = self.on_node.get_mut(node)
        {
            pods.remove(key);
            if pods.is_empty() {
                self.on_node.remove(node);
            }
        }
        Some(entry)
    }

    /// The objects that may be selected, in key order: where a node is asked for, those on it.
    #[expect(
        clippy::mutable_key_type,
        reason = "ordered by the key alone, which never changes"
    )]
    fn candidates<'a>(
        &'a self,
        selection: &Selection,
        page: &Page,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        static NONE: BTreeSet<ByKey> = BTreeSet::new();
        let objects = match &selection.node {
            Some(node) => self.on_node.get(node.as_str()).unwrap_or(&NONE),
            None => &self.objects,
        };
        range(objects, selection, page)
    }
}

/// What wakes a watcher: everything, or changes under one index value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trigger {
    Key(String),
    Node(String),
}

type Senders = HashMap<u64, mpsc::Sender<Arc<Event>>>;

#[derive(Debug, Default)]
struct Watchers {
    next_id: u64,
    all: Senders,
    indexed: HashMap<Trigger, Senders>,
}

impl Watchers {
    fn send(&mut self, event: &Arc<Event>) {
        tell(&mut self.all, event);
        if self.indexed.is_empty() {
            return;
        }
        let entries = [&event.old, &event.new].map(Option::as_ref);
        let mut triggers: Vec<Trigger> = Vec::with_capacity(3);
        for entry in entries.into_iter().flatten() {
            triggers.push(Trigger::Key(entry.key.to_string()));
            triggers.extend(entry.field(NODE).map(|node| Trigger::Node(node.to_owned())));
        }
        triggers.dedup();
        for (position, trigger) in triggers.iter().enumerate() {
            if !triggers[..position].contains(trigger)
                && let Some(senders) = self.indexed.get_mut(trigger)
            {
                tell(senders, event);
            }
        }
    }

    fn clear(&mut self) {
        self.all.clear();
        self.indexed.clear();
    }
}

/// A full queue ends its watcher: the receiver sees the queue's rest, then the end.
fn tell(senders: &mut Senders, event: &Arc<Event>) {
    senders.retain(|_, sender| sender.try_send(event.clone()).is_ok());
}

/// One change on its way into the cache: `None` deletes.
#[derive(Debug)]
pub struct Change {
    pub key: String,
    pub revision: i64,
    pub entry: Option<Entry>,
}

/// A list's answer.
#[derive(Debug)]
pub struct Listing {
    /// Shared by all who list everything of one state: a reader costs no list of its own.
    pub entries: Arc<Vec<Arc<Entry>>>,
    pub revision: i64,
    /// Objects after the last one given, of a list with a limit and no selector.
    pub remaining: usize,
    /// Whether there are more than were given.
    pub more: bool,
}

/// Where a list starts and how much it takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The last key of the page before; empty at the start.
    pub after: String,
    /// 0: no limit.
    pub limit: usize,
}

/// The asked-for revision is older than the window.
#[derive(Debug, PartialEq)]
pub struct BeyondWindow {
    pub floor: i64,
}

/// A running watch. Dropping it unregisters.
#[derive(Debug)]
pub struct Subscription {
    /// The state to begin with, where the watch begins with one; shared as a listing's.
    pub initial: Arc<Vec<Arc<Entry>>>,
    /// Changes between the asked-for revision and now.
    pub backlog: Vec<Arc<Event>>,
    /// The revision of the initial state, or the one asked for.
    pub revision: i64,
    /// Later changes, unselected.
    pub events: mpsc::Receiver<Arc<Event>>,
    id: u64,
    trigger: Option<Trigger>,
    cache: Arc<ResourceCache>,
}

impl Subscription {
    /// The revision up to which every change has been queued for this watch.
    pub fn cache_revision(&self) -> i64 {
        let state = self.cache.state.read();
        self.cache.progress.revision().max(state.last)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.cache.state.write();
        match &self.trigger {
            None => drop(state.watchers.all.remove(&self.id)),
            Some(trigger) => {
                let senders = state.watchers.indexed.get_mut(trigger);
                let empty = senders.is_some_and(|senders| {
                    senders.remove(&self.id);
                    senders.is_empty()
                });
                if empty {
                    state.watchers.indexed.remove(trigger);
                }
            }
        }
    }
}

impl ResourceCache {
    pub fn new(namespaced: bool, progress: Progress) -> Self {
        Self {
            namespaced,
            progress,
            state: RwLock::default(),
            whole: Mutex::default(),
        }
    }

    /// Everything, as one list for all its readers; `state` is locked for reading at least.
    fn whole(&self, state: &State) -> Arc<Vec<Arc<Entry>>> {
        let mut whole = self.whole.lock();
        if whole.0 == state.generation
            && let Some(entries) = whole.1.upgrade()
        {
            return entries;
        }
        let entries: Vec<Arc<Entry>> = state.objects.iter().map(|found| found.0.clone()).collect();
        let entries = Arc::new(entries);
        *whole = (state.generation, Arc::downgrade(&entries));
        entries
    }

    /// The objects that name a node, of one namespace.
    pub fn on_node(&self, namespace: &str, node: &str) -> Vec<Arc<Entry>> {
        let selection = Selection {
            node: Some(node.to_owned()),
            ..Selection::all(Some(namespace.to_owned()))
        };
        let state = self.state.read();
        state.candidates(&selection, &Page::default()).cloned().collect()
    }

    /// The object now.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).map(|found| found.0.clone())
    }

    /// Grows with every change.
    pub fn generation(&self) -> u64 {
        self.state.read().generation
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of watchers.
    pub fn watchers(&self) -> usize {
        let state = self.state.read();
        state.watchers.all.len() + state.watchers.indexed.values().map(HashMap::len).sum::<usize>()
    }

    /// The objects now.
    pub fn list(&self, selection: &Selection, page: &Page) -> Listing {
        let state = self.state.read();
        let revision = self.progress.revision().max(state.last);
        if selection.is_everything() && *page == Page::default() {
            return Listing {
                entries: self.whole(&state),
                revision,
                remaining: 0,
                more: false,
            };
        }
        if let Some(key) = selection.key(self.namespaced) {
            let found = state.objects.get(key.as_str()).map(|found| found.0.clone());
            let entries = found
                .into_iter()
                .filter(|entry| selection.matches(entry) && *entry.key > *page.after);
            return Listing {
                entries: Arc::new(entries.collect()),
                revision,
                remaining: 0,
                more: false,
            };
        }
        let objects = state.candidates(selection, page);
        take(objects, selection, page, revision)
    }

    /// The objects as they were at a revision that the window still reaches back to.
    pub fn list_at(
        &self,
        revision: i64,
        selection: &Selection,
        page: &Page,
    ) -> Result<Listing, BeyondWindow> {
        let state = self.state.read();
        if revision < state.floor {
            return Err(BeyondWindow { floor: state.floor });
        }
        let mut undone: HashMap<&str, Option<&Arc<Entry>>> = HashMap::new();
        let later = state
            .window
            .iter()
            .rev()
            .take_while(|event| event.revision > revision);
        for event in later {
            if let Some(entry) = event.new.as_ref().or(event.old.as_ref()) {
                undone.insert(&entry.key, event.old.as_ref());
            }
        }
        let prefix = namespace_prefix(selection);
        let inside = |key: &str| key > page.after.as_str() && key.starts_with(&prefix);
        let mut objects: Vec<&Arc<Entry>> = range(&state.objects, selection, page)
            .filter(|entry| !undone.contains_key(&*entry.key))
            .collect();
        objects.extend(
            undone
                .iter()
                .filter(|(key, _)| inside(key))
                .filter_map(|(_, old)| *old),
        );
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(take(objects.into_iter(), selection, page, revision))
    }

    /// Watches from a revision on; or from the present state, which comes first.
    pub fn watch(
        self: &Arc<Self>,
        from: Option<i64>,
        selection: &Selection,
    ) -> Result<Subscription, BeyondWindow> {
        let trigger = selection
            .key(self.namespaced)
            .map(Trigger::Key)
            .or_else(|| selection.node.clone().map(Trigger::Node));
        let (sender, events) = mpsc::channel(WATCHER_EVENTS_MAX);
        let mut state = self.state.write();
        let (mut initial, mut backlog) = (Arc::default(), Vec::new());
        let revision = match from {
            None => {
                initial = match selection.is_everything() {
                    true => self.whole(&state),
                    false => {
                        let found = state.candidates(selection, &Page::default());
                        let selected = found.filter(|entry| selection.matches(entry));
                        Arc::new(selected.cloned().collect())
                    }
                };
                self.progress.revision().max(state.last)
            }
            Some(from) if from < state.floor => return Err(BeyondWindow { floor: state.floor }),
            Some(from) => {
                let start = state.window.partition_point(|event| event.revision <= from);
                backlog.extend(state.window.range(start..).cloned());
                from
            }
        };
        state.watchers.next_id += 1;
        let id = state.watchers.next_id;
        match &trigger {
            None => &mut state.watchers.all,
            Some(trigger) => state.watchers.indexed.entry(trigger.clone()).or_default(),
        }
        .insert(id, sender);
        Ok(Subscription {
            initial,
            backlog,
            revision,
            events,
            id,
            trigger,
            cache: self.clone(),
        })
    }

    /// Takes changes in, in order, and tells the watchers.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut state = self.state.write();
        let state = &mut *state;
        for change in changes {
            let new = change.entry.map(Arc::new);
            let old = state.remove(&change.key);
            if let Some(new) = &new {
                state.insert(new);
            }
            state.last = state.last.max(change.revision);
            state.generation += 1;
            if old.is_none() && new.is_none() {
                continue;
            }
            let event = Arc::new(Event::new(change.revision, old, new));
            state.watchers.send(&event);
            state.window_bytes += event.weight();
            state.window.push_back(event);
        }
        while state.window.len() > WINDOW_EVENTS_MAX
            || (state.window.len() > WINDOW_EVENTS_MIN && state.window_bytes > WINDOW_BYTES_MAX)
        {
            let Some(event) = state.window.pop_front() else {
                break;
            };
            state.window_bytes -= event.weight();
            state.floor = event.revision;
        }
    }

    /// Ends every running watch; what is queued for it is still sent.
    pub fn end_watches(&self) {
        self.state.write().watchers.clear();
    }

    /// Starts anew from a full read of the store; running watches end.
    pub fn replace(&self, entries: Vec<Entry>, revision: i64) {
        let mut state = self.state.write();
        state.objects.clear();
        state.on_node.clear();
        for entry in entries {
            state.insert(&Arc::new(entry));
        }
        state.window.clear();
        state.window_bytes = 0;
        state.floor = revision;
        state.last = revision;
        state.generation += 1;
        state.watchers.clear();
    }
}

fn namespace_prefix(selection: &Selection) -> String {
    selection
        .namespace
        .as_ref()
        .map_or_else(String::new, |namespace| format!("{namespace}/"))
}

#[expect(
    clippy::mutable_key_type,
    reason = "ordered by the key alone, which never changes"
)]
/// The objects of the selection's namespace after the page's start, in key order.
fn range<'a>(
    objects: &'a BTreeSet<ByKey>,
    selection: &Selection,
    page: &Page,
) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
    let prefix = namespace_prefix(selection);
    let from = match page.after.as_str() >= prefix.as_str() && !page.after.is_empty() {
        true => Bound::Excluded(page.after.as_str()),
        false => Bound::Included(prefix.as_str()),
    };
    objects
        .range::<str, _>((from, Bound::Unbounded))
        .map(|found| &found.0)
        .take_while(move |entry| entry.key.starts_with(&prefix))
}

fn take<'a>(
    objects: impl Iterator<Item = &'a Arc<Entry>>,
    selection: &Selection,
    page: &Page,
    revision: i64,
) -> Listing {
    let mut selected = objects.filter(|entry| selection.is_plain() || selection.matches(entry));
    let limit = if page.limit == 0 { usize::MAX } else { page.limit };
    let entries: Vec<Arc<Entry>> = selected.by_ref().take(limit).cloned().collect();
    let remaining = if entries.len() < limit {
        0
    } else {
        selected.count()
    };
    Listing {
        entries: Arc::new(entries),
        revision,
        remaining,
        more: remaining > 0,
    }
}

#[cfg(test)]
mod tests;
