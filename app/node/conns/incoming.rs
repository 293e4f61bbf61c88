//! The incoming connections, on which this node serves.

use core::net::{IpAddr, SocketAddr};

use super::admission::{Admission, ServedConn, State, admit};
use super::{Conn, ConnId, Conns, Output, Shared, Side};
use crate::cache::Cache;
use crate::id::{BlockKey, Millis, NodeId};
use crate::kv::Plane;
use crate::limits::{CLOSING_MS, MAX_CLOSING_CONNECTIONS, MAX_CONNECTIONS_PER_NODE};
use crate::transfer::{ByeReason, Channel, Fault, Frame, ServeEvent, Server};

/// Maximum number of draft requests of either kind that a connection gets answered per second, each
/// of which takes several scans of the index or some two hundred look-ups in the table of habits.
/// An answer of hundreds of tokens per second needs fewer. Requests beyond the limit get empty
/// answers.
pub(super) const MAX_LOOKS: u32 = 64;

/// The serving side of a connection.
pub(super) struct Serve {
    pub(super) server: Server,
    pub(super) from: IpAddr,
    /// No peer had announced itself from this address when the connection was accepted.
    stranger: bool,
    since: Millis,
    pins: Vec<(BlockKey, Plane)>,
    /// Start of the current one-second window, and the number of draft requests in it.
    looked: (Millis, u32),
}

impl Serve {
    /// Releases the pins of planes that have been sent.
    pub(super) fn unpin(&mut self, cache: &mut Cache) {
        while let Some(finished) = self.server.poll_finished() {
            if let Some(at) = self.pins.iter().position(|&pin| pin == finished) {
                self.pins.swap_remove(at);
                cache.unpin(&finished.0, finished.1);
            }
        }
    }

    /// Whether the index or the habits may be searched once more for this peer.
    fn may_look(&mut self, now: Millis) -> bool {
        if now >= self.looked.0 + Millis(1_000) {
            self.looked = (now, 0);
        }
        self.looked.1 += 1;
        self.looked.1 <= MAX_LOOKS
    }

    /// Releases all pins.
    pub(super) fn drop_pins(&mut self, cache: &mut Cache) {
        for (key, plane) in self.pins.drain(..) {
            cache.unpin(&key, plane);
        }
    }

    fn state(&self) -> State {
        match self.server.peer() {
            None => State::Mute { since: self.since, stranger: self.stranger },
            Some(_) => self.server.idle_since().map_or(State::Busy, |since| State::Idle { since }),
        }
    }
}

impl Conns {
    /// A peer has connected. It gets a place, or is told that there is none.
    pub(crate) fn on_accepted(
        &mut self,
        id: ConnId,
        from: SocketAddr,
        shared: &mut Shared,
        now: Millis,
    ) {
        let from = from.ip().to_canonical();
        let peers =
            shared.catalog.peers().filter(|peer| peer.addr.ip().to_canonical() == from).count();
        if !self.limiter.allows(from, peers, now) {
            shared.stats.connections_throttled += 1;
            shared.out.push_back(Output::Close(id));
            return;
        }
        let places: Vec<ServedConn> = self.places().collect();
        let verdict = admit(&places, from, peers, now);
        if let Admission::InsteadOf(victim) = verdict {
            let mute = places
                .iter()
                .any(|place| place.conn == victim && matches!(place.state, State::Mute { .. }));
            shared.stats.connections_reclaimed += 1;
            self.say_goodbye(
                victim,
                if mute { ByeReason::Full } else { ByeReason::Idle },
                shared,
                now,
            );
        }
        let mut server = Server::new(self.greeting(now), now);
        let mut closing = None;
        if verdict == Admission::Full {
            shared.stats.connections_refused += 1;
            if self.conns.values().filter(|conn| conn.closing.is_some()).count()
                >= MAX_CLOSING_CONNECTIONS
            {
                shared.out.push_back(Output::Close(id));
                return;
            }
            server.bye(ByeReason::Full);
            closing = Some(now + Millis(CLOSING_MS));
        }
        let mut channel = Channel::responder(&shared.config.keys, self.ephemeral(shared));
        channel.writable();
        let serve = Serve {
            server,
            from,
            stranger: peers == 0,
            since: now,
            pins: Vec::new(),
            looked: (now, 0),
        };
        self.conns.insert(id, Conn { channel, side: Side::Serve(serve), closing });
        self.dirty.insert(id);
    }

