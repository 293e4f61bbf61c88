//! The network as data: lanes that carry so many bytes a millisecond, pipes (TCP connections) of two directions, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::heap::{MS, Micros};
use super::host::{ConnId, LEAST_CONN};

/// Bytes that a segment takes on its way beside its payload.
pub const SEGMENT_OVERHEAD: usize = 8;

/// How long the driver tries to connect.
pub const CONNECT_TIMEOUT: Micros = 3_000 * MS;

/// How long a connection across a cut network lives.
pub const CUT_TIMEOUT: Micros = 30_000 * MS;

/// Which stations share what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// A switch: every station has a line of its own, each way.
    Switched,
    /// A radio: all share one medium, and the access point relays, so that every segment takes it twice.
    Air,
}

/// What carries bytes, one after the other.
#[derive(Clone, Debug)]
pub struct Lane {
    pub bytes_per_ms: u64,
    free_at: Micros,
    pub busy: Micros,
}

impl Lane {
    pub fn new(bytes_per_ms: u64) -> Lane {
        Lane { bytes_per_ms, free_at: 0, busy: 0 }
    }

    /// Takes `bytes` in at `now`; gives when the last has passed.
    pub fn pass(&mut self, bytes: usize, now: Micros) -> Micros {
        self.hold((bytes as u64 * MS).div_ceil(self.bytes_per_ms.max(1)), now)
    }

    /// Is taken for so long.
    pub fn hold(&mut self, time: Micros, now: Micros) -> Micros {
        self.busy += time;
        self.free_at = self.free_at.max(now) + time;
        self.free_at
    }
}

/// Who holds an end of a pipe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Handle {
    /// A real node, by its own name for the connection.
    Node(ConnId),
    /// A member of the hostile cast.
    Cast(u64),
}

impl Handle {
    /// Before all others.
    pub const LEAST: Handle = Handle::Node(LEAST_CONN);
}

/// One end of a pipe.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub who: usize,
    pub handle: Handle,
    /// The station's life that the end belongs to.
    pub life: u64,
    /// It closed its side, or does not know of it yet.
    pub gone: bool,
}

/// The bytes towards one end.
#[derive(Default, Debug)]
pub struct Stream {
    pub unsent: VecDeque<u8>,
    pub in_flight: usize,
    pub last_arrival: Micros,
    pub carried: u64,
    /// Nothing arrives before.
    pub stalled_until: Micros,
    /// From here on bytes vanish, and neither end hears of it.
    pub vanishes: bool,
    /// After so many bytes the connection breaks.
    pub cut_at: Option<u64>,
    /// Since when the network between the ends has been cut.
    pub cut_since: Option<Micros>,
    /// The sending end closes when all has arrived.
    pub ending: bool,
}

/// A connection.
pub struct Pipe {
    pub ends: [End; 2],
    /// `to[i]` flows to end `i`.
    pub to: [Stream; 2],
}

/// What happens to datagrams and streams, in times of a thousand.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of datagrams, for each receiver of its own.
    pub lose: u64,
    pub duplicate: u64,
    /// Comes later by up to `delay`.
    pub late: u64,
    pub delay: Micros,
    /// Comes with a bit flipped.
    pub flip: u64,
    /// Of segments: lost and sent again after `retransmission`.
    pub resend: u64,
    pub retransmission: Micros,
    /// Of segments, in times of a million: damaged past TCP's checksum.
    pub damage: u64,
    /// Of connection attempts.
    pub refuse: u64,
    pub hang: u64,
    /// One way.
    pub latency: Micros,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather {
            lose: 0,
            duplicate: 0,
            late: 0,
            delay: 0,
            flip: 0,
            resend: 0,
            retransmission: 200 * MS,
            damage: 0,
            refuse: 0,
            hang: 0,
            latency: MS / 2,
        }
    }
}

/// Counted traffic.
#[derive(Clone, Default, Debug)]
pub struct Traffic {
    pub datagrams: u64,
    /// With IP and UDP headers.
    pub datagram_bytes: u64,
    /// Time that all datagrams together keep a radio busy at its lowest rate.
    pub datagram_air: Micros,
    pub connects: u64,
    pub refused: u64,
    pub stream_bytes: u64,
}

