//! The state machine that joins the rooms: one node of the swarm, without sockets, clocks or threads.
//!
//! Whoever drives it feeds [`Input`]s with the current time, then drains [`Node::poll_output`], [`Node::poll_datagram`] and, for
//! every connection that can take bytes, [`Node::poll_send`]; and wakes it at [`Node::deadline`]. The same inputs give the same
//! outputs: a driver, a test and a simulator all see the same node.
//!
//! One prompt is answered at a time (`prompt.rs` follows it): chain its tokens, look the blocks up here and in the peers' filters,
//! plan, fetch, compute what is left in steps, decode. Every finished block is committed to the cache at once, and from there
//! goes into the catalog.

mod config;
mod fetching;
mod figures;
mod links;
mod pages;
mod progress;
mod prompt;
mod rates;
mod reset;
mod supply;

use core::net::SocketAddr;
use std::collections::VecDeque;

use crate::cache::{Cache, ChainSecret};
use crate::catalog::{Catalog, CatalogConfig, Datagram, DatagramKey, Event, Standing};
use crate::console::Level;
use crate::id::{BlockKey, EpochState, Millis};
use crate::kv::Plane;
use crate::limits::MAX_QUEUED_PROMPTS;

pub use config::{NodeConfig, NodeError, swarm_tag};
pub use figures::{Figures, NodeStats, PeerStatus, Status, StopReason};
pub use links::ConnId;
pub use progress::Progress;
pub use prompt::{Ask, AskId, Job, JobDone, Reply, Watch};
pub use reset::ResetNews;

use links::Links;
use prompt::Active;
use rates::Rates;
use reset::Resets;

/// What happens to a node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came from `from`.
    Datagram {
        /// The sender's address.
        from: SocketAddr,
        /// The payload.
        bytes: &'a [u8],
    },
    /// A connection that the node asked for stands.
    Connected(ConnId),
    /// A connection could not be made, or ended.
    Closed(ConnId),
    /// Bytes came over a connection.
    Bytes {
        /// Which one.
        conn: ConnId,
        /// Any part of the stream.
        bytes: &'a [u8],
    },
    /// A prompt is to be answered.
    Ask(Ask),
    /// This prompt's answer is to end where it is, or not to begin.
    Stop(AskId),
    /// The engine has finished its job.
    Engine(JobDone),
    /// The swarm is to be reset: every node forgets what its peers hold.
    Reset {
        /// Whether every node is to drop its blocks too.
        store: bool,
    },
    /// What [`Output::Persist`] asked for is done, or cannot be done and why.
    Persisted {
        /// As asked.
        epochs: EpochState,
        /// Once this is good, a loss of power does not lose the state.
        result: Result<(), String>,
    },
    /// A deadline may have passed.
    Tick,
}

/// What a node wants done.
#[derive(Debug)]
pub enum Output {
    /// Connect to `addr`, then say [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// The name that the connection goes by.
        conn: ConnId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Close a connection. It is forgotten already; no [`Input::Closed`] is wanted.
    Close(ConnId),
    /// [`Node::poll_send`] may have bytes for this connection.
    Wake(ConnId),
    /// The engine's next job. There is never more than one under way.
    Engine(Job),
    /// Something for whoever asked.
    Reply(AskId, Reply),
    /// Save this so that it survives a loss of power, then say [`Input::Persisted`]. There is never more than one under way.
    Persist(EpochState),
    /// What became of a reset that this node was told of.
    Reset(ResetNews),
    /// A line for the log.
    Note(Level, String),
}

/// One node of the swarm.
pub struct Node {
    config: NodeConfig,
    secret: ChainSecret,
    root: BlockKey,
    cache: Cache,
    catalog: Catalog,
    links: Links,
    rates: Rates,
    active: Option<Active>,
    queue: VecDeque<(Ask, Millis)>,
    outputs: VecDeque<Output>,
    stats: NodeStats,
    jobs: u64,
    resets: Resets,
}

impl Node {
    /// A node with an empty slab. Fails when the slab's budget cannot hold what one prompt needs.
    pub fn new(config: NodeConfig) -> Result<Node, NodeError> {
        let secret = ChainSecret::derive(&config.swarm_key);
        let root = crate::cache::root(&secret, config.fingerprint);
        let cache = Cache::new(config.shape.clone(), root, config.slab_bytes)?;
        let catalog = Catalog::new(CatalogConfig {
            node: config.node,
            boot: config.boot,
            swarm: config.swarm,
            fingerprint: config.fingerprint,
            key: DatagramKey::derive(&config.swarm_key),
            epochs: config.epochs,
            tcp_port: config.tcp_port,
            capacity: Plane::ALL.len() * cache.stats().capacity,
            interval_ms: config.announce_interval_ms,
            seed: config.boot.0,
        });
        let links = Links::new(config.hello());
        let rates = Rates::new(config.prefill_tokens_per_s);
        Ok(Node {
            config,
            secret,
            root,
            cache,
            catalog,
            links,
            rates,
            active: None,
            queue: VecDeque::with_capacity(MAX_QUEUED_PROMPTS),
            outputs: VecDeque::new(),
            stats: NodeStats::default(),
            jobs: 0,
            resets: Resets::default(),
        })
    }

