//! The outgoing connections, on which this node fetches.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::{Conn, ConnEvent, ConnId, Conns, Event, Hint, Loss, Output, Shared, Side, WantId};
use crate::catalog::{Probe, Pull};
use crate::id::{Millis, NodeId};
use crate::kv::Page;
use crate::limits::{CONNECT_TIMEOUT_MS, MAX_FETCH_CONNECTIONS, MAX_PULLS, MAX_WANTS_IN_FLIGHT};
use crate::transfer::{
    ByeReason, Channel, Expected, Fault, FetchEvent, Fetcher, Frame, Hello, Question, Sample,
};

/// How long an unused connection stays open, in milliseconds: a minute, enough to last through a
/// conversation but not overnight.
const IDLE_MS: u64 = 60_000;

/// How many times in a row a filter repair is tried at a full peer: for some four seconds.
const REPAIR_TRIES: u32 = 4;

/// The fetching side of a connection.
pub(super) struct Fetch {
    pub(super) peer: NodeId,
    /// The address that was called.
    pub(super) addr: SocketAddr,
    pub(super) fetcher: Fetcher,
    /// The open wants.
    pub(super) open: BTreeMap<WantId, Open>,
    /// This connection only asks for the hello. Until the hello arrives, nothing counts against the
    /// peer, because the address may be made up.
    pub(super) probes: bool,
    /// Planes or drafts were requested on it, so it is kept for the next requests. Otherwise it was
    /// made for a filter repair.
    kept: bool,
    /// The filter repair that it was made for, if any.
    repair: Option<Pull>,
    /// When it last sent a request or heard anything. Before the peer's hello, when it
    /// was requested.
    used_at: Millis,
}

/// An open want.
pub(super) struct Open {
    bytes: usize,
    landed: usize,
}

impl Fetch {
    /// When it ends, unless something happens.
    pub(super) fn over_at(&self) -> Millis {
        self.used_at
            + Millis(if self.kept && self.fetcher.peer().is_some() {
                IDLE_MS
            } else {
                CONNECT_TIMEOUT_MS
            })
    }

    pub(super) fn is_over(&self, now: Millis) -> bool {
        now >= self.over_at()
    }

    /// Whether it was made for a filter repair that is finished.
    pub(super) fn has_pulled(&self) -> bool {
        !self.kept && self.fetcher.peer().is_some() && self.fetcher.is_idle()
    }

    /// Records that the first `bytes` bytes of a plane have arrived; none means all. Returns
    /// whether the want is open.
    fn landed(
        &mut self,
        id: WantId,
        bytes: Option<usize>,
        shared: &mut Shared,
        now: Millis,
    ) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        let bytes = bytes.unwrap_or(open.bytes);
        shared.trust.landed(self.peer, bytes.saturating_sub(open.landed), now);
        open.landed = bytes;
        true
    }

    /// Asks for a draft; false while another request is open.
    pub(super) fn want_draft(&mut self, id: u32, question: Question, now: Millis) -> bool {
        let takes = self.fetcher.want_draft(id, question);
        if takes {
            self.kept = true;
            if self.fetcher.peer().is_some() {
                self.used_at = now;
            }
        }
        takes
    }

    /// Passes the connection's measurements on.
    fn learn(&mut self, shared: &mut Shared, now: Millis) {
        while let Some(sample) = self.fetcher.poll_sample() {
            let (Sample::RoundTrip(elapsed) | Sample::Goodput { elapsed, .. }) = sample;
            let alone = shared.trust.alone(self.peer, now - elapsed);
            shared.trust.sample(self.peer, sample, alone, now);
        }
    }
}

impl Conns {
    /// Whether the peer is in backoff: it was full or unreachable.
    pub(crate) fn avoids(&self, node: NodeId, now: Millis) -> bool {
        self.backoff.holds(node, now)
    }

    /// How many more planes can be requested from a peer now; 0 during its backoff.
    pub(crate) fn room(&self, node: NodeId, now: Millis) -> usize {
        if self.backoff.holds(node, now) {
            return 0;
        }
        match self.to.get(&node) {
            Some(&id) => self.fetch(id).map_or(0, |fetch| fetch.fetcher.room()),
            None if self.to.len() < MAX_FETCH_CONNECTIONS || self.idlest().is_some() => {
                MAX_WANTS_IN_FLIGHT
            }
            None => 0,
        }
    }

