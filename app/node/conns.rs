//! All connections of a node: those on which it fetches, and those on which it serves.
//!
//! The side that connected fetches, the side that accepted serves. A `Conn` is a channel, which is all that touches bytes, and a
//! side, which knows what the frames in them mean. One connection goes out to a peer at most, and what the prompt wants of that
//! peer and what the catalog wants share it. It is kept for the next prompt, unless it was made for a filter repair alone: then it
//! ends with that.
//!
//! What is promised to a prompt: a want is heard of until it has ended, exactly once, as `Arrived`, `Absent`, `Busy` or `Lost`; and
//! never after it was cancelled, when its page is free. A want has no deadline, but a peer that does not answer a cancel in time
//! loses its connection. A peer that says that it has no place is left alone for a short time that doubles, and so is one that
//! cannot be reached; only the latter is held against it.
//!
//! What is promised to those who are served: a peer of the swarm finds a place whatever strangers do (`places`), while this node
//! computes an answer too, if more slowly (`pace`).
//!
//! A connection that was told why it ends is *parting*: it takes no more bytes, and goes when its last word is out, or soon after.

mod backoff;
mod drafts;
mod incoming;
mod outgoing;
mod pace;
mod places;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::Event;
use super::io::{ConnId, Output};
use super::shared::Shared;
use crate::catalog::{Pull, Toll};
use crate::id::{Millis, NodeId};
use crate::limits::{HANDSHAKES_PER_S, LEAST_PEERS, MAX_PARTING_CONNECTIONS, PARTING_MS};
use crate::transfer::{ByeReason, Channel, Fault, Hello, VERSION};

use backoff::Backoff;
pub(crate) use drafts::Hint;
use incoming::Serve;
use outgoing::Fetch;
use pace::Pace;

/// Names one plane wanted of a peer. Used once in a node's life (but for 2^32 wants later).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WantId(pub u32);

/// Why nothing came of a want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The peer had no place, or closed a connection that seemed idle: it is well, and may be asked again when there is room.
    Full,
    /// The peer cannot be reached, broke a rule, or the connection to it broke.
    Gone,
}

/// What became of a want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnEvent {
    /// The plane is in its page, whole and checked.
    Arrived {
        /// The want.
        id: WantId,
    },
    /// So many bytes of the plane are in its page by now.
    Progress {
        /// The want.
        id: WantId,
        /// Bytes from the plane's start.
        bytes: usize,
    },
    /// The peer does not hold the plane.
    Absent {
        /// The want.
        id: WantId,
    },
    /// The peer has too much to do.
    Busy {
        /// The want.
        id: WantId,
    },
    /// The connection ended. Whether the peer holds the plane is unknown.
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
    /// The last word is said; until when it may take to go out.
    parting: Option<Millis>,
}

/// What this node does on a connection.
#[allow(clippy::large_enum_variant, reason = "a few dozen in all, and none is ever moved")]
enum Side {
    Fetch(Fetch),
    Serve(Serve),
}

/// All connections.
pub(crate) struct Conns {
    hello: Hello,
    /// When this node started.
    started: Option<Millis>,
    /// Outgoing connections named so far.
    named: u64,
    /// Ephemeral keys drawn so far.
    drawn: u64,
    conns: BTreeMap<ConnId, Conn>,
    /// The connection that goes out to each peer.
    to: BTreeMap<NodeId, ConnId>,
    /// Where each want that has not ended was made.
    wants: BTreeMap<WantId, ConnId>,
    /// Filter repairs that wait for a connection.
    pulls: BTreeMap<NodeId, Pull>,
    backoff: Backoff,
    /// Somebody may be asked again.
    freed: bool,
    /// What each address may cost.
    toll: Toll,
    pace: Pace,
    /// Where nodes of another version were met, and told of.
    outdated: BTreeSet<IpAddr>,
    /// Connections that may have something to send, or may be over.
    dirty: BTreeSet<ConnId>,
    events: VecDeque<ConnEvent>,
    /// Questions for drafts so far, and what was answered.
    drafts_asked: u32,
    hints: VecDeque<Hint>,
}

