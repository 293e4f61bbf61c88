//! Connections: those on which this node fetches, and those on which it serves.
//!
//! The side that connected fetches, the side that accepted serves. A connection whose peer breaks the protocol is closed with a
//! note and a counter; what was open on it is computed instead.

use core::mem;
use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::catalog::Pull;
use crate::id::{BlockKey, Millis, NodeId};
use crate::kv::Plane;
use crate::limits::{MAX_CHUNK_BYTES, MAX_PEERS, MAX_SERVED_CONNECTIONS};
use crate::transfer::{ByeReason, Decoder, Fault, FetchEvent, Fetcher, Hello, Sample, ServeEvent, Server};

use super::{Node, Output};

/// An unused outgoing connection is closed after this long: a minute of conversation keeps it, a night does not.
const IDLE_MS: u64 = 60_000;

/// A connection that does not stand and greet within this long never will, on a LAN.
const CONNECT_MS: u64 = 3_000;

/// Names one connection of this node, for the node and its driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// A connection on which this node fetches.
pub(super) struct Outgoing {
    pub peer: NodeId,
    pub fetcher: Fetcher,
    decoder: Decoder,
    connected: bool,
    /// When something was last asked on it or heard, once the peer has said hello; until then, when it was asked for.
    pub used_at: Millis,
    /// Nothing more is wanted of it: it closes as soon as the last word is out.
    closing: bool,
}

/// A connection on which this node serves.
struct Incoming {
    server: Server,
    decoder: Decoder,
    pins: Vec<(BlockKey, Plane)>,
    closing: bool,
}

impl Outgoing {
    fn idle_at(&self) -> Millis {
        self.used_at + Millis(if self.fetcher.peer().is_some() { IDLE_MS } else { CONNECT_MS })
    }
}

/// All connections.
pub(super) struct Links {
    hello: Hello,
    next: u64,
    outgoing: BTreeMap<ConnId, Outgoing>,
    incoming: BTreeMap<ConnId, Incoming>,
}

impl Links {
    pub(super) fn new(hello: Hello) -> Links {
        Links { hello, next: 0, outgoing: BTreeMap::new(), incoming: BTreeMap::new() }
    }

    fn name(&mut self) -> ConnId {
        self.next += 1;
        ConnId(self.next)
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let fetching = self.outgoing.values().flat_map(|link| [Some(link.idle_at()), link.fetcher.deadline()]);
        let serving = self.incoming.values().map(|link| link.server.deadline());
        fetching.chain(serving).flatten().min()
    }

    pub(super) fn outgoing(&mut self, conn: ConnId) -> Option<&mut Outgoing> {
        self.outgoing.get_mut(&conn)
    }

    fn to_peer(&self, peer: NodeId) -> Option<ConnId> {
        self.outgoing.iter().find(|(_, link)| link.peer == peer && !link.closing).map(|(conn, _)| *conn)
    }
}

impl Node {
    /// Takes a peer's connection in, or refuses it when too many stand.
    pub fn accept(&mut self, now: Millis) -> Option<ConnId> {
        if self.links.incoming.len() >= MAX_SERVED_CONNECTIONS {
            self.stats.connections_refused += 1;
            return None;
        }
        let conn = self.links.name();
        let server = Server::new(self.links.hello, now);
        self.links.incoming.insert(conn, Incoming { server, decoder: Decoder::new(), pins: Vec::new(), closing: false });
        Some(conn)
    }

    /// Writes the next frames for `conn` into `out`, a chunk or so at a time; false when there is nothing to send.
    pub fn poll_send(&mut self, conn: ConnId, now: Millis, out: &mut Vec<u8>) -> bool {
        let mut any = false;
        let mut closing = false;
        while out.len() < MAX_CHUNK_BYTES {
            let wrote = if let Some(link) = self.links.outgoing.get_mut(&conn) {
                closing = link.closing;
                link.connected && link.fetcher.poll_send(now, out)
            } else if let Some(link) = self.links.incoming.get_mut(&conn) {
                closing = link.closing;
                link.server.poll_send(now, out)
            } else {
                false
            };
            if !wrote {
                break;
            }
            any = true;
        }
        self.unpin_served(conn);
        if closing && !any {
            self.outputs.push_back(Output::Close(conn));
            self.on_closed(conn, now);
        }
        any
    }

