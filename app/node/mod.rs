//! One node of the swarm: the state machine that joins the modules, without sockets,
//! clocks or threads.
//!
//! The driver feeds it [`Input`]s with the current time, carries out its [`Output`]s, and wakes it
//! at [`Node::deadline`]. The same inputs give the same outputs, so a driver, a test and a
//! simulator all see the same node.
//!
//! [`Node`] only routes. Its parts handle their own events and borrow what they share (`shared`):
//!
//! - `prompt`: the prompt being answered, one at a time. Its table of blocks says where every plane
//!   of its KV state is.
//! - `conns`: all connections, outgoing ones to fetch on and incoming ones to serve on.
//! - `trust`: how fast each peer is, and what it has done wrong.
//! - `audit`: the blocks that an idle node recomputes to check them against its peers' bytes.
//! - `reset`: how a node moves to a newer epoch.
//!
//! Every finished block is committed to the cache at once, and the cache's changes go
//! into the catalog.

mod ask;
mod audit;
mod config;
mod conns;
mod event;
mod figures;
mod io;
mod progress;
mod prompt;
mod reset;
mod shared;
mod status;
mod trust;

use core::net::SocketAddr;
use std::collections::VecDeque;

use crate::catalog;
use crate::id::Millis;
use crate::kv::Plane;
use crate::limits::{BLOCK_TOKENS, MAX_QUEUED_PROMPTS, PREFILL_STEP_TOKENS};

pub use crate::catalog::Delivery;
pub(crate) use crate::draft::{Counts, Tally};
pub use ask::{Ask, AskId, Job, JobDone, JobFault, Reply, Watch};
pub(crate) use ask::{Judge, Refusal};
pub use config::NodeConfig;
pub(crate) use config::NodeError;
pub(crate) use event::Event;
pub(crate) use figures::NodeStats;
pub use figures::{Figures, StopReason};
pub use io::{ConnId, Input, Output};
pub use progress::Progress;
pub(crate) use prompt::PromptMap;
pub use reset::ResetNews;
pub(crate) use status::PeerStatus;
pub use status::Status;

use audit::Auditor;
use conns::Conns;
use prompt::{Life, Prompt};
use reset::Resets;
use shared::Shared;

/// How often a prompt looks up its missing blocks again while peers announce new ones, in
/// milliseconds: as often as one peer announces them.
const LOOK_AGAIN_MS: u64 = 200;

/// One node of the swarm.
pub struct Node {
    shared: Shared,
    conns: Conns,
    prompt: Option<Prompt>,
    queue: VecDeque<(Ask, Millis)>,
    resets: Resets,
    audit: Auditor,
    /// [`Node::news`] when the prompt last looked, and when that was.
    news: u64,
    looked_at: Millis,
}

impl Node {
    /// A node with an empty slab. Fails if the slab's budget cannot hold one block.
    pub fn new(config: NodeConfig) -> Result<Node, NodeError> {
        let conns = Conns::new(config.hello(), config.seed);
        let shared = Shared::new(config)?;
        let queue = VecDeque::with_capacity(MAX_QUEUED_PROMPTS);
        let (resets, audit) = (Resets::default(), Auditor::default());
        Ok(Node {
            shared,
            conns,
            prompt: None,
            queue,
            resets,
            audit,
            news: 0,
            looked_at: Millis(0),
        })
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) {
        let Node { shared, conns, .. } = self;
        match input {
            Input::Datagram { from, delivery, bytes } => {
                self.on_datagram(from, delivery, bytes, now)
            }
            Input::NetworkChanged => shared.catalog.network_changed(now),
            Input::Accepted { conn, from } => conns.on_accepted(conn, from, shared, now),
            Input::Connected(conn) => conns.on_connected(conn, shared, now),
            Input::Closed(conn) => conns.on_closed(conn, shared, now),
            Input::Bytes { conn, bytes } => conns.on_bytes(conn, bytes, shared, now),
            Input::Writable(conn) => conns.on_writable(conn),
            Input::Ask(ask) => self.on_ask(ask, now),
            Input::Stop(ask) => self.on_stop(ask, now),
            Input::Engine(done) => self.on_engine(done, now),
            Input::Reset { store } => self.resets.on_reset(store, now),
            Input::Persisted { epochs, result } => self.on_persisted(epochs, result, now),
            Input::Leaving => return self.leave(now),
            Input::Tick => {}
        }
        self.on_time(now);
    }

