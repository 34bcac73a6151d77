//! What is in the kernel's table, and the next transaction.
//!
//! Each service's rules are computed when it or its endpoints changed, not otherwise. Two services that claim one
//! external address and port cannot both have it: the one that came first keeps it while it lives.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::frame::frame;
use crate::model::{Entry, Family, ServiceName};
use crate::render::{Dialect, Transaction};
use crate::rules::{Key, Map, Piece};
use crate::service_rules::{Context, service_rules};

/// One family's table.
#[derive(Debug)]
pub struct Table {
    dialect: Dialect,
    context: Context,
    frame: Piece,
    services: BTreeMap<ServiceName, Piece>,
    owners: HashMap<(Map, Key), ServiceName>,
    /// Refused for now because another service owns one of its keys.
    waiting: BTreeSet<ServiceName>,
    /// False until a transaction succeeded, and after one failed: then the next one starts from nothing.
    known: bool,
}

impl Table {
    /// Nothing is known of the kernel's table yet.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            context: Context::default(),
            frame: Piece::default(),
            services: BTreeMap::new(),
            owners: HashMap::new(),
            waiting: BTreeSet::new(),
            known: false,
        }
    }

    /// Brings the table to the model. `changed` names the services that may differ from the last time. Returns nft's
    /// text; call `failed` if it was not applied.
    pub fn update(
        &mut self,
        model: &BTreeMap<ServiceName, Entry>,
        changed: &BTreeSet<ServiceName>,
        context: &Context,
        node_port_ips: &[std::net::IpAddr],
    ) -> String {
        let mut transaction = Transaction::default();
        let everything = !self.known || self.context != *context;
        if !self.known {
            transaction.reset(self.dialect);
            self.frame = Piece::default();
            self.services.clear();
            self.owners.clear();
            self.waiting.clear();
        }
        self.context = context.clone();
        let family = self.dialect.family;
        let ips = node_port_ips
            .iter()
            .copied()
            .filter(|ip| Family::of(*ip) == family)
            .collect::<Vec<_>>();
        let frame = frame(&ips);
        transaction.change(self.dialect, &self.frame, &frame);
        self.frame = frame;
        let mut names: BTreeSet<ServiceName> = if everything {
            model.keys().chain(self.services.keys()).cloned().collect()
        } else {
            changed.clone()
        };
        // Those that wait for a key may get it now: after the ones that may give it up.
        let waiting = std::mem::take(&mut self.waiting);
        names.retain(|n| !waiting.contains(n));
        for name in names.into_iter().chain(waiting) {
            let wanted = model
                .get(&name)
                .map(|entry| service_rules(entry, &self.context, family))
                .unwrap_or_default();
            self.change(&mut transaction, name, wanted);
        }
        self.known = true;
        transaction.text()
    }

    /// The last transaction was not applied: start over with the next one.
    pub fn failed(&mut self) {
        self.known = false;
    }

    fn change(&mut self, transaction: &mut Transaction, name: ServiceName, mut wanted: Piece) {
        let taken = |owners: &HashMap<(Map, Key), ServiceName>, key: &(Map, Key)| {
            owners.get(key).is_some_and(|owner| *owner != name)
        };
        if wanted.elements.keys().any(|key| taken(&self.owners, key)) {
            wanted.elements.retain(|key, _| !taken(&self.owners, key));
            self.waiting.insert(name.clone());
        }
        let old = self.services.remove(&name).unwrap_or_default();
        transaction.change(self.dialect, &old, &wanted);
        for key in old.elements.keys() {
            self.owners.remove(key);
        }
        for key in wanted.elements.keys() {
            self.owners.insert(key.clone(), name.clone());
        }
        if wanted != Piece::default() {
            self.services.insert(name, wanted);
        }
    }

    /// Every piece, for tracing.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        std::iter::once(&self.frame).chain(self.services.values())
    }
}
