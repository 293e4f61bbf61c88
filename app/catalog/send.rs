//! What this node sends to the swarm: announcements, orders to reset, warnings, and changes of its
//! filter, in this order of urgency.

use super::own_filter::Step;
use super::wire::{self, Announce, Datagram, Delta, Header, Message, Segment};
use super::{Catalog, CatalogConfig};
use crate::id::Millis;
use crate::limits::MAX_OLD_KEYS;

/// The former keys that a node still seals with, as indices into the keyring.
type Former = heapless::Vec<usize, MAX_OLD_KEYS>;

impl Catalog {
    /// The next datagram to multicast, if one is due.
    pub(crate) fn poll_datagram(&mut self, now: Millis) -> Option<Datagram> {
        self.expire(now);
        if let Some(copy) = self.poll_copy() {
            return Some(copy);
        }
        if self.schedule.announce_due(now) {
            return Some(self.announce(now));
        }
        if self.order.take(&mut self.dice, now) {
            self.stats.resets_sent += 1;
            return Some(self.seal(|_| Message::Reset));
        }
        if let Some(warning) = self.warnings.take(&mut self.dice, now) {
            self.stats.warnings_sent += 1;
            return Some(self.seal(|_| Message::Warning(warning)));
        }
        if let Some(segment) = self.repeat_segment(now) {
            return Some(segment);
        }
        let due = self.schedule.change_due_at(self.nodes()).is_some_and(|at| at <= now);
        if !due {
            return None;
        }
        let Some(step) = self.own.step() else {
            self.schedule.all_sent();
            return None;
        };
        let datagram = match step {
            Step::Delta => {
                self.stats.deltas_sent += 1;
                self.seal(|catalog| {
                    let own = &catalog.own;
                    Message::Delta(Delta {
                        generation: own.generation(),
                        digests: own.digests(),
                        changes: own.changes(),
                    })
                })
            }
            Step::Segment(index) => self.seal_segment(index),
        };
        self.schedule.change_sent(self.nodes(), datagram.len() * (1 + self.copies.len()), now);
        if self.own.is_advertised() {
            self.schedule.all_sent();
            self.schedule.echo(self.nodes(), &mut self.dice, now);
        }
        Some(datagram)
    }

    /// The goodbye of a node that stops; [`Catalog::poll_copy`] gives its copies. Peers forget the
    /// node at once.
    pub(crate) fn goodbye(&mut self) -> Datagram {
        self.seal_announcement(0)
    }

    /// The last datagram sealed with a former key, until there are no copies left.
    pub(crate) fn poll_copy(&mut self) -> Option<Datagram> {
        self.copies.pop_front()
    }

    fn announce(&mut self, now: Millis) -> Datagram {
        let interval_ms = self.interval_ms();
        let datagram = self.seal_announcement(interval_ms);
        self.greeted = true;
        self.schedule.announced(
            self.nodes(),
            datagram.len() * (1 + self.copies.len()),
            interval_ms,
            &mut self.dice,
            now,
        );
        datagram
    }

    /// A datagram with a segment of the filter, which must exist.
    pub(super) fn seal_segment(&mut self, index: usize) -> Datagram {
        self.stats.segments_sent += 1;
        self.seal(|catalog| {
            let own = &catalog.own;
            let bytes = own.segment(index).expect("a segment of the filter");
            Message::Segment(Segment {
                generation: own.generation(),
                digests: own.digests(),
                index: index as u8,
                bytes,
            })
        })
    }

    fn seal_announcement(&mut self, interval_ms: u32) -> Datagram {
        self.stats.announcements_sent += 1;
        self.seal(|Catalog { config, own, load, .. }| {
            Message::Announce(Announce {
                fingerprint: config.fingerprint,
                tcp_port: config.tcp_port,
                load: *load,
                interval_ms,
                probes: own.filter.geometry().probes(),
                generation: own.generation(),
                digests: own.digests(),
                name: config.name,
            })
        })
    }

    /// Seals a message with the current key, and queues a copy for each former key that some peer
    /// still needs. The copies have the same counter, so a peer that can open both takes the second
    /// for a duplicate of the first.
    pub(super) fn seal(
        &mut self,
        message: impl for<'a> FnOnce(&'a Catalog) -> Message<'a>,
    ) -> Datagram {
        self.counter += 1;
        let former = self.former_in_use();
        let mut copies = core::mem::take(&mut self.copies);
        let catalog: &Catalog = self;
        let CatalogConfig { keys, node, boot, epochs, .. } = &catalog.config;
        let header = Header {
            swarm: keys.current().tag(),
            node: *node,
            boot: *boot,
            counter: catalog.counter,
            epochs: *epochs,
        };
        let message = message(catalog);
        let datagram = wire::seal(&header, &message, keys.current());
        for secret in former.iter().filter_map(|&at| keys.former().get(at)) {
            // A full queue loses a copy, as the network does.
            let _ = copies.push_back(wire::seal(
                &Header { swarm: secret.tag(), ..header },
                &message,
                secret,
            ));
        }
        self.stats.bytes_sent += (datagram.len() * (1 + former.len())) as u64;
        self.copies = copies;
        datagram
    }

    /// The former keys that this node still seals with: those of peers that do not have the current
    /// one yet. Its first announcement uses all of them, since it does not know yet who is there.
    pub(super) fn former_in_use(&self) -> Former {
        let needed = |tag| !self.greeted || self.directory.iter().any(|peer| peer.swarm == tag);
        let former = self.config.keys.former().iter().enumerate();
        former.filter(|(_, secret)| needed(secret.tag())).map(|(at, _)| at).collect()
    }
}