    /// The next output, until there are none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.out.pop_front()
    }

    /// The filter that datagrams must pass before they reach the node.
    pub(crate) fn prefilter(&self) -> catalog::Prefilter {
        catalog::Prefilter::new(self.shared.config.keys.clone())
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let catalog =
            if self.shared.config.sharing { self.shared.catalog.deadline() } else { None };
        let prompt = self.prompt.as_ref().and_then(Prompt::deadline);
        let news = (self.prompt.is_some() && self.news() != self.news)
            .then(|| self.looked_at + Millis(LOOK_AGAIN_MS));
        let audit = if self.is_idle() { self.audit.deadline(&self.shared) } else { None };
        io::earliest([
            catalog,
            prompt,
            news,
            audit,
            self.conns.deadline(),
            self.resets.deadline(&self.shared),
        ])
    }

    /// Runs `act` on the current prompt. If that ends the prompt, begins the next one.
    fn with_prompt(
        &mut self,
        now: Millis,
        act: impl FnOnce(&mut Prompt, &mut Shared, &mut Conns) -> Life,
    ) {
        let Some(prompt) = &mut self.prompt else { return };
        if act(prompt, &mut self.shared, &mut self.conns) == Life::Over {
            self.prompt = None;
            self.audit.busy(now);
            self.begin_next(now);
        }
    }

    fn on_ask(&mut self, ask: Ask, now: Millis) {
        // The next prompt also has to wait while an audit releases the engine.
        if self.queue.len() >= MAX_QUEUED_PROMPTS + usize::from(self.prompt.is_none()) {
            return self.shared.refuse(ask.id, Refusal::QueueFull);
        }
        self.queue.push_back((ask, now));
        self.audit.interrupt(&mut self.shared);
        self.begin_next(now);
    }

    fn on_engine(&mut self, done: JobDone, now: Millis) {
        if self.audit.on_engine(&done, &mut self.shared, &mut self.conns, now) {
            return self.begin_next(now);
        }
        self.with_prompt(now, |prompt, shared, conns| prompt.on_engine(done, shared, conns, now));
    }

    /// Whether no prompt is being answered or queued.
    fn is_idle(&self) -> bool {
        self.prompt.is_none() && self.queue.is_empty()
    }

    fn begin_next(&mut self, now: Millis) {
        while self.prompt.is_none()
            && !self.audit.is_walking()
            && let Some((ask, asked_at)) = self.queue.pop_front()
        {
            if let Some(refusal) = self.objection(&ask) {
                self.shared.refuse(ask.id, refusal);
                continue;
            }
            let (prompt, life) =
                Prompt::begin(ask, asked_at, &mut self.shared, &mut self.conns, now);
            self.prompt = Some(prompt).filter(|_| life == Life::Going);
        }
    }

    /// Ends an answer: at once if the prompt is still queued, otherwise when the engine
    /// lets go of it.
    fn on_stop(&mut self, ask: AskId, now: Millis) {
        if let Some(at) = self.queue.iter().position(|(waiting, _)| waiting.id == ask) {
            let tokens = self.queue.remove(at).map_or(0, |(ask, _)| ask.tokens.len());
            self.shared.out.push_back(Output::Reply(ask, Reply::Done(Figures::new(tokens))));
        } else if self.prompt.as_ref().is_some_and(|prompt| prompt.id() == ask) {
            self.with_prompt(now, |prompt, shared, conns| prompt.stop(shared, conns, now));
        }
    }

    /// Why this node cannot answer this prompt, if it cannot.
    fn objection(&self, ask: &Ask) -> Option<Refusal> {
        let config = &self.shared.config;
        let tokens = ask.tokens.len();
        if tokens == 0 {
            return Some(Refusal::Empty);
        }
        if tokens >= config.context {
            return Some(Refusal::TooLong { tokens, room: config.context.saturating_sub(1) });
        }
        let blocks =
            tokens.saturating_add(ask.max_tokens.max(1)).min(config.context).div_ceil(BLOCK_TOKENS);
        let near = (config.shape.window() + PREFILL_STEP_TOKENS).div_ceil(BLOCK_TOKENS) + 2;
        let planes = self.shared.cache.stats().planes;
        let lacking = [(Plane::Global, blocks + 1), (Plane::Sliding, blocks.min(near) + 1)]
            .into_iter()
            .find(|(plane, needed)| {
                *needed > planes[*plane as usize].slots && config.shape.plane_bytes(*plane, 1) > 0
            });
        lacking.map(|(plane, needed)| Refusal::SlabTooSmall {
            needed,
            slots: planes[plane as usize].slots,
        })
    }

    fn on_datagram(&mut self, from: SocketAddr, delivery: Delivery, bytes: &[u8], now: Millis) {
        // The catalog counts datagrams that are of no use.
        if let Ok(Some(event)) = self.shared.catalog.handle_delivery(delivery, from, bytes, now) {
            self.on_catalog(event, now);
        }
        self.resets.handle_acknowledgements(&mut self.shared);
    }

    fn on_catalog(&mut self, event: catalog::Event, now: Millis) {
        let Node { shared, conns, resets, .. } = self;
        match event {
            catalog::Event::Joined(node) => {
                shared.trust.forget(node);
                let standing =
                    shared.catalog.peer(node).map(|known| shared.catalog.standing(known));
                shared.report(Event::PeerJoined {
                    node,
                    other_model: standing == Some(catalog::Standing::OtherModel),
                });
            }
            catalog::Event::Restarted(node) => {
                shared.report(Event::PeerRestarted(node));
                conns.part_from(node, shared);
            }
            catalog::Event::Left(node) => {
                shared.report(Event::PeerLeft(node));
                conns.part_from(node, shared);
            }
            catalog::Event::OtherVersion { ip, older } => {
                shared.report(Event::OtherVersion { ip, older: Some(older) })
            }
            catalog::Event::GroupSilent { peers } => shared.report(Event::GroupSilent { peers }),
            catalog::Event::GroupWorks => shared.report(Event::GroupWorks),
            catalog::Event::Warned { by, warning } => audit::on_warning(by, warning, shared, now),
            catalog::Event::ResetSeen(epochs) => resets.on_reset_seen(epochs, shared),
            catalog::Event::Twin { ip, steps_aside } => {
                let renamed = steps_aside.then(|| shared.rename(now));
                if renamed.is_some() {
                    conns.drop_all(shared.config.hello(), shared);
                }
                shared.report(Event::Twin { ip, renamed });
            }
        }
    }

    /// Handles the catalog's events and starts the probes that it asks for to verify claims.
    fn handle_catalog_events(&mut self, now: Millis) {
        while let Some(event) = self.shared.catalog.poll_event() {
            self.on_catalog(event, now);
        }
        self.resets.handle_acknowledgements(&mut self.shared);
        let Node { shared, conns, .. } = self;
        if shared.config.sharing {
            while let Some(probe) = shared.catalog.poll_probe(now) {
                conns.probe(probe, shared, now);
            }
        }
    }

    fn on_persisted(
        &mut self,
        epochs: crate::id::EpochState,
        result: Result<(), String>,
        now: Millis,
    ) {
        let effect =
            self.resets.on_persisted(epochs, result, &mut self.shared, &mut self.conns, now);
        if let Some(dropped) = effect {
            self.with_prompt(now, |prompt, shared, conns| {
                prompt.on_reset(dropped, shared, conns, now)
            });
        }
    }

    /// Does everything that is due, after any input.
    fn on_time(&mut self, now: Millis) {
        let Node { shared, conns, resets, .. } = self;
        conns.on_time(shared, now);
        resets.advance(shared, now);
        shared.readmit(now);
        self.handle_catalog_events(now);
        let Node { shared, conns, .. } = self;
        while let Some(pull) = shared.catalog.poll_pull(now) {
            if !shared.banned.contains(pull.node) {
                conns.pull(pull, shared, now);
            }
        }
        self.handle_conn_events(now);
        self.handle_filter_updates(now);
        if self.conns.take_freed() {
            self.with_prompt(now, |prompt, shared, conns| prompt.on_freed(shared, conns, now));
        }
        self.with_prompt(now, |prompt, shared, conns| prompt.on_time(shared, conns, now));
        if let Some(prompt) = &mut self.prompt {
            prompt.report_progress(&mut self.shared, now);
        }
        if self.is_idle() {
            self.audit.advance(&mut self.shared, now);
        }
        let computing = self.prompt.as_ref().is_some_and(Prompt::computes);
        self.conns.throttle(computing, now);
        self.conns.flush(&mut self.shared, now);
        self.shared.publish_changes(now);
        self.shared.catalog.set_load(self.load_percent());
        if self.shared.config.sharing {
            while let Some(datagram) = self.shared.catalog.poll_datagram(now) {
                self.shared.send_to_swarm(datagram, now);
            }
        }
    }

    /// Passes the results of its wants to the prompt. The prompt's reaction may end further wants.
    fn handle_conn_events(&mut self, now: Millis) {
        loop {
            while let Some(hint) = self.conns.poll_hint() {
                if let Some(prompt) = &mut self.prompt {
                    prompt.on_hint(&hint, &mut self.shared, &mut self.conns, now);
                }
            }
            let events: Vec<_> = core::iter::from_fn(|| self.conns.poll_event()).collect();
            if events.is_empty() {
                return;
            }
            self.with_prompt(now, |prompt, shared, conns| {
                prompt.on_conns(&events, shared, conns, now)
            });
        }
    }

    /// Lets the prompt look again when peers have announced more of what they hold.
    fn handle_filter_updates(&mut self, now: Millis) {
        let news = self.news();
        if news != self.news && now >= self.looked_at + Millis(LOOK_AGAIN_MS) {
            (self.news, self.looked_at) = (news, now);
            self.with_prompt(now, |prompt, shared, conns| prompt.on_news(shared, conns, now));
        }
    }

    /// Number of filter updates heard from peers so far.
    fn news(&self) -> u64 {
        let stats = self.shared.catalog.stats();
        stats.deltas_heard + stats.segments_heard + stats.segments_pulled
    }

    fn leave(&mut self, now: Millis) {
        if self.shared.config.sharing {
            let goodbye = self.shared.catalog.goodbye();
            while let Some(copy) = self.shared.catalog.poll_copy() {
                self.shared.send_to_swarm(copy, now);
            }
            self.shared.send_to_swarm(goodbye, now);
        }
    }

    /// How busy this node is, in percent of the prompts that it accepts at a time: the one being
    /// answered and those queued.
    fn load_percent(&self) -> u8 {
        let prompts = self.queue.len() + usize::from(self.prompt.is_some());
        (100 * prompts / (MAX_QUEUED_PROMPTS + 1)) as u8
    }
}