    /// The connection to `peer`, made when there is none. None when the peer is not in the directory.
    pub(super) fn link_to(&mut self, peer: NodeId, now: Millis) -> Option<ConnId> {
        if let Some(conn) = self.links.to_peer(peer) {
            return Some(conn);
        }
        let addr = self.catalog.peer(peer)?.addr;
        self.connect(peer, addr, now)
    }

    fn connect(&mut self, peer: NodeId, addr: SocketAddr, now: Millis) -> Option<ConnId> {
        if self.links.outgoing.len() >= MAX_PEERS {
            return None;
        }
        let conn = self.links.name();
        let fetcher = Fetcher::new(self.links.hello);
        let link = Outgoing { peer, fetcher, decoder: Decoder::new(), connected: false, used_at: now, closing: false };
        self.links.outgoing.insert(conn, link);
        self.outputs.push_back(Output::Connect { conn, addr });
        Some(conn)
    }

    /// Asks a peer for filter segments that its announcements showed to differ.
    pub(super) fn pull_filter(&mut self, pull: Pull, now: Millis) {
        let Some(conn) = self.links.to_peer(pull.node).or_else(|| self.connect(pull.node, pull.addr, now)) else {
            return;
        };
        let link = self.links.outgoing.get_mut(&conn).expect("just found or made");
        for &segment in &pull.segments {
            link.fetcher.want_filter(segment);
        }
        self.outputs.push_back(Output::Wake(conn));
    }

    pub(super) fn on_connected(&mut self, conn: ConnId, now: Millis) {
        if let Some(link) = self.links.outgoing.get_mut(&conn) {
            link.connected = true;
            link.used_at = now;
            self.outputs.push_back(Output::Wake(conn));
        } else if !self.links.incoming.contains_key(&conn) {
            // It was given up while it was being made.
            self.outputs.push_back(Output::Close(conn));
        }
    }

