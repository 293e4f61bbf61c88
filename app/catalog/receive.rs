//! What this node hears from the swarm: datagrams, and the segments that filter repairs fetch.
//!
//! A datagram is opened, checked against the epochs, and only then taken in as news of its sender.
//! Whatever is wrong with it is counted and has no other effect.

use core::net::SocketAddr;

use super::delivery::canonical;
use super::directory::Outcome;
use super::schedule::Jitter;
use super::wire::{self, Announce, Datagram, Message};
use super::{Catalog, CatalogFault, Event};
use crate::id::{BootId, Millis, NodeId};
use crate::limits::FILTER_SEGMENT_BYTES;

impl Catalog {
    /// Takes in a datagram that came from `from` by multicast. A fault is counted and changes
    /// nothing else.
    pub fn handle(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Millis,
    ) -> Result<Option<Event>, CatalogFault> {
        self.stats.bytes_heard += datagram.len() as u64;
        self.expire(now);
        let from = canonical(from);
        let outcome =
            self.handle_datagram(from, datagram, now).inspect_err(|&fault| self.stats.count(fault));
        match outcome {
            Err(CatalogFault::Version(version)) if self.should_report_version(from.ip()) => {
                Ok(Some(Event::OtherVersion { ip: from.ip(), older: version < wire::VERSION }))
            }
            outcome => outcome,
        }
    }

    fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Millis,
    ) -> Result<Option<Event>, CatalogFault> {
        let mut text = Datagram::new();
        let (header, message) = wire::open(datagram, &self.config.keys, &mut text)?;
        if header.node == self.config.node {
            self.handle_own_id(from, &header, &message, now);
            return Ok(None);
        }
        if matches!(message, Message::Reset) {
            self.stats.resets_heard += 1;
            self.schedule.answer(self.nodes(), &mut self.dice, now);
        }
        if header.epochs.epoch < self.floor {
            self.stats.older_epoch += 1;
            let leaves = matches!(message, Message::Announce(Announce { interval_ms: 0, .. }));
            if header.epochs.epoch < self.config.epochs.epoch && !leaves {
                self.schedule.answer(self.nodes(), &mut self.dice, now);
            }
            return Ok(None);
        }
        let outcome = self.handle_peer(from, &header, &message, now);
        if !self.config.epochs.covers(header.epochs) {
            self.stats.newer_epoch += 1;
            return Ok(Some(Event::ResetSeen(header.epochs)));
        }
        let outcome = outcome?;
        if matches!(
            outcome,
            Outcome::Known | Outcome::Moved | Outcome::Joined { .. } | Outcome::Restarted
        ) {
            match message {
                Message::Announce(_) => {
                    self.stats.announcements_heard += 1;
                    if outcome == Outcome::Known {
                        self.answer_again(header.node, now);
                    }
                }
                Message::Delta(_) => self.stats.deltas_heard += 1,
                Message::Segment(_) => self.stats.segments_heard += 1,
                Message::Reset => {}
                Message::Warning(warning) => return Ok(self.handle_warning(header.node, warning)),
            }
        }
        Ok(self.note(header.node, outcome, &message, now))
    }

    /// Counts what became of a datagram, and returns the event for the node.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        outcome: Outcome,
        message: &Message<'_>,
        now: Millis,
    ) -> Option<Event> {
        let stats = &mut self.stats;
        let (counter, event) = match outcome {
            Outcome::Joined { evicted } => {
                stats.evicted += evicted;
                (&mut stats.joined, Some(Event::Joined(node)))
            }
            Outcome::Restarted => (&mut stats.restarted, Some(Event::Restarted(node))),
            Outcome::Left => (&mut stats.left, Some(Event::Left(node))),
            Outcome::Overtaken => (&mut stats.overtaken, None),
            Outcome::Stranger if matches!(message, Message::Reset) => return None,
            Outcome::Stranger => (&mut stats.strangers, None),
            Outcome::Full => (&mut stats.table_full, None),
            Outcome::Known | Outcome::Moved | Outcome::Claimed => return None,
        };
        *counter += 1;
        if matches!(outcome, Outcome::Joined { .. } | Outcome::Restarted) {
            self.remember_name(node);
            self.schedule.answer(self.nodes(), &mut self.dice, now);
        }
        event
    }

    /// Takes in a segment that `boot` of `node` served over TCP: its bytes as of `generation`.
    pub fn apply_segment(
        &mut self,
        node: NodeId,
        boot: BootId,
        generation: u64,
        index: usize,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), CatalogFault> {
        let jitter = Jitter { dice: &mut self.dice, nodes: self.directory.len() + 1 };
        let repaired = self.directory.with(node, |peer| {
            let asked =
                peer.boot == boot && index < peer.segments() && bytes.len() == FILTER_SEGMENT_BYTES;
            if asked {
                peer.repair(generation, index, bytes, jitter, now)
            } else {
                Err(CatalogFault::NotAsked)
            }
        });
        let result = repaired.unwrap_or(Err(CatalogFault::NotAsked));
        match result {
            Ok(()) => self.stats.segments_pulled += 1,
            Err(_) => self.stats.pull_faults += 1,
        }
        result
    }
}
