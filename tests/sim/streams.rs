//! Connections: how they open, how their bytes travel, and every way in which they end.

use std::net::SocketAddr;

use potluck::limits::CONNECT_TIMEOUT_MS;

use super::cast::Mischief;
use super::heap::{MS, Micros};
use super::host::{ConnId, Happening};
use super::net::{CUT_TIMEOUT, End, Handle, Pipe, Stream};
use super::world::{Event, Power, Sim};

/// Interval between retransmissions while the network is cut.
const RESEND_GAP: Micros = 200 * MS;

impl Sim {
    pub(super) fn call(&mut self, who: usize, conn: ConnId, addr: SocketAddr) {
        self.net.traffic.connects += 1;
        self.net.calling.insert((who, conn));
        let life = self.stations[who].life;
        let callee = self.stations.iter().position(|station| station.addr == addr);
        let hangs = callee.is_none_or(|callee| {
            self.stations[callee].power == Power::Dark
                || !self.net.joined(who, callee)
                || self.stations[callee].mischief == Some(Mischief::Unreachable)
        });
        let unlucky = self.dice.chance(self.net.weather.hang);
        if hangs || unlucky {
            self.count("connect hangs");
            let at = self.now + CONNECT_TIMEOUT_MS * MS;
            return self.heap.push(at, Event::CallFails { who, life, conn });
        }
        let refused = self.dice.chance(self.net.weather.refuse);
        let callee = callee.filter(|callee| {
            let station = &self.stations[*callee];
            !refused && station.power == Power::On && station.mischief != Some(Mischief::Refuses)
        });
        let at = self.now + 2 * self.net.weather.latency;
        match callee {
            Some(callee) => self.heap.push(at, Event::CallArrives { who, life, conn, callee }),
            None => {
                self.count("connect refused");
                self.heap.push(at, Event::CallFails { who, life, conn });
            }
        }
    }

    pub(super) fn call_fails(&mut self, who: usize, life: u64, conn: ConnId) {
        if self.stations[who].life == life && self.net.calling.remove(&(who, conn)) {
            self.handle(who, Happening::Closed(conn));
        }
    }

    pub(super) fn call_arrives(&mut self, who: usize, life: u64, conn: ConnId, callee: usize) {
        if self.stations[who].life != life || !self.net.calling.remove(&(who, conn)) {
            return;
        }
        let Some(handle) = self.accept(callee, self.stations[who].addr) else {
            self.net.traffic.refused += 1;
            self.handle(who, Happening::Connected(conn));
            return self.handle(who, Happening::Closed(conn));
        };
        let caller = End { who, handle: Handle::Node(conn), life, gone: false };
        self.join_ends(caller, callee, handle);
        self.handle(who, Happening::Connected(conn));
        self.drain(callee);
    }

    pub(super) fn join_ends(&mut self, caller: End, callee: usize, handle: Handle) -> u64 {
        let answerer = End { who: callee, handle, life: self.stations[callee].life, gone: false };
        let id = self
            .net
            .insert(Pipe { ends: [caller, answerer], to: [Stream::default(), Stream::default()] });
        self.pump(id, 0);
        self.pump(id, 1);
        id
    }

    pub(super) fn accept(&mut self, callee: usize, from: SocketAddr) -> Option<Handle> {
        if self.stations[callee].mischief.is_some() {
            return Some(Handle::Cast(self.cast_accepts(callee)));
        }
        let now = self.local(callee);
        self.accepted += 1;
        self.stations[callee].host.accept(self.accepted, from, now).map(Handle::Node)
    }