    /// The outgoing connection that has been idle longest.
    fn idlest(&self) -> Option<ConnId> {
        let fetches = self.to.values().filter_map(|&id| Some((self.fetch(id)?, id)));
        fetches
            .filter(|(fetch, _)| fetch.fetcher.is_idle())
            .map(|(fetch, id)| (fetch.used_at, id))
            .min()
            .map(|(_, id)| id)
    }

    /// Requests a plane from a peer, to be written to the first `expected.bytes` bytes of `page`.
    /// Connects if there is no connection. False if there is no room for it.
    ///
    /// # Panics
    /// If the page is too short or the id is in use: a bug in the caller.
    pub(crate) fn want(
        &mut self,
        (node, addr): (NodeId, SocketAddr),
        id: WantId,
        expected: Expected,
        page: Page,
        shared: &mut Shared,
        now: Millis,
    ) -> bool {
        assert!(!self.wants.contains_key(&id), "{id:?} is in use");
        if self.backoff.holds(node, now) {
            return false;
        }
        let Some(conn) = self.link_to(node, addr, shared, now) else { return false };
        let Some(fetch) = self.fetch_mut(conn) else { return false };
        let bytes = expected.bytes;
        if fetch.fetcher.want(id.0, expected, page).is_err() {
            return false;
        }
        fetch.open.insert(id, Open { bytes, landed: 0 });
        fetch.kept = true;
        if fetch.fetcher.peer().is_some() {
            fetch.used_at = now;
        }
        self.wants.insert(id, conn);
        self.dirty.insert(conn);
        true
    }

    /// Cancels a want. When this returns its page is free and no more events follow.
    pub(crate) fn cancel(&mut self, id: WantId, shared: &mut Shared, now: Millis) {
        self.events.retain(|event| event.id() != id);
        let Some(conn) = self.wants.remove(&id) else { return };
        self.dirty.insert(conn);
        if let Some(fetch) = self.fetch_mut(conn) {
            fetch.open.remove(&id);
            fetch.fetcher.cancel(id.0, now);
            fetch.learn(shared, now);
        }
    }

    /// Requests the filter segments that a peer's announcements showed to differ: at once on an
    /// existing connection, otherwise as soon as one may be made.
    pub(crate) fn pull(&mut self, pull: Pull, shared: &mut Shared, now: Millis) {
        if let Some(&conn) = self.to.get(&pull.node) {
            self.pull_on(conn, &pull);
        } else {
            self.pulls.insert(pull.node, pull);
            self.start_pulls(shared, now);
        }
    }

    /// Makes connections for the queued filter repairs, a few at a time.
    pub(super) fn start_pulls(&mut self, shared: &mut Shared, now: Millis) {
        if self.pulls.is_empty() {
            return;
        }
        let pulls = |conn: &&Conn| matches!(&conn.side, Side::Fetch(fetch) if !fetch.kept && fetch.repair.is_some() && conn.closing.is_none());
        let mut under_way = self.conns.values().filter(pulls).count();
        while under_way < MAX_PULLS {
            let Some(&node) = self.pulls.keys().find(|node| !self.backoff.holds(**node, now))
            else {
                return;
            };
            let Some(pull) = self.pulls.remove(&node) else { return };
            // Without a connection the repair is dropped: the catalog asks again later.
            if let Some(conn) = self.link_to(node, pull.addr, shared, now) {
                self.pull_on(conn, &pull);
                under_way += 1;
                if let Some(fetch) = self.fetch_mut(conn) {
                    fetch.repair = Some(pull);
                }
            }
        }
    }

    fn pull_on(&mut self, conn: ConnId, pull: &Pull) {
        let Some(fetch) = self.fetch_mut(conn) else { return };
        for &segment in &pull.segments {
            fetch.fetcher.want_filter(segment);
        }
        self.dirty.insert(conn);
    }

    /// The connection to a peer, made if there is none. None if the maximum number is in use.
    pub(super) fn link_to(
        &mut self,
        node: NodeId,
        addr: SocketAddr,
        shared: &mut Shared,
        now: Millis,
    ) -> Option<ConnId> {
        if let Some(&conn) = self.to.get(&node) {
            return Some(conn);
        }
        if self.to.len() >= MAX_FETCH_CONNECTIONS {
            self.say_goodbye(self.idlest()?, ByeReason::Idle, shared, now);
        }
        let swarm =
            shared.catalog.peer(node).map_or(shared.config.keys.current().tag(), |peer| peer.swarm);
        let id = self.connect(Probe { node, addr, swarm, boot: None }, false, shared, now);
        self.to.insert(node, id);
        Some(id)
    }

