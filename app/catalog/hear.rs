//! What this node hears from the swarm: datagrams, and the segments that filter repairs fetch.
//!
//! A datagram is opened, checked against the epochs, and only then taken in as news of its sender.
//! Whatever is wrong with it is counted and has no other effect.

use core::net::SocketAddr;

use super::directory::Heard;
use super::pace::Crowd;
use super::ways::canonical;
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
        let heard = self.hear(from, datagram, now).inspect_err(|&fault| self.stats.count(fault));
        match heard {
            Err(CatalogFault::Version(version)) if self.tells_version(from.ip()) => {
                Ok(Some(Event::OtherVersion { ip: from.ip(), older: version < wire::VERSION }))
            }
            heard => heard,
        }
    }

    fn hear(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Millis,
    ) -> Result<Option<Event>, CatalogFault> {
        let mut text = Datagram::new();
        let (header, message) = wire::open(datagram, &self.config.keys, &mut text)?;
        if header.node == self.config.node {
            self.hear_own_id(from, &header, &message, now);
            return Ok(None);
        }
        if matches!(message, Message::Reset) {
            self.stats.resets_heard += 1;
            self.pace.answer(self.nodes(), &mut self.dice, now);
        }
        if header.epochs.epoch < self.floor {
            self.stats.older_epoch += 1;
            let leaves = matches!(message, Message::Announce(Announce { interval_ms: 0, .. }));
            if header.epochs.epoch < self.config.epochs.epoch && !leaves {
                self.pace.answer(self.nodes(), &mut self.dice, now);
            }
            return Ok(None);
        }
        let heard = self.hear_peer(from, &header, &message, now);
        if !self.config.epochs.covers(header.epochs) {
            self.stats.newer_epoch += 1;
            return Ok(Some(Event::ResetSeen(header.epochs)));
        }
        let heard = heard?;
        if matches!(heard, Heard::Known | Heard::Moved | Heard::Joined { .. } | Heard::Restarted) {
            match message {
                Message::Announce(_) => {
                    self.stats.announcements_heard += 1;
                    if heard == Heard::Known {
                        self.answer_again(header.node, now);
                    }
                }
                Message::Delta(_) => self.stats.deltas_heard += 1,
                Message::Segment(_) => self.stats.segments_heard += 1,
                Message::Reset => {}
                Message::Warning(warning) => return Ok(self.hear_warning(header.node, warning)),
            }
        }
        Ok(self.note(header.node, heard, &message, now))
    }

    /// Counts what became of a datagram, and returns the event for the node.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        heard: Heard,
        message: &Message<'_>,
        now: Millis,
    ) -> Option<Event> {
        let stats = &mut self.stats;
        let (counter, event) = match heard {
            Heard::Joined { evicted } => {
                stats.evicted += evicted;
                (&mut stats.joined, Some(Event::Joined(node)))
            }
            Heard::Restarted => (&mut stats.restarted, Some(Event::Restarted(node))),
            Heard::Left => (&mut stats.left, Some(Event::Left(node))),
            Heard::Overtaken => (&mut stats.overtaken, None),
            Heard::Stranger if matches!(message, Message::Reset) => return None,
            Heard::Stranger => (&mut stats.strangers, None),
            Heard::Full => (&mut stats.table_full, None),
            Heard::Known | Heard::Moved | Heard::Claimed => return None,
        };
        *counter += 1;
        if matches!(heard, Heard::Joined { .. } | Heard::Restarted) {
            self.remember_name(node);
            self.pace.answer(self.nodes(), &mut self.dice, now);
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
        let crowd = Crowd { dice: &mut self.dice, nodes: self.directory.len() + 1 };
        let repaired = self.directory.with(node, |peer| {
            let asked =
                peer.boot == boot && index < peer.segments() && bytes.len() == FILTER_SEGMENT_BYTES;
            if asked {
                peer.repair(generation, index, bytes, crowd, now)
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
