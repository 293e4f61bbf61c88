//! The directory: every peer that was heard of lately, as many as it was made for, each with the memory that its filter takes.
//!
//! With each datagram and each event something may be due for one peer of a thousand. So that not all are looked at each time, the
//! directory knows a moment before which nothing is; looking at all of them sets it anew.

use core::net::SocketAddr;

use super::CatalogFault;
use super::filter::Geometry;
use super::pace::{Crowd, Dice};
use super::peer::Peer;
use super::wire::{Announce, Header, Message};
use crate::id::{Epoch, Millis, NodeId, SwarmTag};
use crate::limits::{LEAST_PEERS, MAX_FILTER_SEGMENTS, MAX_PEERS, SEGMENTS_A_PEER};

/// What a datagram meant for the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// From a peer that was not known, and is in the table now; `evicted`: so many had to go for it.
    Joined { evicted: u64 },
    /// From a peer that started anew.
    Restarted,
    /// From a known peer.
    Known,
    /// From a known peer, at an address that it has not proven. What it says counts all the same.
    Moved,
    /// A boot that has not proven itself announces itself.
    Claimed,
    /// A known peer said goodbye.
    Left,
    /// Overtaken by a later datagram, or a copy of one.
    Overtaken,
    /// Not an announcement, and from nobody known; or a goodbye of such a one.
    Stranger,
    /// From a peer that was not known, while the table is full of live ones.
    Full,
}

/// What a datagram is heard with: where it came from, and what this node is.
pub(super) struct Ear<'a> {
    pub(super) from: SocketAddr,
    /// The swarm whose key is in use.
    pub(super) swarm: SwarmTag,
    pub(super) dice: &'a mut Dice,
}

/// The table of peers.
pub(super) struct Directory {
    peers: Vec<Peer>,
    /// Their names, in the same order: what is looked for with each datagram.
    names: Vec<NodeId>,
    /// Peers that it holds at most.
    most: usize,
    /// Filter segments that there is room for.
    free_segments: usize,
    /// Nobody expires before.
    expiry_at: Millis,
    /// No pull is due before.
    pull_at: Millis,
}