    /// Sends an end's pending bytes, as far as the window allows.
    pub(super) fn pump(&mut self, id: u64, side: usize) {
        loop {
            let Some(pipe) = self.net.pipes.get(&id) else { return };
            let (end, stream) = (pipe.ends[side], &pipe.to[1 - side]);
            if stream.in_flight >= self.net.window {
                return;
            }
            if stream.unsent.is_empty() && !end.gone {
                let mut out = Vec::new();
                if !self.pull(end, &mut out) {
                    return;
                }
                let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
                pipe.to[1 - side].unsent.extend(out);
            }
            let segment = self.net.segment;
            let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
            let stream = &mut pipe.to[1 - side];
            if stream.unsent.is_empty() {
                return;
            }
            let count = segment.min(stream.unsent.len());
            let bytes: Vec<u8> = stream.unsent.drain(..count).collect();
            stream.in_flight += count;
            let at = self.net.rise(end.who, count, self.now);
            self.heap.push(at, Event::Relayed { pipe: id, to: 1 - side, bytes });
        }
    }

    /// A node resumes after a pause and sends its pending bytes.
    pub(super) fn resumes(&mut self, who: usize) {
        if self.stations[who].paused_until > self.now {
            return;
        }
        for id in self.net.pipes_of(who) {
            for side in 0..2 {
                if self.net.pipes.get(&id).is_some_and(|pipe| pipe.ends[side].who == who) {
                    self.pump(id, side);
                }
            }
        }
        self.drain(who);
    }

    fn pull(&mut self, end: End, out: &mut Vec<u8>) -> bool {
        let station = &mut self.stations[end.who];
        if station.power != Power::On || station.life != end.life || station.paused_until > self.now
        {
            return false;
        }
        match end.handle {
            Handle::Cast(cast) => self.cast_says(cast, out),
            Handle::Node(conn) => {
                let now = self.local(end.who);
                self.stations[end.who].host.pull(conn, now, out)
            }
        }
    }

    pub(super) fn relayed(&mut self, id: u64, to: usize, bytes: Vec<u8>) {
        let Some(pipe) = self.net.pipes.get(&id) else { return };
        let mut at =
            self.net.fall(pipe.ends[to].who, bytes.len(), self.now) + self.net.weather.latency;
        if self.dice.chance(self.net.weather.resend) {
            self.count("segment resent");
            at += self.net.weather.retransmission;
        }
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let stream = &mut pipe.to[to];
        stream.last_arrival = at.max(stream.last_arrival).max(stream.stalled_until);
        let at = stream.last_arrival;
        self.heap.push(at, Event::Arrives { pipe: id, to, bytes });
    }