    /// Takes one input in.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) {
        match input {
            Input::Datagram { from, bytes } => self.on_datagram(from, bytes, now),
            Input::Connected(conn) => self.on_connected(conn, now),
            Input::Closed(conn) => self.on_closed(conn, now),
            Input::Bytes { conn, bytes } => self.on_bytes(conn, bytes, now),
            Input::Ask(ask) => self.on_ask(ask, now),
            Input::Stop(ask) => self.on_stop(ask, now),
            Input::Engine(done) => self.on_engine(done, now),
            Input::Reset { store } => self.on_reset(store, now),
            Input::Persisted { epochs, result } => self.on_persisted(epochs, result, now),
            Input::Tick => {}
        }
        self.on_time(now);
        self.tell_progress(now);
        self.publish_changes(now);
        self.catalog.set_load(self.load_percent());
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next datagram for the swarm, until there is none at `now`.
    pub fn poll_datagram(&mut self, now: Millis) -> Option<Datagram> {
        if self.config.sharing { self.catalog.poll_datagram(now) } else { None }
    }

    /// When to say [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let catalog = if self.config.sharing { self.catalog.deadline() } else { None };
        let fetching = self.active.as_ref().and_then(Active::deadline);
        [catalog, fetching, self.links.deadline(), self.resets_deadline()].into_iter().flatten().min()
    }

    /// A last word to the swarm, so that peers forget this node at once. The node is of no use afterwards.
    pub fn poll_farewell(&mut self) -> Option<Datagram> {
        if self.config.sharing { Some(self.catalog.goodbye()) } else { None }
    }

    fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Millis) {
        match self.catalog.handle(from, bytes, now) {
            Ok(Some(Event::Joined(peer))) => {
                self.rates.forget(peer);
                let known = self.catalog.peer(peer).map(|known| self.catalog.standing(known));
                match known {
                    Some(Standing::OtherModel) => self.warn(format!(
                        "peer {peer} runs another model, precision or build: nothing is shared with it until all run the same"
                    )),
                    _ => self.note(format!("peer {peer} is here")),
                }
            }
            Ok(Some(Event::Restarted(peer))) => {
                self.note(format!("peer {peer} has started anew"));
                self.part_from(peer, now);
            }
            Ok(Some(Event::Left(peer))) => {
                self.note(format!("peer {peer} has left"));
                self.part_from(peer, now);
            }
            Ok(Some(Event::DuplicateIdentity(addr))) => {
                self.warn(format!("the node at {addr} uses this node's id: start one of them with another --id"));
            }
            Ok(Some(Event::ResetSeen(epochs))) => self.on_reset_seen(epochs),
            Ok(None) => {}
            // Counted by the catalog.
            Err(_) => {}
        }
        self.hear_acknowledgements();
    }

    fn on_time(&mut self, now: Millis) {
        self.expire_links(now);
        self.expire_fetch(now);
        self.advance_resets(now);
        while let Some(pull) = self.catalog.poll_pull(now) {
            self.pull_filter(pull, now);
        }
    }

    fn publish_changes(&mut self, now: Millis) {
        while let Some(change) = self.cache.poll_change() {
            if change.added {
                self.catalog.insert(&change.key, change.plane, now);
            } else {
                self.catalog.remove(&change.key, change.plane, now);
            }
        }
    }

    fn note(&mut self, line: String) {
        self.outputs.push_back(Output::Note(Level::Info, line));
    }

    fn warn(&mut self, line: String) {
        self.outputs.push_back(Output::Note(Level::Warn, line));
    }

    /// What the node would say of itself.
    pub fn status(&self, now: Millis) -> Status {
        let peers = self.catalog.peers().map(|peer| {
            let measured = self.rates.peer(peer.node, now);
            PeerStatus {
                node: peer.node,
                addr: peer.addr,
                generation: peer.generation,
                load_percent: peer.load,
                current: peer.stale_segments() == 0,
                shares: self.catalog.standing(peer) == Standing::Shares,
                goodput_bytes_per_s: measured.goodput_bytes_per_s,
                round_trip_ms: measured.round_trip_ms,
            }
        });
        Status {
            node: self.config.node,
            fingerprint: self.config.fingerprint,
            epoch: self.config.epochs.epoch,
            generation: self.catalog.generation(),
            told: self.catalog.is_told(),
            prefill_tokens_per_s: self.rates.prefill_tokens_per_s(),
            peers: peers.collect(),
            cache: self.cache.stats(),
            catalog: *self.catalog.stats(),
            node_stats: self.stats,
        }
    }
}
