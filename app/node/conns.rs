//! All connections of a node: outgoing ones to fetch on, incoming ones to serve on.
//!
//! The side that connected fetches, the side that accepted serves. A `Conn` consists of a
//! channel, which alone touches bytes, and a side, which knows what the frames mean. There is at
//! most one outgoing connection per peer, shared by the prompt's wants and the catalog's filter
//! repairs. It is kept for the next prompt, unless it was made only for a filter repair: then it
//! ends with the repair.
//!
//! Promises to a prompt: every want ends exactly once, as `Arrived`, `Absent`, `Busy` or `Lost`.
//! After a cancel no more events follow and the page is free. A want has no deadline, but a peer
//! that does not answer a cancel in time loses its connection. A peer that says it is full is
//! avoided for a short time that doubles with each refusal, and so is an unreachable one. Only
//! being unreachable counts against the peer.
//!
//! Promises to the peers served: a peer of the swarm gets a place whatever strangers do
//! (`admission`). It is served even while this node computes an answer, though more slowly
//! (`throttle`).
//!
//! A connection whose goodbye is queued is *closing*: it ignores further input, and closes when the
//! goodbye has been sent, or soon after.

mod admission;
mod backoff;
mod closing;
mod drafts;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;
mod throttle;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::Event;
use super::io::{ConnId, Output};
use super::shared::Shared;
use crate::catalog::{Pull, RateLimiter};
use crate::id::{Millis, NodeId};
use crate::limits::HANDSHAKES_PER_S;
use crate::transfer::{ByeReason, Channel, Hello};

use backoff::Backoff;
pub(crate) use drafts::Hint;
use incoming::Serve;
use outgoing::Fetch;
use throttle::Throttle;

/// Names one plane wanted from a peer. Not reused (until the 32-bit counter wraps).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WantId(pub u32);

/// Why a want was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The peer was full, or closed a connection that seemed idle. The peer is fine and may be
    /// asked again when there is room.
    Full,
    /// The peer is unreachable or broke a rule, or its connection broke.
    Gone,
}

/// Progress or outcome of a want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnEvent {
    /// The plane is in its page, complete and checked.
    Arrived {
        /// The want.
        id: WantId,
    },
    /// Part of the plane is in its page.
    Progress {
        /// The want.
        id: WantId,
        /// Bytes in place, from the plane's start.
        bytes: usize,
    },
    /// The peer does not hold the plane.
    Absent {
        /// The want.
        id: WantId,
    },
    /// The peer is too busy.
    Busy {
        /// The want.
        id: WantId,
    },
    /// The connection ended. The peer may or may not hold the plane.
    Lost {
        /// The want.
        id: WantId,
        /// Why.
        why: Loss,
    },
}

/// One connection.
struct Conn {
    channel: Channel,
    side: Side,
    /// Set once the goodbye is queued: the deadline for sending it.
    closing: Option<Millis>,
}

/// This node's role on a connection.
#[allow(clippy::large_enum_variant, reason = "there are only a few dozen, and none is ever moved")]
enum Side {
    Fetch(Fetch),
    Serve(Serve),
}

/// All connections.
pub(crate) struct Conns {
    hello: Hello,
    /// When this node started.
    started: Option<Millis>,
    /// Number of outgoing connections named so far.
    named: u64,
    /// Number of ephemeral keys drawn so far.
    drawn: u64,
    conns: BTreeMap<ConnId, Conn>,
    /// The outgoing connection to each peer.
    to: BTreeMap<NodeId, ConnId>,
    /// The connection of each open want.
    wants: BTreeMap<WantId, ConnId>,
    /// Filter repairs queued until a connection is available.
    pulls: BTreeMap<NodeId, Pull>,
    backoff: Backoff,
    /// Whether a backoff has ended, so that a peer may be asked again.
    freed: bool,
    /// Rate limits per address.
    limiter: RateLimiter,
    throttle: Throttle,
    /// Addresses where a node of another version was found and reported.
    outdated: BTreeSet<IpAddr>,
    /// Connections that may have something to send, or may have finished.
    dirty: BTreeSet<ConnId>,
    events: VecDeque<ConnEvent>,
    /// Number of draft requests so far, and the answers to them.
    drafts_asked: u32,
    hints: VecDeque<Hint>,
}