    pub(super) fn arrives(&mut self, id: u64, to: usize, mut bytes: Vec<u8>) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let (end, sender) = (pipe.ends[to], pipe.ends[1 - to]);
        let stream = &mut pipe.to[to];
        if stream.vanishes {
            return self.count("bytes vanished");
        }
        if stream.stalled_until > self.now {
            let at = stream.stalled_until;
            return self.heap.push(at, Event::Arrives { pipe: id, to, bytes });
        }
        if self.net.frozen_from.is_some_and(|from| from <= self.now) {
            return self
                .heap
                .push(self.now + RESEND_GAP / 2, Event::Arrives { pipe: id, to, bytes });
        }
        if !self.net.joined(end.who, sender.who) {
            return self.wait_for_network(id, to, bytes);
        }
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let stream = &mut pipe.to[to];
        stream.cut_since = None;
        let station = &self.stations[end.who];
        if station.power == Power::Dark {
            return;
        }
        if station.life != end.life {
            // A restarted machine does not know the connection, and says so.
            return self.break_pipe(id);
        }
        if station.paused_until > self.now {
            let at = station.paused_until;
            return self.heap.push(at, Event::Arrives { pipe: id, to, bytes });
        }
        let carried = stream.carried;
        let cut = stream.cut_at.filter(|at| carried + bytes.len() as u64 > *at);
        if let Some(at) = cut {
            bytes.truncate((at - carried) as usize);
        }
        stream.in_flight -= bytes.len().min(stream.in_flight);
        stream.carried += bytes.len() as u64;
        if let Some(taped) = &mut self.taped {
            taped.entry((sender.who, end.who)).or_default().extend_from_slice(&bytes);
        }
        self.damage(&mut bytes);
        self.deliver(end, &bytes);
        if cut.is_some() {
            self.count("connection cut within a stream");
            return self.break_pipe(id);
        }
        self.pump(id, 1 - to);
        self.drain(sender.who);
        self.end_if_sent(id, 1 - to);
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        let flipped =
            self.net.weather.damage > 0 && self.dice.below(1_000_000) < self.net.weather.damage;
        let total = self.net.traffic.stream_bytes;
        self.net.traffic.stream_bytes += bytes.len() as u64;
        if let Some(at) =
            self.damage_byte.filter(|at| (total..total + bytes.len() as u64).contains(at))
        {
            bytes[(at - total) as usize] ^= 0x10;
        }
        if flipped && !bytes.is_empty() {
            self.count("stream damaged");
            let at = self.dice.index(bytes.len());
            bytes[at] ^= 1 << self.dice.below(8);
        }
    }

    fn deliver(&mut self, end: End, bytes: &[u8]) {
        self.net.received[end.who] += bytes.len() as u64;
        if end.gone || bytes.is_empty() {
            return;
        }
        match end.handle {
            Handle::Node(conn) => self.handle(end.who, Happening::Bytes { conn, bytes }),
            Handle::Cast(cast) => {
                self.cast_hears(cast, bytes);
                if let Some((id, side)) = self.net.by_handle.get(&(end.who, end.handle)).copied() {
                    self.pump(id, side);
                }
            }
        }
    }

    fn wait_for_network(&mut self, id: u64, to: usize, bytes: Vec<u8>) {
        self.count("stream across a cut network");
        let now = self.now;
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let since = *pipe.to[to].cut_since.get_or_insert(now);
        if now >= since + CUT_TIMEOUT {
            return self.break_pipe(id);
        }
        self.heap.push(now + RESEND_GAP, Event::Arrives { pipe: id, to, bytes });
    }

    /// The node closes its side: bytes already sent still arrive.
    pub(super) fn hang_up(&mut self, who: usize, conn: ConnId) {
        if self.net.calling.remove(&(who, conn)) {
            return;
        }
        let Some((id, side)) = self.net.by_handle.get(&(who, Handle::Node(conn))).copied() else {
            return;
        };
        self.end_side(id, side);
    }

    pub(super) fn end_side(&mut self, id: u64, side: usize) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        pipe.ends[side].gone = true;
        pipe.to[1 - side].ending = true;
        let end = pipe.ends[side];
        self.net.by_handle.remove(&(end.who, end.handle));
        self.end_if_sent(id, side);
    }

    fn end_if_sent(&mut self, id: u64, side: usize) {
        let Some(pipe) = self.net.pipes.get_mut(&id) else { return };
        let stream = &mut pipe.to[1 - side];
        if stream.ending && stream.unsent.is_empty() && stream.in_flight == 0 && !stream.vanishes {
            stream.ending = false;
            let at = self.now.max(stream.stalled_until) + self.net.weather.latency;
            self.heap.push(at, Event::Ends { pipe: id, to: 1 - side });
        }
    }

    /// One side's end of stream reaches the other.
    pub(super) fn ends(&mut self, id: u64, to: usize) {
        let Some(pipe) = self.net.pipes.get(&id) else { return };
        let (end, sender) = (pipe.ends[to], pipe.ends[1 - to]);
        if !self.net.joined(end.who, sender.who) {
            return self.heap.push(self.now + RESEND_GAP, Event::Ends { pipe: id, to });
        }
        if self.stations[end.who].paused_until > self.now {
            let at = self.stations[end.who].paused_until;
            return self.heap.push(at, Event::Ends { pipe: id, to });
        }
        self.net.remove(id);
        self.tell_closed(end);
    }

    /// The connection breaks; both ends are told, if they exist.
    pub fn break_pipe(&mut self, id: u64) {
        let Some(pipe) = self.net.remove(id) else { return };
        for end in pipe.ends {
            self.tell_closed(end);
        }
    }

    fn tell_closed(&mut self, end: End) {
        if end.gone || self.stations[end.who].life != end.life {
            return;
        }
        match end.handle {
            Handle::Node(conn) => self.handle(end.who, Happening::Closed(conn)),
            Handle::Cast(cast) => drop(self.casts.remove(&cast)),
        }
    }
}
