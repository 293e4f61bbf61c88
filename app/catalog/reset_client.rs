//! A computer that is not a node orders a reset: it learns the swarm's epoch, orders the next one,
//! and listens for acknowledgements.
//!
//! It asks with a reset to epoch 0, which no node obeys and every node answers with an
//! announcement. After at least two seconds, and once it has heard a node, it orders the reset,
//! first several times and then every other second, until every node that it has heard announces
//! that it obeyed. It is a state machine like [`Catalog`](super::Catalog): poll it after each
//! datagram and at its deadline.

use std::collections::{BTreeMap, VecDeque};

use super::repeat::Repeater;
use super::wire::{self, Announce, Datagram, Header, Message};
use super::{CatalogFault, CatalogStats};
use crate::id::{BootId, EpochState, Millis, NodeId};
use crate::keyring::{Keyring, SwarmSecret};
use crate::limits::MAX_RESET_NODES;
use crate::splitmix::SplitMix64;

/// Shortest time to listen for nodes: each answers at the latest a second after its
/// last announcement.
const LISTEN_MS: u64 = 2_000;

/// Milliseconds between two requests.
const ASK_MS: u64 = 500;

/// Milliseconds between two orders, once the first ones were not obeyed by all.
const REMIND_MS: u64 = 2_000;

/// Settings of a reset client.
#[derive(Clone, Debug)]
pub struct ResetClientConfig {
    /// An id that no node has.
    pub node: NodeId,
    /// Never used before.
    pub boot: BootId,
    /// Keys that seal the datagrams. Nodes that have only a former key are reached too.
    pub keys: Keyring,
    /// Whether the blocks are dropped too.
    pub store: bool,
}

/// What a reset client has learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetClientEvent {
    /// The reset was ordered.
    Ordered(EpochState),
    /// The node has obeyed the reset and saved it.
    Acknowledged(NodeId),
}

/// The state machine; see the module header.
pub struct ResetClient {
    config: ResetClientConfig,
    counter: u64,
    dice: SplitMix64,
    listen_until: Millis,
    ask_at: Millis,
    /// The newest epochs that any node knows.
    newest: EpochState,
    ordered: Option<EpochState>,
    order: Repeater,
    remind_at: Millis,
    /// Whether each node has obeyed.
    nodes: BTreeMap<NodeId, bool>,
    news: VecDeque<ResetClientEvent>,
    /// Copies of the last datagram, sealed with former keys.
    copies: Vec<Datagram>,
    stats: CatalogStats,
}

impl ResetClient {
    /// A client that starts asking at `now`.
    pub fn new(config: ResetClientConfig, now: Millis) -> ResetClient {
        ResetClient {
            counter: 0,
            dice: SplitMix64(config.boot.0),
            listen_until: now + Millis(LISTEN_MS),
            ask_at: now,
            newest: EpochState::default(),
            ordered: None,
            order: Repeater::default(),
            remind_at: Millis(0),
            nodes: BTreeMap::new(),
            news: VecDeque::new(),
            copies: Vec::new(),
            stats: CatalogStats::default(),
            config,
        }
    }

    /// Takes in a datagram.
    pub fn handle(&mut self, datagram: &[u8]) -> Result<(), CatalogFault> {
        let mut text = Datagram::new();
        let opened = wire::open(datagram, &self.config.keys, &mut text);
        let (header, message) = opened.inspect_err(|&fault| self.stats.count(fault))?;
        if header.node == self.config.node {
            return Ok(());
        }
        self.newest = self.newest.join(header.epochs);
        match message {
            Message::Reset => {}
            Message::Announce(Announce { interval_ms: 0, .. }) => {
                self.nodes.remove(&header.node);
            }
            _ => self.handle_node(&header),
        }
        Ok(())
    }

    fn handle_node(&mut self, header: &Header) {
        if self.nodes.len() >= MAX_RESET_NODES && !self.nodes.contains_key(&header.node) {
            return;
        }
        let obeyed = self.nodes.entry(header.node).or_insert(false);
        if !*obeyed && self.ordered.is_some_and(|ordered| header.epochs.covers(ordered)) {
            *obeyed = true;
            self.news.push_back(ResetClientEvent::Acknowledged(header.node));
        }
    }

    /// The next datagram to multicast, if one is due.
    pub fn poll_datagram(&mut self, now: Millis) -> Option<Datagram> {
        if let Some(copy) = self.copies.pop() {
            return Some(copy);
        }
        if self.ordered.is_none() && !self.nodes.is_empty() && now >= self.listen_until {
            let ordered = self.newest.next(self.config.store);
            self.ordered = Some(ordered);
            self.news.push_back(ResetClientEvent::Ordered(ordered));
            self.order.start(now);
        }
        let Some(ordered) = self.ordered else {
            let due = now >= self.ask_at;
            return due.then(|| {
                self.ask_at = now + Millis(ASK_MS);
                self.seal(EpochState::default())
            });
        };
        let reminder = self.order.is_done() && now >= self.remind_at;
        if !(self.order.take(&mut self.dice, now) || reminder) {
            return None;
        }
        self.remind_at = now + Millis(REMIND_MS);
        Some(self.seal(ordered.join(self.newest)))
    }

    fn seal(&mut self, epochs: EpochState) -> Datagram {
        self.counter += 1;
        let ResetClientConfig { keys, node, boot, .. } = &self.config;
        let seal = |secret: &SwarmSecret| {
            let header = Header {
                swarm: secret.tag(),
                node: *node,
                boot: *boot,
                counter: self.counter,
                epochs,
            };
            wire::seal(&header, &Message::Reset, secret)
        };
        self.copies = keys.former().iter().map(seal).collect();
        seal(keys.current())
    }

    /// The next piece of news, until there is none.
    pub fn poll_news(&mut self) -> Option<ResetClientEvent> {
        self.news.pop_front()
    }

    /// When to poll again, even if nothing comes in.
    pub fn deadline(&self) -> Millis {
        match self.ordered {
            None if self.nodes.is_empty() => self.ask_at,
            None => self.ask_at.min(self.listen_until),
            Some(_) => self.order.deadline().unwrap_or(self.remind_at),
        }
    }

    /// Whether the order was sent as often as it should be, and every node heard has obeyed.
    pub fn is_done(&self) -> bool {
        self.ordered.is_some() && self.order.is_done() && self.nodes.values().all(|obeyed| *obeyed)
    }

    /// The nodes heard, and whether each has obeyed.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, bool)> + '_ {
        self.nodes.iter().map(|(node, obeyed)| (*node, *obeyed))
    }

    /// Datagrams of other swarms, or sealed with another key: the sign of a wrong key.
    pub fn strangers(&self) -> u64 {
        self.stats.other_swarm + self.stats.forged
    }
}