impl Directory {
    /// An empty directory for so many peers, within the limits, with filters of [`SEGMENTS_A_PEER`] segments each, or of the largest size
    /// if they are few.
    pub(super) fn new(peers: usize) -> Directory {
        let most = peers.clamp(LEAST_PEERS, MAX_PEERS);
        Directory {
            peers: Vec::with_capacity(most),
            names: Vec::with_capacity(most),
            most,
            free_segments: (most * SEGMENTS_A_PEER).max(LEAST_PEERS * MAX_FILTER_SEGMENTS),
            expiry_at: Millis(u64::MAX),
            pull_at: Millis(u64::MAX),
        }
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, Peer> {
        self.peers.iter()
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.place_of(node).map(|index| &self.peers[index])
    }

    /// Lets something be done with a peer.
    pub(super) fn with<T>(&mut self, node: NodeId, act: impl FnOnce(&mut Peer) -> T) -> Option<T> {
        let index = self.place_of(node)?;
        let result = act(&mut self.peers[index]);
        self.note_due(index);
        Some(result)
    }

    fn place_of(&self, node: NodeId) -> Option<usize> {
        self.names.iter().position(|name| *name == node)
    }

    /// How many peers are known.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Takes in a datagram. A boot is only taken in once it is proven, see [`Directory::admit`].
    pub(super) fn hear(
        &mut self,
        header: &Header,
        message: &Message<'_>,
        ear: Ear<'_>,
        now: Millis,
    ) -> Result<Heard, CatalogFault> {
        let Ear { from, swarm, dice } = ear;
        let crowd = Crowd { dice, nodes: self.len() + 1 };
        let known = self.place_of(header.node);
        let same_boot = known.filter(|&index| self.peers[index].boot == header.boot);
        if let Some(index) = same_boot {
            let peer = &mut self.peers[index];
            peer.note_key(header, swarm, now);
            if peer.is_overtaken(header) {
                return Ok(Heard::Overtaken);
            }
        }
        match (same_boot, message) {
            (Some(index), Message::Announce(Announce { interval_ms: 0, .. })) => {
                self.forget(index);
                Ok(Heard::Left)
            }
            (None, Message::Announce(Announce { interval_ms: 0, .. })) => Ok(Heard::Stranger),
            (Some(index), Message::Announce(announce)) => {
                let geometry = announced_geometry(announce)?;
                let peer = &mut self.peers[index];
                if peer.fingerprint != announce.fingerprint || peer.view.geometry() != geometry {
                    return Err(CatalogFault::Contradiction);
                }
                peer.hear(header, message, crowd, now)?;
                let moved = peer.addr.ip() != from.ip();
                self.note_due(index);
                Ok(if moved { Heard::Moved } else { Heard::Known })
            }
            (Some(index), _) => {
                self.peers[index].hear(header, message, crowd, now)?;
                self.note_due(index);
                Ok(Heard::Known)
            }
            (None, Message::Announce(announce)) => {
                announced_geometry(announce)?;
                Ok(Heard::Claimed)
            }
            _ => Ok(Heard::Stranger),
        }
    }

    /// Takes in a boot that has announced itself, in place of an earlier one of the same node.
    pub(super) fn admit(
        &mut self,
        header: &Header,
        announce: &Announce<'_>,
        from: SocketAddr,
        dice: &mut Dice,
        now: Millis,
    ) -> Result<Heard, CatalogFault> {
        let geometry = announced_geometry(announce)?;
        let crowd = Crowd { dice, nodes: self.len() + 1 };
        let message = Message::Announce(*announce);
        let known = self.place_of(header.node).map(|index| self.forget(index)).is_some();
        let Some(evicted) = self.make_room(geometry, now) else { return Ok(Heard::Full) };
        self.push(Peer::new(header, announce, from, geometry)).hear(header, &message, crowd, now)?;
        self.note_due(self.len() - 1);
        Ok(if known { Heard::Restarted } else { Heard::Joined { evicted } })
    }

    /// Nothing is due before: neither that somebody expires nor that a filter is repaired.
    pub(super) fn deadline(&self) -> Millis {
        self.expiry_at.min(self.pull_at)
    }

    /// The first peer of those that `may` be asked whose filter is to be repaired now.
    pub(super) fn due_for_pull(&mut self, now: Millis, may: impl Fn(&Peer) -> bool) -> Option<&mut Peer> {
        if now < self.pull_at {
            return None;
        }
        let due = |peer: &Peer| may(peer) && peer.pull_at().is_some_and(|at| at <= now);
        match self.peers.iter().position(due) {
            Some(index) => Some(&mut self.peers[index]),
            None => {
                let times = self.peers.iter().filter(|peer| may(peer)).filter_map(Peer::pull_at);
                self.pull_at = times.min().unwrap_or(Millis(u64::MAX));
                None
            }
        }
    }

    /// Others may be asked from now on.
    pub(super) fn look_for_pulls(&mut self) {
        self.pull_at = Millis(0);
    }

    /// Forgets the peers that were silent for three of their intervals; says how many.
    pub(super) fn expire(&mut self, now: Millis) -> u64 {
        if now < self.expiry_at {
            return 0;
        }
        let before = self.peers.len();
        while let Some(index) = self.peers.iter().position(|peer| peer.expires_at() <= now) {
            self.forget(index);
        }
        self.expiry_at = self.iter().map(Peer::expires_at).min().unwrap_or(Millis(u64::MAX));
        (before - self.peers.len()) as u64
    }

    /// Forgets the peers that have not obeyed the reset to `epoch`, each named to `forgotten`.
    pub(super) fn reset(&mut self, epoch: Epoch, mut forgotten: impl FnMut(&Peer)) {
        while let Some(index) = self.peers.iter().position(|peer| peer.epochs.epoch < epoch) {
            forgotten(&self.peers[index]);
            self.forget(index);
        }
    }

    /// Makes room by forgetting the peer that was silent longest, provided that it missed an announcement: a swarm larger than
    /// the table must not spend its time forgetting and learning.
    fn evict(&mut self, now: Millis) -> bool {
        let silent = self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.last_heard);
        let late = silent.filter(|(_, peer)| peer.is_late(now)).map(|(index, _)| index);
        late.map(|index| self.forget(index)).is_some()
    }

    /// Makes room for a peer with a filter of this size; gives how many others had to go, `None` where those there are live.
    fn make_room(&mut self, geometry: Geometry, now: Millis) -> Option<u64> {
        let mut evicted = 0;
        while self.peers.len() == self.most || self.free_segments < geometry.segments() {
            if !self.evict(now) {
                return None;
            }
            evicted += 1;
        }
        Some(evicted)
    }

    fn push(&mut self, peer: Peer) -> &mut Peer {
        self.free_segments -= peer.segments();
        self.names.push(peer.node);
        // Unless what it says is taken, it is not heard of yet and expires at once.
        self.expiry_at = Millis(0);
        self.peers.push(peer);
        self.peers.last_mut().expect("a peer was added")
    }

    fn forget(&mut self, index: usize) -> Peer {
        self.names.swap_remove(index);
        let peer = self.peers.swap_remove(index);
        self.free_segments += peer.segments();
        peer
    }

    /// Something about a peer has changed.
    fn note_due(&mut self, index: usize) {
        let peer = &self.peers[index];
        self.expiry_at = self.expiry_at.min(peer.expires_at());
        self.pull_at = self.pull_at.min(peer.pull_at().unwrap_or(self.pull_at));
    }
}

fn announced_geometry(announce: &Announce<'_>) -> Result<Geometry, CatalogFault> {
    Geometry::checked(announce.digests.segments(), announce.probes).ok_or(CatalogFault::Geometry)
}