impl ConnEvent {
    /// The want that the event is about.
    pub(crate) fn id(&self) -> WantId {
        match self {
            ConnEvent::Arrived { id }
            | ConnEvent::Progress { id, .. }
            | ConnEvent::Absent { id }
            | ConnEvent::Busy { id }
            | ConnEvent::Lost { id, .. } => *id,
        }
    }
}

impl Conns {
    /// Starts without connections. `hello` is sent on every connection; `seed` drives
    /// random delays.
    pub(crate) fn new(hello: Hello, seed: u64) -> Conns {
        Conns {
            hello,
            started: None,
            named: 0,
            drawn: 0,
            conns: BTreeMap::new(),
            to: BTreeMap::new(),
            wants: BTreeMap::new(),
            pulls: BTreeMap::new(),
            backoff: Backoff::new(seed),
            freed: false,
            limiter: RateLimiter::new(HANDSHAKES_PER_S),
            throttle: Throttle::default(),
            outdated: BTreeSet::new(),
            dirty: BTreeSet::new(),
            events: VecDeque::new(),
            drafts_asked: 0,
            hints: VecDeque::new(),
        }
    }

    /// The next event of a want, oldest first. Call after every input.
    pub(crate) fn poll_event(&mut self) -> Option<ConnEvent> {
        self.events.pop_front()
    }

    /// Whether any peer's backoff has ended since the last call.
    pub(crate) fn take_freed(&mut self) -> bool {
        core::mem::take(&mut self.freed)
    }

    /// A connection has ended, or could not be made.
    pub(crate) fn on_closed(&mut self, conn: ConnId, shared: &mut Shared, now: Millis) {
        if let Some(Conn { side: Side::Fetch(fetch), closing: None, .. }) =
            self.remove(conn, shared)
        {
            self.on_cut(fetch, shared, now);
        }
    }