    fn places(&self) -> impl Iterator<Item = ServedConn> + '_ {
        self.serving().map(|(conn, serve)| ServedConn {
            conn,
            from: serve.from,
            state: serve.state(),
        })
    }

    fn serving(&self) -> impl Iterator<Item = (ConnId, &Serve)> {
        self.conns.iter().filter_map(|(id, conn)| match &conn.side {
            Side::Serve(serve) if conn.closing.is_none() => Some((*id, serve)),
            _ => None,
        })
    }

    pub(super) fn serve_bytes(
        &mut self,
        id: ConnId,
        bytes: &[u8],
        shared: &mut Shared,
        now: Millis,
    ) -> Result<(), Fault> {
        let Some(Conn { channel, side: Side::Serve(serve), .. }) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let (mut greeted, mut closed) = (None, false);
        let mut frames = channel.received(bytes);
        while let Some((frame, _)) = frames.next_frame()? {
            if let (Frame::Hello(hello), None) = (&frame, serve.server.peer()) {
                Conns::met(hello, serve.from, false, shared, now);
            }
            match serve.server.on_frame(frame, now)? {
                ServeEvent::Ready(hello) => greeted = Some(hello.node),
                ServeEvent::Want { id, key, plane } => match shared.cache.pin_key(&key, plane) {
                    None => serve.server.absent(id),
                    Some(held) => {
                        if serve.server.found(id, held.parent, held.tokens, held.page, held.bytes) {
                            serve.pins.push((key, plane));
                            shared.stats.planes_served += 1;
                        } else {
                            shared.cache.unpin(&key, plane);
                        }
                    }
                },
                ServeEvent::FilterWant { segment } => {
                    match shared.catalog.serve_segment(segment.into(), now) {
                        Some((generation, bits)) => {
                            serve.server.filter_segment(segment, generation, bits)
                        }
                        None => serve.server.filter_segment(segment, 0, &[]),
                    }
                }
                ServeEvent::DraftWant { id, parent, begun } => {
                    let followed = if serve.may_look(now) {
                        shared.stats.drafts_served += 1;
                        shared.cache.following(&parent, &begun)
                    } else {
                        Default::default()
                    };
                    serve.server.draft(id, followed);
                }
                ServeEvent::HabitWant { id, recent } => {
                    let likely = if serve.may_look(now) {
                        shared.stats.habits_served += 1;
                        shared.habits.tell(&recent)
                    } else {
                        Default::default()
                    };
                    serve.server.draft(id, likely);
                }
                ServeEvent::Cancelled { id } => serve.server.absent(id),
                ServeEvent::Closed(_) => closed = true,
                ServeEvent::Nothing => {}
            }
        }
        serve.unpin(&mut shared.cache);
        if closed {
            self.close(id, shared);
        } else if let Some(node) = greeted {
            self.end_earlier(id, node, shared, now);
        }
        Ok(())
    }

    /// A node that connects again has dropped its earlier connections, or should have. Only
    /// ends connections from the same address: a hello proves nothing, and must not end
    /// what others have.
    fn end_earlier(&mut self, id: ConnId, node: NodeId, shared: &mut Shared, now: Millis) {
        let Some(from) = self.serving().find(|(conn, _)| *conn == id).map(|(_, serve)| serve.from)
        else {
            return;
        };
        let of_node = |serve: &Serve| {
            serve.from == from && serve.server.peer().is_some_and(|hello| hello.node == node)
        };
        let earlier = self.serving().filter(|(conn, serve)| *conn != id && of_node(serve));
        let earlier: Vec<(Millis, ConnId)> =
            earlier.map(|(conn, serve)| (serve.since, conn)).collect();
        if earlier.len() >= MAX_CONNECTIONS_PER_NODE
            && let Some((_, oldest)) = earlier.into_iter().min()
        {
            shared.stats.connections_reclaimed += 1;
            self.say_goodbye(oldest, ByeReason::Idle, shared, now);
        }
    }

    /// Ends the serving connection with the most pins, because an answer needs the room. False if
    /// no connection has pins.
    pub(crate) fn end_serving(&mut self, shared: &mut Shared, now: Millis) -> bool {
        let busiest = self
            .serving()
            .map(|(id, serve)| (serve.pins.len(), id))
            .filter(|(pins, _)| *pins > 0)
            .max();
        let Some((_, id)) = busiest else { return false };
        shared.stats.serves_ended += 1;
        self.say_goodbye(id, ByeReason::Full, shared, now);
        true
    }
}
