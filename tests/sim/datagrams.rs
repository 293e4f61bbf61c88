//! Multicast: one datagram with a separate fate for each receiver. Where multicast is filtered,
//! datagrams are sent by address.

use std::net::SocketAddr;
use std::sync::Arc;

use super::heap::Micros;
use super::host::Happening;
use super::net::{Medium, air_time};
use super::world::{Event, Power, Sim};

impl Sim {
    pub(super) fn say(&mut self, who: usize, bytes: Vec<u8>) {
        let traffic = &mut self.net.traffic;
        traffic.datagrams += 1;
        traffic.datagram_bytes += bytes.len() as u64 + 28;
        traffic.datagram_air += air_time(bytes.len());
        let from = self.stations[who].addr;
        if let Some(recorded) = &mut self.recorded {
            recorded.push((from, bytes.clone()));
        }
        if self.stations[who].deaf {
            return;
        }
        for to in self.net.told.get(&who).cloned().unwrap_or_default() {
            // A node that has not joined yet receives nothing.
            if let Some(addr) = self.stations.get(to).map(|station| station.addr) {
                self.say_to(who, addr, bytes.clone());
            }
        }
        if self.net.filtered {
            return self.count("multicast filtered");
        }
        let at = match self.net.medium {
            Medium::Air => self.net.air.hold(air_time(bytes.len()), self.now),
            Medium::Switched => self.now,
        };
        self.heap
            .push(at + self.net.weather.latency, Event::Said { from: who, bytes: Arc::new(bytes) });
    }

    /// Sends a datagram to one address.
    pub(super) fn say_to(&mut self, from: usize, addr: SocketAddr, bytes: Vec<u8>) {
        self.count("datagram by address");
        let Some(to) = self.stations.iter().position(|station| station.addr == addr) else {
            return self.count("datagram to nobody's address");
        };
        if self.net.reaches(from, to) {
            self.heap.push(
                self.now + self.net.weather.latency,
                Event::Heard { from, to, bytes: Arc::new(bytes) },
            );
        }
    }

    pub(super) fn said(&mut self, from: usize, bytes: &Arc<Vec<u8>>) {
        for to in 0..self.stations.len() {
            if to != from && self.stations[to].power == Power::On {
                self.meet_fate(from, to, bytes);
            }
        }
    }

    fn meet_fate(&mut self, from: usize, to: usize, bytes: &Arc<Vec<u8>>) {
        if !self.net.reaches(from, to) {
            return self.count("datagram across a cut network");
        }
        let weather = &self.net.weather;
        if self.dice.chance(weather.lose) {
            return self.count("datagram lost");
        }
        let mut copies = 1;
        if self.dice.chance(weather.duplicate) {
            self.count("datagram twice");
            copies = 2;
        }
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if self.dice.chance(self.net.weather.flip) {
                self.count("datagram damaged");
                let mut damaged = bytes.to_vec();
                let at = self.dice.index(damaged.len());
                damaged[at] ^= 1 << self.dice.below(8);
                bytes = Arc::new(damaged);
            }
            let mut later: Micros = 0;
            if self.dice.chance(self.net.weather.late) {
                self.count("datagram late");
                later = self.dice.below(self.net.weather.delay.max(1));
            }
            if later == 0 {
                self.receive(from, to, &bytes);
            } else {
                self.heap.push(self.now + later, Event::Heard { from, to, bytes });
            }
        }
    }

    pub(super) fn receive(&mut self, from: usize, to: usize, bytes: &Arc<Vec<u8>>) {
        let station = &self.stations[to];
        if station.deaf {
            return;
        }
        if station.paused_until > self.now {
            let at = station.paused_until;
            return self.heap.push(at, Event::Heard { from, to, bytes: bytes.clone() });
        }
        let from = self.stations[from].addr;
        self.handle(
            to,
            if self.net.filtered {
                Happening::Unicast { from, bytes }
            } else {
                Happening::Datagram { from, bytes }
            },
        );
    }
}