    /// The socket has accepted everything that was sent. A new connection counts as writable.
    pub(crate) fn on_writable(&mut self, conn: ConnId) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.channel.writable();
            self.dirty.insert(conn);
        }
    }

    /// Bytes arrived on a connection.
    pub(crate) fn on_bytes(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        shared: &mut Shared,
        now: Millis,
    ) {
        let result = match self.conns.get(&conn) {
            // Input after the goodbye is ignored: it might never end.
            Some(Conn { closing: Some(_), .. }) | None => return,
            Some(Conn { side: Side::Fetch(_), .. }) => self.fetch_bytes(conn, bytes, shared, now),
            Some(Conn { side: Side::Serve(_), .. }) => self.serve_bytes(conn, bytes, shared, now),
        };
        if let Err(fault) = result {
            self.on_fault(conn, &fault, shared, now);
        }
        self.dirty.insert(conn);
    }

    /// Checks the clock: ends connections that are idle or stuck.
    pub(crate) fn on_time(&mut self, shared: &mut Shared, now: Millis) {
        self.started.get_or_insert(now);
        self.freed |= self.backoff.on_time(now);
        let due: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let fault = match &mut conn.side {
                _ if conn.closing.is_some() => {
                    self.close(id, shared);
                    continue;
                }
                Side::Fetch(fetch) => match fetch.fetcher.on_deadline(now) {
                    Ok(()) if fetch.is_over(now) => {
                        self.end_unused(id, shared, now);
                        continue;
                    }
                    result => result,
                },
                Side::Serve(serve) => serve.server.on_deadline(now),
            };
            if let Err(fault) = fault {
                self.on_fault(id, &fault, shared, now);
            }
        }
    }

    /// When to call [`on_time`](Self::on_time) and [`flush`](Self::flush) if nothing
    /// happens before.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let conns = self.conns.values().filter_map(Conn::deadline);
        conns.chain(self.backoff.deadline()).chain(self.throttle.deadline()).min()
    }

    /// Limits serving to a small share while this node computes an answer.
    pub(crate) fn throttle(&mut self, computing: bool, now: Millis) {
        self.dirty.append(&mut self.throttle.set(computing, now));
    }

    /// Sends what is queued, and starts filter repairs. Call at the end of handling each input.
    pub(crate) fn flush(&mut self, shared: &mut Shared, now: Millis) {
        self.start_pulls(shared, now);
        while let Some(conn) = self.dirty.pop_first().or_else(|| self.throttle.next(now)) {
            self.send(conn, shared, now);
        }
    }

    fn send(&mut self, id: ConnId, shared: &mut Shared, now: Millis) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let bytes = match &mut conn.side {
            Side::Fetch(fetch) => conn.channel.send(|out| fetch.fetcher.poll_send(now, out)),
            Side::Serve(serve) => {
                if conn.channel.is_writable()
                    && conn.closing.is_none()
                    && !self.throttle.allows(id, now)
                {
                    return;
                }
                let bytes = conn.channel.send(|out| serve.server.poll_send(now, out));
                self.throttle.sent(bytes.as_ref().map_or(0, Vec::len));
                serve.unpin(&mut shared.cache);
                bytes
            }
        };
        match bytes {
            Some(bytes) => shared.out.push_back(Output::Send { conn: id, bytes }),
            None if !conn.channel.is_writable() => {}
            None if conn.closing.is_some() => drop(self.close(id, shared)),
            None => {
                if matches!(&conn.side, Side::Fetch(fetch) if fetch.has_pulled()) {
                    self.say_goodbye(id, ByeReason::Idle, shared, now);
                }
            }
        }
    }

    /// A peer has said who it is, on a connection that this node made (`called`) or accepted.
    fn met(hello: &Hello, ip: IpAddr, called: bool, shared: &mut Shared, now: Millis) {
        let (ip, own) = (ip.to_canonical(), &shared.config);
        if hello.node != own.node {
            shared.catalog.proved(hello.node, hello.boot, ip, now);
            if !called {
                shared.catalog.called_by(hello.node, hello.boot);
            }
        } else if hello.boot != own.boot {
            shared.catalog.twin(hello.boot, hello.uptime_s, ip, called, now);
        }
    }

    /// The hello for a connection that starts now.
    fn greeting(&mut self, now: Millis) -> Hello {
        let uptime = now - *self.started.get_or_insert(now);
        Hello { uptime_s: (uptime.0 / 1_000).try_into().unwrap_or(u32::MAX), ..self.hello }
    }

    /// An ephemeral key for a connection: unpredictable, and never reused by another
    /// connection or start.
    fn ephemeral(&mut self, shared: &Shared) -> [u8; 32] {
        self.drawn += 1;
        let mut drawn = blake3::Hasher::new_derive_key("potluck ephemeral keys v1");
        drawn.update(&shared.config.entropy.0).update(&self.drawn.to_le_bytes());
        drawn.finalize().into()
    }

    fn fetch(&self, id: ConnId) -> Option<&Fetch> {
        match self.conns.get(&id) {
            Some(Conn { side: Side::Fetch(fetch), .. }) => Some(fetch),
            _ => None,
        }
    }

    fn fetch_mut(&mut self, id: ConnId) -> Option<&mut Fetch> {
        match self.conns.get_mut(&id) {
            Some(Conn { side: Side::Fetch(fetch), .. }) => Some(fetch),
            _ => None,
        }
    }
}

impl Conn {
    fn deadline(&self) -> Option<Millis> {
        match (&self.side, self.closing) {
            (_, Some(until)) => Some(until),
            (Side::Fetch(fetch), None) => {
                [Some(fetch.over_at()), fetch.fetcher.deadline()].into_iter().flatten().min()
            }
            (Side::Serve(serve), None) => serve.server.deadline(),
        }
    }
}