/// The network.
pub struct Net {
    pub medium: Medium,
    pub air: Lane,
    /// From and to each station.
    pub lines: Vec<[Lane; 2]>,
    pub weather: Weather,
    pub pipes: BTreeMap<u64, Pipe>,
    /// Which pipe, and which end of it, a station's connection is.
    pub by_handle: BTreeMap<(usize, Handle), (u64, usize)>,
    /// Connections being made: by station and name.
    pub calling: BTreeSet<(usize, ConnId)>,
    /// Ordered pairs of stations between which nothing passes.
    pub cuts: BTreeSet<(usize, usize)>,
    pub opened: u64,
    /// Largest segment.
    pub segment: usize,
    /// Bytes of one stream on their way at once.
    pub window: usize,
    /// Rate of each new station's line.
    pub bytes_per_ms: u64,
    pub traffic: Traffic,
    /// Multicast reaches nobody: datagrams come by address only.
    pub filtered: bool,
    /// Whom each station was told of.
    pub told: BTreeMap<usize, Vec<usize>>,
    /// Streams carry nothing from then on.
    pub frozen_from: Option<Micros>,
    /// Payload bytes of streams that each station has received.
    pub received: Vec<u64>,
}

impl Net {
    pub fn new(medium: Medium, bytes_per_ms: u64) -> Net {
        Net {
            medium,
            air: Lane::new(bytes_per_ms),
            lines: Vec::new(),
            weather: Weather::default(),
            pipes: BTreeMap::new(),
            by_handle: BTreeMap::new(),
            calling: BTreeSet::new(),
            cuts: BTreeSet::new(),
            opened: 0,
            segment: 512,
            window: 2_048,
            bytes_per_ms,
            traffic: Traffic::default(),
            filtered: false,
            told: BTreeMap::new(),
            frozen_from: None,
            received: Vec::new(),
        }
    }

    /// A station more.
    pub fn plug_in(&mut self) {
        let line = || Lane::new(self.bytes_per_ms);
        self.lines.push([line(), line()]);
        self.received.push(0);
    }

    /// A segment of `bytes` bytes leaves `from` at `now`: when the access point, or the switch, has it.
    pub fn rise(&mut self, from: usize, bytes: usize, now: Micros) -> Micros {
        match self.medium {
            Medium::Air => self.air.pass(bytes + SEGMENT_OVERHEAD, now),
            Medium::Switched => self.lines[from][0].pass(bytes + SEGMENT_OVERHEAD, now),
        }
    }

    /// When the segment that is at the access point, or the switch, at `now` has reached `to`.
    pub fn fall(&mut self, to: usize, bytes: usize, now: Micros) -> Micros {
        match self.medium {
            Medium::Air => self.air.pass(bytes + SEGMENT_OVERHEAD, now),
            Medium::Switched => self.lines[to][1].pass(bytes + SEGMENT_OVERHEAD, now),
        }
    }

    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.cuts.is_empty() || !self.cuts.contains(&(from, to))
    }

    /// Whether a connection between the two can live.
    pub fn joined(&self, one: usize, other: usize) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    pub fn insert(&mut self, pipe: Pipe) -> u64 {
        self.opened += 1;
        for (side, end) in pipe.ends.iter().enumerate() {
            self.by_handle.insert((end.who, end.handle), (self.opened, side));
        }
        self.pipes.insert(self.opened, pipe);
        self.opened
    }

    pub fn remove(&mut self, id: u64) -> Option<Pipe> {
        let pipe = self.pipes.remove(&id)?;
        for end in &pipe.ends {
            if self.by_handle.get(&(end.who, end.handle)).is_some_and(|(at, _)| *at == id) {
                self.by_handle.remove(&(end.who, end.handle));
            }
        }
        Some(pipe)
    }

    /// The pipes that end at `who`.
    pub fn pipes_of(&self, who: usize) -> Vec<u64> {
        let ends = |pipe: &Pipe| pipe.ends.iter().any(|end| end.who == who);
        self.pipes.iter().filter(|(_, pipe)| ends(pipe)).map(|(id, _)| *id).collect()
    }
}

/// Microseconds that a multicast datagram of `bytes` bytes keeps a radio busy at its lowest rate, 1 Mbit/s: IP, UDP, MAC and LLC
/// headers, and 1,000 µs for preamble, back-off and the way to the access point.
pub fn air_time(bytes: usize) -> Micros {
    8 * (bytes as u64 + 64) + 1_000
}