    /// A peer started anew or left: what was open with its earlier start ends, and what was measured of it is forgotten.
    pub(super) fn part_from(&mut self, peer: NodeId, now: Millis) {
        self.rates.forget(peer);
        let boot = self.catalog.peer(peer).map(|known| known.boot);
        let earlier = |link: &Outgoing| link.peer == peer && link.fetcher.peer().is_some_and(|hello| Some(hello.boot) != boot);
        let conns: Vec<ConnId> = self.links.outgoing.iter().filter(|(_, link)| earlier(link)).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.outputs.push_back(Output::Close(conn));
            self.on_closed(conn, now);
        }
    }

    /// Ends the serving of the connection that has most pinned; false when none has anything pinned.
    pub(super) fn end_serving(&mut self, now: Millis) -> bool {
        let busiest = self.links.incoming.iter().max_by_key(|(_, link)| link.pins.len());
        let Some(conn) = busiest.filter(|(_, link)| !link.pins.is_empty()).map(|(conn, _)| *conn) else { return false };
        self.stats.serves_ended += 1;
        self.wind_up(conn, ByeReason::Full, now);
        let pins = self.links.incoming.get_mut(&conn).map(|link| mem::take(&mut link.pins)).unwrap_or_default();
        self.drop_pins(pins);
        true
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, now: Millis) {
        if let Some(link) = self.links.outgoing.remove(&conn) {
            self.lost(&link, conn, now);
        }
        if let Some(link) = self.links.incoming.remove(&conn) {
            self.drop_pins(link.pins);
        }
    }

    fn lost(&mut self, link: &Outgoing, conn: ConnId, now: Millis) {
        if link.fetcher.peer().is_none() {
            self.rates.unusable(link.peer, now);
        }
        if self.abandon_conn(conn, now) {
            self.stats.connections_lost += 1;
            self.warn(format!("peer {} was lost in mid transfer: computing instead", link.peer));
        }
    }

    pub(super) fn on_bytes(&mut self, conn: ConnId, mut bytes: &[u8], now: Millis) {
        while !bytes.is_empty() {
            let result = match (self.links.outgoing.get(&conn), self.links.incoming.get(&conn)) {
                (Some(link), _) if !link.closing => self.fetch_bytes(conn, &mut bytes, now),
                (_, Some(link)) if !link.closing => self.serve_bytes(conn, &mut bytes, now),
                // What comes after the last word is not listened to: it may never end.
                _ => return,
            };
            if let Err(fault) = result {
                self.on_fault(conn, &fault, now);
                return;
            }
        }
        self.outputs.push_back(Output::Wake(conn));
    }

    /// The peer broke a rule: it is told so, and the connection ends.
    fn on_fault(&mut self, conn: ConnId, fault: &Fault, now: Millis) {
        self.stats.peer_faults += 1;
        let peer = match (self.links.outgoing.get(&conn), self.links.incoming.get(&conn)) {
            (Some(link), _) => format!("peer {}", link.peer),
            (_, Some(link)) => link.server.peer().map_or("a caller".to_string(), |hello| format!("peer {}", hello.node)),
            _ => return,
        };
        if let Some(link) = self.links.outgoing.get(&conn) {
            self.rates.unusable(link.peer, now);
        }
        self.warn(format!("{peer}: {fault}; connection closed"));
        self.wind_up(conn, fault.reason(), now);
    }

    /// Says goodbye on `conn` and closes it when that is out. What was open on it is computed instead.
    fn wind_up(&mut self, conn: ConnId, reason: ByeReason, now: Millis) {
        if let Some(link) = self.links.outgoing.get_mut(&conn) {
            link.fetcher.bye(reason);
            link.closing = true;
        }
        if let Some(link) = self.links.incoming.get_mut(&conn) {
            link.server.bye(reason);
            link.closing = true;
        }
        self.abandon_conn(conn, now);
        self.outputs.push_back(Output::Wake(conn));
    }

    fn fetch_bytes(&mut self, conn: ConnId, bytes: &mut &[u8], now: Millis) -> Result<(), Fault> {
        let link = self.links.outgoing.get_mut(&conn).expect("checked by the caller");
        let taken = link.decoder.push(bytes);
        *bytes = &bytes[taken..];
        if link.fetcher.peer().is_some() {
            link.used_at = now;
        }
        let mut ended = Vec::new();
        let mut closed = None;
        while let Some((frame, payload)) = link.decoder.next_frame()? {
            match link.fetcher.on_frame(frame, payload, now)? {
                FetchEvent::FilterSegment { segment, generation, bytes } => {
                    let boot = link.fetcher.peer().map_or(self.links.hello.boot, |hello| hello.boot);
                    // A segment that does not fit is counted by the catalog, which asks again later.
                    let _ = self.catalog.apply_segment(link.peer, boot, generation, segment.into(), bytes, now);
                }
                FetchEvent::Ready(hello) if hello.node != link.peer => return Err(Fault::OtherNode(hello.node)),
                FetchEvent::Done { id } => ended.push((id, true)),
                FetchEvent::Absent { id } | FetchEvent::Busy { id } => ended.push((id, false)),
                FetchEvent::Closed(reason) => closed = Some(reason),
                FetchEvent::Ready(_) | FetchEvent::Progress { .. } | FetchEvent::Nothing => {}
            }
        }
        self.take_samples(conn, now);
        for (id, here) in ended {
            if here { self.on_plane(id, now) } else { self.on_refused(id, now) }
        }
        // A want that ended unheard of may have made room for one that waits.
        self.issue_wants(now);
        if let Some(reason) = closed {
            self.wind_up(conn, reason, now);
        }
        Ok(())
    }

    /// Learns what a connection has measured; says whether its goodput was among it.
    pub(super) fn take_samples(&mut self, conn: ConnId, now: Millis) -> bool {
        let Some(link) = self.links.outgoing.get_mut(&conn) else { return false };
        let mut goodput = false;
        while let Some(sample) = link.fetcher.poll_sample() {
            goodput |= matches!(sample, Sample::Goodput { .. });
            self.rates.sample(link.peer, sample, now);
        }
        goodput
    }

    fn serve_bytes(&mut self, conn: ConnId, bytes: &mut &[u8], now: Millis) -> Result<(), Fault> {
        let link = self.links.incoming.get_mut(&conn).expect("checked by the caller");
        let taken = link.decoder.push(bytes);
        *bytes = &bytes[taken..];
        let mut closed = None;
        while let Some((frame, _)) = link.decoder.next_frame()? {
            match link.server.on_frame(frame, now)? {
                ServeEvent::Want { id, key, plane } => match self.cache.pin_key(&key, plane) {
                    None => link.server.absent(id),
                    Some(held) => {
                        if link.server.found(id, held.parent, held.tokens, held.page, held.bytes) {
                            link.pins.push((key, plane));
                            self.stats.planes_served += 1;
                        } else {
                            self.cache.unpin(&key, plane);
                        }
                    }
                },
                ServeEvent::FilterWant { segment } => match self.catalog.own_segment(segment.into()) {
                    Some((generation, bits)) => link.server.filter_segment(segment, generation, bits),
                    None => link.server.filter_segment(segment, 0, &[]),
                },
                ServeEvent::Cancelled { id } => link.server.absent(id),
                ServeEvent::Closed(reason) => closed = Some(reason),
                ServeEvent::Ready(_) | ServeEvent::Nothing => {}
            }
        }
        self.unpin_served(conn);
        if let Some(reason) = closed {
            self.wind_up(conn, reason, now);
        }
        Ok(())
    }

    fn unpin_served(&mut self, conn: ConnId) {
        let Some(link) = self.links.incoming.get_mut(&conn) else { return };
        while let Some(finished) = link.server.poll_finished() {
            if let Some(at) = link.pins.iter().position(|&pin| pin == finished) {
                link.pins.swap_remove(at);
                self.cache.unpin(&finished.0, finished.1);
            }
        }
    }

    fn drop_pins(&mut self, pins: Vec<(BlockKey, Plane)>) {
        for (key, plane) in pins {
            self.cache.unpin(&key, plane);
        }
    }

    /// Drops every connection without a word, and says `hello` on those to come. No fetch is under way.
    pub(super) fn drop_links(&mut self, hello: Hello) {
        self.links.hello = hello;
        let conns: Vec<ConnId> = self.links.outgoing.keys().chain(self.links.incoming.keys()).copied().collect();
        for conn in conns {
            self.outputs.push_back(Output::Close(conn));
            self.links.outgoing.remove(&conn);
            if let Some(link) = self.links.incoming.remove(&conn) {
                self.drop_pins(link.pins);
            }
        }
    }

    /// Closes what has been idle for long or does not get on.
    pub(super) fn expire_links(&mut self, now: Millis) {
        let mut faults = Vec::new();
        let mut idle = Vec::new();
        for (conn, link) in &mut self.links.outgoing {
            if now >= link.idle_at() {
                idle.push(*conn);
            } else if let Err(fault) = link.fetcher.on_deadline(now) {
                faults.push((*conn, fault));
            }
        }
        for (conn, link) in &mut self.links.incoming {
            if let Err(fault) = link.server.on_deadline(now) {
                faults.push((*conn, fault));
            }
        }
        for conn in idle {
            self.outputs.push_back(Output::Close(conn));
            self.on_closed(conn, now);
        }
        for (conn, fault) in faults {
            self.on_fault(conn, &fault, now);
        }
    }
}