impl ConnEvent {
    /// The want that it is about.
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
    /// None yet. Whoever is met is told `hello`; `seed` is for random delays.
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
            toll: Toll::new(HANDSHAKES_PER_S),
            pace: Pace::default(),
            outdated: BTreeSet::new(),
            dirty: BTreeSet::new(),
            events: VecDeque::new(),
            drafts_asked: 0,
            hints: VecDeque::new(),
        }
    }

    /// What became of the wants, oldest first. To be taken after every input.
    pub(crate) fn poll_event(&mut self) -> Option<ConnEvent> {
        self.events.pop_front()
    }

    /// Whether a peer that was left alone may be asked again since the last call.
    pub(crate) fn take_freed(&mut self) -> bool {
        core::mem::take(&mut self.freed)
    }

    /// A connection has ended, or could not be made.
    pub(crate) fn on_closed(&mut self, conn: ConnId, shared: &mut Shared, now: Millis) {
        if let Some(Conn { side: Side::Fetch(fetch), parting: None, .. }) = self.remove(conn, shared) {
            self.on_cut(fetch, shared, now);
        }
    }

    /// The socket has taken all that was sent. A new connection counts as writable.
    pub(crate) fn on_writable(&mut self, conn: ConnId) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.channel.writable();
            self.dirty.insert(conn);
        }
    }

    /// Bytes came over a connection.
    pub(crate) fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], shared: &mut Shared, now: Millis) {
        let result = match self.conns.get(&conn) {
            // What comes after the last word is not listened to: it may never end.
            Some(Conn { parting: Some(_), .. }) | None => return,
            Some(Conn { side: Side::Fetch(_), .. }) => self.fetch_bytes(conn, bytes, shared, now),
            Some(Conn { side: Side::Serve(_), .. }) => self.serve_bytes(conn, bytes, shared, now),
        };
        if let Err(fault) = result {
            self.on_fault(conn, &fault, shared, now);
        }
        self.dirty.insert(conn);
    }

    /// Looks at the clock: ends what has been idle for long or does not get on.
    pub(crate) fn on_time(&mut self, shared: &mut Shared, now: Millis) {
        self.started.get_or_insert(now);
        self.freed |= self.backoff.on_time(now);
        let due: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.deadline().is_some_and(|at| at <= now)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let fault = match &mut conn.side {
                _ if conn.parting.is_some() => {
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

    /// When [`on_time`](Self::on_time) and [`flush`](Self::flush) want to be called, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let conns = self.conns.values().filter_map(Conn::deadline);
        conns.chain(self.backoff.deadline()).chain(self.pace.deadline()).min()
    }

    /// While this node computes an answer, serving takes a small share of it.
    pub(crate) fn pace(&mut self, computing: bool, now: Millis) {
        self.dirty.append(&mut self.pace.set(computing, now));
    }

    /// Sends what there is to send, and begins what waits. To be called at the end of every input's handling.
    pub(crate) fn flush(&mut self, shared: &mut Shared, now: Millis) {
        self.start_pulls(shared, now);
        while let Some(conn) = self.dirty.pop_first().or_else(|| self.pace.next(now)) {
            self.send(conn, shared, now);
        }
    }

    fn send(&mut self, id: ConnId, shared: &mut Shared, now: Millis) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let bytes = match &mut conn.side {
            Side::Fetch(fetch) => conn.channel.send(|out| fetch.fetcher.poll_send(now, out)),
            Side::Serve(serve) => {
                if conn.channel.is_writable() && conn.parting.is_none() && !self.pace.allows(id, now) {
                    return;
                }
                let bytes = conn.channel.send(|out| serve.server.poll_send(now, out));
                self.pace.sent(bytes.as_ref().map_or(0, Vec::len));
                serve.unpin(&mut shared.cache);
                bytes
            }
        };
        match bytes {
            Some(bytes) => shared.out.push_back(Output::Send { conn: id, bytes }),
            None if !conn.channel.is_writable() => {}
            None if conn.parting.is_some() => drop(self.close(id, shared)),
            None => {
                if matches!(&conn.side, Side::Fetch(fetch) if fetch.has_pulled()) {
                    self.part(id, ByeReason::Idle, shared, now);
                }
            }
        }
    }

    /// A peer left or started anew: what was open with its earlier start ends, and it is not left alone any longer.
    pub(crate) fn part_from(&mut self, node: NodeId, shared: &mut Shared) {
        self.backoff.forget(node);
        self.pulls.remove(&node);
        let boot = shared.catalog.peer(node).map(|known| known.boot);
        let Some(&id) = self.to.get(&node) else { return };
        let Some(Conn { side: Side::Fetch(fetch), .. }) = self.conns.get(&id) else { return };
        if fetch.fetcher.peer().is_some_and(|hello| Some(hello.boot) != boot)
            && let Some(Conn { side: Side::Fetch(fetch), .. }) = self.close(id, shared)
        {
            self.lose(fetch, Loss::Gone);
        }
    }

    /// Ends the connections with a peer whose bytes are wrong, in both directions. It is told that of a broken rule, so that it
    /// stays away for a while.
    pub(crate) fn end_with(&mut self, node: NodeId, shared: &mut Shared, now: Millis) {
        self.pulls.remove(&node);
        let peer = |conn: &Conn| match &conn.side {
            Side::Fetch(fetch) => Some(fetch.peer),
            Side::Serve(serve) => serve.server.peer().map(|hello| hello.node),
        };
        let ended: Vec<ConnId> = self.conns.iter().filter(|(_, conn)| peer(conn) == Some(node)).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|id| self.part(id, ByeReason::Protocol, shared, now));
    }

    /// Ends every connection without a word, and says `hello` on those to come.
    pub(crate) fn drop_all(&mut self, hello: Hello, shared: &mut Shared) {
        self.hello = hello;
        self.pulls.clear();
        while let Some((&id, _)) = self.conns.first_key_value() {
            if let Some(Conn { side: Side::Fetch(fetch), .. }) = self.close(id, shared) {
                self.lose(fetch, Loss::Gone);
            }
        }
    }

    /// The peer broke a rule: it is told so, and the connection ends.
    fn on_fault(&mut self, id: ConnId, fault: &Fault, shared: &mut Shared, now: Millis) {
        let (peer, ip) = match self.conns.get(&id) {
            Some(Conn { side: Side::Fetch(fetch), .. }) if fetch.probes => {
                return self.part(id, fault.reason(), shared, now);
            }
            Some(Conn { side: Side::Fetch(fetch), .. }) => {
                shared.trust.fault(fetch.peer, fault, now);
                self.backoff.refused(fetch.peer, now);
                (Some(fetch.peer), fetch.addr.ip())
            }
            Some(Conn { side: Side::Serve(serve), .. }) => (serve.server.peer().map(|hello| hello.node), serve.from),
            None => return,
        };
        if let Fault::Version { theirs, .. } = fault {
            self.tell_version(ip, Some(*theirs < VERSION), shared);
        } else if is_told(id, peer, fault) {
            shared.tell(Event::PeerFault { peer, fault: *fault });
        }
        // That a node runs another model is no fault of its: callers find out so.
        shared.stats.peer_faults += u64::from(!matches!(fault, Fault::Idle | Fault::Fingerprint { .. }));
        self.part(id, fault.reason(), shared, now);
    }

    /// Tells of a node of another version, once for each address, and of no more addresses than there can be peers.
    fn tell_version(&mut self, ip: IpAddr, older: Option<bool>, shared: &mut Shared) {
        let ip = ip.to_canonical();
        if self.outdated.len() < LEAST_PEERS && self.outdated.insert(ip) {
            shared.tell(Event::OtherVersion { ip, older });
        }
    }

    /// A peer has said who it is, on a connection that this node has made (`called`) or accepted.
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

    /// What this node says of itself on a connection made now.
    fn greeting(&mut self, now: Millis) -> Hello {
        let uptime = now - *self.started.get_or_insert(now);
        Hello { uptime_s: (uptime.0 / 1_000).try_into().unwrap_or(u32::MAX), ..self.hello }
    }

    /// An ephemeral key for a connection: nobody can guess it, and no other connection of any start gets it.
    fn ephemeral(&mut self, shared: &Shared) -> [u8; 32] {
        self.drawn += 1;
        let mut drawn = blake3::Hasher::new_derive_key("potluck ephemeral keys v1");
        drawn.update(&shared.config.entropy.0).update(&self.drawn.to_le_bytes());
        drawn.finalize().into()
    }

    /// Says goodbye on a connection, which ends when that is out. What was wanted on it is lost, what was pinned for it is not any
    /// more.
    fn part(&mut self, id: ConnId, reason: ByeReason, shared: &mut Shared, now: Millis) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.parting.is_none()) else { return };
        conn.parting = Some(now + Millis(PARTING_MS));
        self.dirty.insert(id);
        match &mut conn.side {
            Side::Fetch(fetch) => {
                fetch.fetcher.bye(reason);
                let (peer, open) = (fetch.peer, core::mem::take(&mut fetch.open));
                if self.to.get(&peer) == Some(&id) {
                    self.to.remove(&peer);
                }
                self.lose_wants(open.into_keys(), Loss::Gone);
            }
            Side::Serve(serve) => {
                serve.server.bye(reason);
                serve.drop_pins(&mut shared.cache);
            }
        }
        let parting = self.conns.iter().filter_map(|(id, conn)| conn.parting.map(|until| (until, *id)));
        if parting.clone().count() > MAX_PARTING_CONNECTIONS
            && let Some((_, oldest)) = parting.min()
        {
            self.close(oldest, shared);
        }
    }

    /// Closes a connection at once and forgets it.
    fn close(&mut self, id: ConnId, shared: &mut Shared) -> Option<Conn> {
        shared.out.push_back(Output::Close(id));
        self.remove(id, shared)
    }

    /// Forgets a connection. What was wanted on it is the caller's to lose.
    fn remove(&mut self, id: ConnId, shared: &mut Shared) -> Option<Conn> {
        let mut conn = self.conns.remove(&id)?;
        self.dirty.remove(&id);
        self.pace.forget(id);
        match &mut conn.side {
            Side::Fetch(fetch) if self.to.get(&fetch.peer) == Some(&id) => {
                self.to.remove(&fetch.peer);
            }
            Side::Fetch(_) => {}
            Side::Serve(serve) => serve.drop_pins(&mut shared.cache),
        }
        Some(conn)
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

/// Whether a fault is worth a line. A caller that went to sleep has done nothing wrong; and strangers, who only connect, do not have the
/// key, or play what they have recorded, must not fill the log.
fn is_told(id: ConnId, peer: Option<NodeId>, fault: &Fault) -> bool {
    match fault {
        _ if matches!(id, ConnId::Out(_)) => true,
        Fault::Idle | Fault::Silent | Fault::Magic | Fault::Swarm | Fault::Handshake => false,
        // This node itself, which looks for a machine with its own id wherever somebody says that there is one; or that machine, which
        // is told of by itself.
        Fault::SameNode | Fault::Twin => false,
        _ => peer.is_some(),
    }
}

impl Conn {
    fn deadline(&self) -> Option<Millis> {
        match (&self.side, self.parting) {
            (_, Some(until)) => Some(until),
            (Side::Fetch(fetch), None) => [Some(fetch.over_at()), fetch.fetcher.deadline()].into_iter().flatten().min(),
            (Side::Serve(serve), None) => serve.server.deadline(),
        }
    }
}