    /// Connects with the key that the peer was heard under.
    fn connect(&mut self, to: Probe, probes: bool, shared: &mut Shared, now: Millis) -> ConnId {
        let Probe { node: peer, addr, swarm, .. } = to;
        self.named += 1;
        let id = ConnId::Out(self.named);
        let channel = Channel::initiator(
            shared.config.keys.find(swarm).unwrap_or(shared.config.keys.current()),
            self.ephemeral(shared),
        );
        let fetcher = Fetcher::new(self.greeting(now));
        let fetch = Fetch {
            peer,
            addr,
            fetcher,
            open: BTreeMap::new(),
            probes,
            kept: false,
            repair: None,
            used_at: now,
        };
        self.conns.insert(id, Conn { channel, side: Side::Fetch(fetch), closing: None });
        shared.out.push_back(Output::Connect { conn: id, addr });
        id
    }

    /// Connects to find out who is there, unless a few such probes are under way: then the
    /// catalog asks again.
    pub(crate) fn probe(&mut self, probe: Probe, shared: &mut Shared, now: Millis) {
        let probing = |conn: &&Conn| matches!(&conn.side, Side::Fetch(fetch) if fetch.probes);
        if self.conns.values().filter(probing).count() < MAX_PULLS {
            self.connect(probe, true, shared, now);
        } else {
            shared.catalog.put_off(&probe, now);
        }
    }

    /// The peer has said hello: a probe becomes a regular connection.
    ///
    /// # Errors
    /// If the peer is not the node that was called.
    fn greeted(&mut self, id: ConnId, hello: &Hello) -> Result<(), Fault> {
        let Some(fetch) = self.fetch_mut(id) else { return Ok(()) };
        let (peer, probes) = (fetch.peer, fetch.probes);
        if hello.node != peer {
            return Err(Fault::OtherNode(hello.node));
        }
        fetch.probes = false;
        // A probe that finds no free place among the outgoing connections ends: it has
        // served its purpose.
        if probes && self.to.len() < MAX_FETCH_CONNECTIONS {
            self.to.entry(peer).or_insert(id);
        }
        Ok(())
    }

    /// A connection that this node requested is established.
    pub(crate) fn on_connected(&mut self, id: ConnId, shared: &mut Shared, now: Millis) {
        let Some(conn) = self.conns.get_mut(&id) else {
            // It was dropped while it was being made.
            shared.out.push_back(Output::Close(id));
            return;
        };
        conn.channel.writable();
        if let Side::Fetch(fetch) = &mut conn.side {
            fetch.used_at = now;
        }
        self.dirty.insert(id);
    }

    pub(super) fn fetch_bytes(
        &mut self,
        id: ConnId,
        bytes: &[u8],
        shared: &mut Shared,
        now: Millis,
    ) -> Result<(), Fault> {
        let Some(Conn { channel, side: Side::Fetch(fetch), .. }) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let (mut farewell, mut greeting) = (None, None);
        let mut frames = channel.received(bytes);
        while let Some((frame, payload)) = frames.next_frame()? {
            fetch.used_at = now;
            if let (Frame::Hello(hello), None) = (&frame, fetch.fetcher.peer()) {
                Conns::met(hello, fetch.addr.ip(), true, shared, now);
            }
            let ended = match fetch.fetcher.on_frame(frame, payload, now)? {
                FetchEvent::Ready(hello) if hello.node != fetch.peer => {
                    greeting = Some(hello);
                    break;
                }
                FetchEvent::Ready(hello) => {
                    greeting = Some(hello);
                    continue;
                }
                FetchEvent::FilterSegment { segment, generation, bytes } => {
                    self.backoff.forget(fetch.peer);
                    let boot = fetch.fetcher.peer().map_or(self.hello.boot, |hello| hello.boot);
                    // The catalog counts a segment that does not fit, and asks again later.
                    let _ = shared.catalog.apply_segment(
                        fetch.peer,
                        boot,
                        generation,
                        segment.into(),
                        bytes,
                        now,
                    );
                    continue;
                }
                FetchEvent::Progress { id, bytes } => {
                    let id = WantId(id);
                    if fetch.landed(id, Some(bytes), shared, now) {
                        self.events.pop_back_if(
                            |last| matches!(last, ConnEvent::Progress { id: of, .. } if *of == id),
                        );
                        self.events.push_back(ConnEvent::Progress { id, bytes });
                    }
                    continue;
                }
                FetchEvent::Done { id } => {
                    fetch.landed(WantId(id), None, shared, now);
                    self.backoff.forget(fetch.peer);
                    shared.trust.delivered(fetch.peer, now);
                    ConnEvent::Arrived { id: WantId(id) }
                }
                FetchEvent::Absent { id } => {
                    shared.trust.absent(fetch.peer, now);
                    ConnEvent::Absent { id: WantId(id) }
                }
                FetchEvent::Busy { id } => ConnEvent::Busy { id: WantId(id) },
                FetchEvent::Draft { id, tokens } => {
                    self.hints.push_back(Hint { node: fetch.peer, id, tokens });
                    continue;
                }
                FetchEvent::Closed(reason) => {
                    farewell = Some(reason);
                    continue;
                }
                FetchEvent::Nothing => continue,
            };
            fetch.open.remove(&ended.id());
            self.wants.remove(&ended.id());
            self.events.push_back(ended);
        }
        fetch.learn(shared, now);
        if let Some(hello) = greeting {
            self.greeted(id, &hello)?;
        }
        if let Some(reason) = farewell {
            self.on_farewell(id, reason, shared, now);
        }
        Ok(())
    }

