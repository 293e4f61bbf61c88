//! What this node says to the swarm: announcements, orders to reset, and changes of its filter, in this order of urgency.

use super::own::Step;
use super::wire::{self, Announce, Datagram, Delta, Header, Message, Segment};
use super::{Catalog, CatalogConfig};
use crate::id::Millis;

impl Catalog {
    /// The next datagram to multicast, if one is due.
    pub fn poll_datagram(&mut self, now: Millis) -> Option<Datagram> {
        self.expire(now);
        if self.pace.announce_due(now) {
            return Some(self.announce(now));
        }
        if self.order.take(&mut self.dice, now) {
            let datagram = wire::seal(&self.next_header(), &Message::Reset, &self.config.key);
            self.stats.resets_sent += 1;
            self.stats.bytes_sent += datagram.len() as u64;
            return Some(datagram);
        }
        let due = self.pace.tell_at(self.nodes()).is_some_and(|at| at <= now);
        if !due {
            return None;
        }
        let Some(step) = self.own.step() else {
            self.pace.all_told();
            return None;
        };
        let header = self.next_header();
        let (generation, digests, key) = (self.own.generation(), self.own.digests(), &self.config.key);
        let datagram = match step {
            Step::Delta => {
                self.stats.deltas_sent += 1;
                wire::seal(&header, &Message::Delta(Delta { generation, digests, changes: self.own.changes() }), key)
            }
            Step::Segment(index) => {
                self.stats.segments_sent += 1;
                let bytes = self.own.segment(index).expect("a step names a segment of the filter");
                wire::seal(&header, &Message::Segment(Segment { generation, digests, index: index as u8, bytes }), key)
            }
        };
        self.stats.bytes_sent += datagram.len() as u64;
        self.pace.told(self.nodes(), datagram.len(), now);
        if self.own.is_told() {
            self.pace.all_told();
            let (nodes, bytes) = (self.nodes(), wire::longest_announcement(self.own.filter.geometry().segments()));
            self.pace.echo(nodes, bytes, &mut self.dice, now);
        }
        Some(datagram)
    }

    /// The datagram by which a node that stops says goodbye. Peers forget it at once.
    pub fn goodbye(&mut self) -> Datagram {
        self.seal_announcement(0)
    }

    fn announce(&mut self, now: Millis) -> Datagram {
        let interval_ms = self.interval_ms();
        let datagram = self.seal_announcement(interval_ms);
        self.pace.announced(interval_ms, &mut self.dice, now);
        datagram
    }

    fn seal_announcement(&mut self, interval_ms: u32) -> Datagram {
        let header = self.next_header();
        let announce = Announce {
            fingerprint: self.config.fingerprint,
            tcp_port: self.config.tcp_port,
            load: self.load,
            interval_ms,
            probes: self.own.filter.geometry().probes(),
            generation: self.own.generation(),
            digests: self.own.digests(),
        };
        let datagram = wire::seal(&header, &Message::Announce(announce), &self.config.key);
        self.stats.announcements_sent += 1;
        self.stats.bytes_sent += datagram.len() as u64;
        datagram
    }

    fn next_header(&mut self) -> Header {
        self.counter += 1;
        let CatalogConfig { swarm, node, boot, epochs, .. } = self.config;
        Header { swarm, node, boot, counter: self.counter, epochs }
    }
}
