//! The network as data: lanes with a rate in bytes per millisecond, pipes (TCP connections) with
//! two directions, and faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::heap::{MS, Micros};
use super::host::{ConnId, LEAST_CONN};

/// Bytes of overhead per segment, besides its payload.
pub const SEGMENT_OVERHEAD: usize = 8;

/// How long a connection survives across a cut network.
pub const CUT_TIMEOUT: Micros = 30_000 * MS;

/// What the stations share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// A switch: every station has its own line in each direction.
    Switched,
    /// A radio: all share one medium, and the access point relays, so every segment
    /// occupies it twice.
    Air,
}

/// A serial carrier of bytes.
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

    /// Sends `bytes` at `now`. Returns when the last byte has passed.
    pub fn pass(&mut self, bytes: usize, now: Micros) -> Micros {
        self.hold((bytes as u64 * MS).div_ceil(self.bytes_per_ms.max(1)), now)
    }

    /// Occupies the lane for `time`. Returns when it is free again.
    pub fn hold(&mut self, time: Micros, now: Micros) -> Micros {
        self.busy += time;
        self.free_at = self.free_at.max(now) + time;
        self.free_at
    }
}

/// Who holds an end of a pipe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Handle {
    /// A real node, by its own id for the connection.
    Node(ConnId),
    /// A member of the hostile cast.
    Cast(u64),
}

impl Handle {
    /// Sorts before all others.
    pub const LEAST: Handle = Handle::Node(LEAST_CONN);
}

/// One end of a pipe.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub who: usize,
    pub handle: Handle,
    /// The life of the station that the end belongs to.
    pub life: u64,
    /// It has closed its side, or does not know of the connection yet.
    pub gone: bool,
}

/// The bytes towards one end.
#[derive(Default, Debug)]
pub struct Stream {
    pub unsent: VecDeque<u8>,
    pub in_flight: usize,
    pub last_arrival: Micros,
    pub carried: u64,
    /// Nothing arrives before this.
    pub stalled_until: Micros,
    /// From now on bytes vanish, and neither end is told.
    pub vanishes: bool,
    /// The connection breaks after this many bytes.
    pub cut_at: Option<u64>,
    /// Since when the network between the ends has been cut.
    pub cut_since: Option<Micros>,
    /// The sending end closes when everything has arrived.
    pub ending: bool,
}

/// A connection.
pub struct Pipe {
    pub ends: [End; 2],
    /// `to[i]` flows to end `i`.
    pub to: [Stream; 2],
}

/// Faults of datagrams and streams, per thousand unless stated otherwise.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Lost datagrams, drawn separately for each receiver.
    pub lose: u64,
    pub duplicate: u64,
    /// Delayed by up to `delay`.
    pub late: u64,
    pub delay: Micros,
    /// With a flipped bit.
    pub flip: u64,
    /// Segments lost and sent again after `retransmission`.
    pub resend: u64,
    pub retransmission: Micros,
    /// Segments damaged past TCP's checksum, per million.
    pub damage: u64,
    /// Refused connection attempts.
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

/// Traffic counters.
#[derive(Clone, Default, Debug)]
pub struct Traffic {
    pub datagrams: u64,
    /// Includes IP and UDP headers.
    pub datagram_bytes: u64,
    /// Total time that datagrams keep a radio busy at its lowest rate.
    pub datagram_air: Micros,
    pub connects: u64,
    pub refused: u64,
    pub stream_bytes: u64,
}

/// The network.
pub struct Net {
    pub medium: Medium,
    pub air: Lane,
    /// Lanes from and to each station.
    pub lines: Vec<[Lane; 2]>,
    pub weather: Weather,
    pub pipes: BTreeMap<u64, Pipe>,
    /// The pipe of a station's connection, and which end of it.
    pub by_handle: BTreeMap<(usize, Handle), (u64, usize)>,
    /// Connections being opened: by station and id.
    pub calling: BTreeSet<(usize, ConnId)>,
    /// Ordered pairs of stations with nothing passing from the first to the second.
    pub cuts: BTreeSet<(usize, usize)>,
    pub opened: u64,
    /// Largest segment.
    pub segment: usize,
    /// Most bytes of one stream in flight.
    pub window: usize,
    /// Rate of each new station's line.
    pub bytes_per_ms: u64,
    pub traffic: Traffic,
    /// Multicast reaches nobody: datagrams are delivered only by address.
    pub filtered: bool,
    /// The stations that each station was told of.
    pub told: BTreeMap<usize, Vec<usize>>,
    /// From then on streams carry nothing.
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

    /// Adds a station.
    pub fn plug_in(&mut self) {
        let line = || Lane::new(self.bytes_per_ms);
        self.lines.push([line(), line()]);
        self.received.push(0);
    }

    /// A segment of `bytes` bytes leaves `from` at `now`. Returns when it reaches the access point
    /// or the switch.
    pub fn rise(&mut self, from: usize, bytes: usize, now: Micros) -> Micros {
        match self.medium {
            Medium::Air => self.air.pass(bytes + SEGMENT_OVERHEAD, now),
            Medium::Switched => self.lines[from][0].pass(bytes + SEGMENT_OVERHEAD, now),
        }
    }

    /// When a segment that is at the access point or the switch at `now` has reached `to`.
    pub fn fall(&mut self, to: usize, bytes: usize, now: Micros) -> Micros {
        match self.medium {
            Medium::Air => self.air.pass(bytes + SEGMENT_OVERHEAD, now),
            Medium::Switched => self.lines[to][1].pass(bytes + SEGMENT_OVERHEAD, now),
        }
    }

    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.cuts.is_empty() || !self.cuts.contains(&(from, to))
    }

    /// Whether a connection between the two can survive.
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

/// Microseconds that a multicast datagram of `bytes` bytes keeps a radio busy at its lowest rate, 1
/// Mbit/s: IP, UDP, MAC and LLC headers, and 1,000 µs for preamble, back-off and the way to the
/// access point.
pub fn air_time(bytes: usize) -> Micros {
    8 * (bytes as u64 + 64) + 1_000
}