    /// The peer has said why it closes the connection.
    fn on_farewell(&mut self, id: ConnId, reason: ByeReason, shared: &mut Shared, now: Millis) {
        let Some(Conn { side: Side::Fetch(mut fetch), .. }) = self.close(id, shared) else {
            return;
        };
        if reason == ByeReason::Version {
            self.report_version(fetch.addr.ip(), None, shared);
        }
        if fetch.probes {
            return;
        }
        let why = match reason {
            ByeReason::Full => {
                shared.stats.refused_by_peers += 1;
                self.leave_alone(&mut fetch, now);
                Loss::Full
            }
            ByeReason::Idle => Loss::Full,
            ByeReason::Leaving => Loss::Gone,
            ByeReason::Version
            | ByeReason::Swarm
            | ByeReason::Epoch
            | ByeReason::Fingerprint
            | ByeReason::SameNode
            | ByeReason::Twin
            | ByeReason::Stalled
            | ByeReason::Protocol => {
                shared.trust.cut(fetch.peer, now);
                self.backoff.refused(fetch.peer, now);
                Loss::Gone
            }
        };
        self.lose(fetch, why);
    }

    /// A connection ended without a goodbye, or could not be made.
    pub(super) fn on_cut(&mut self, mut fetch: Fetch, shared: &mut Shared, now: Millis) {
        if fetch.probes {
            return;
        }
        let reached = fetch.fetcher.peer().is_some();
        if !reached {
            self.leave_alone(&mut fetch, now);
        }
        if !reached || !fetch.open.is_empty() {
            shared.trust.cut(fetch.peer, now);
        }
        if !fetch.open.is_empty() {
            shared.stats.connections_lost += 1;
            shared.report(Event::ConnectionLost { peer: fetch.peer });
        }
        self.lose(fetch, Loss::Gone);
    }

    /// The peer was full or unreachable. Its filter repair is retried when the backoff ends,
    /// because such conditions pass soon. After a few attempts it is left to the catalog, which
    /// asks again for the segments that differ then.
    fn leave_alone(&mut self, fetch: &mut Fetch, now: Millis) {
        let times = self.backoff.refused(fetch.peer, now);
        if let Some(pull) =
            fetch.repair.take().filter(|_| !fetch.fetcher.is_idle() && times <= REPAIR_TRIES)
        {
            self.pulls.insert(fetch.peer, pull);
        }
    }

    /// Ends a connection that has been unused for too long.
    pub(super) fn end_unused(&mut self, id: ConnId, shared: &mut Shared, now: Millis) {
        if self
            .fetch(id)
            .is_some_and(|fetch| fetch.fetcher.peer().is_some() && fetch.fetcher.is_idle())
        {
            self.say_goodbye(id, ByeReason::Idle, shared, now);
        } else if let Some(Conn { side: Side::Fetch(fetch), .. }) = self.close(id, shared) {
            self.on_cut(fetch, shared, now);
        }
    }

    pub(super) fn lose(&mut self, fetch: Fetch, why: Loss) {
        self.lose_wants(fetch.open.into_keys(), why);
    }

    pub(super) fn lose_wants(&mut self, ids: impl Iterator<Item = WantId>, why: Loss) {
        for id in ids {
            self.wants.remove(&id);
            self.events.push_back(ConnEvent::Lost { id, why });
        }
    }
}
