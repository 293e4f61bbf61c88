//! The directory: every live peer with its filter, up to a fixed number of peers and
//! filter segments.
//!
//! A datagram or an event may make something due for one peer of a thousand. To avoid scanning all
//! peers each time, the directory keeps a lower bound on the next due time and recomputes it when
//! it does scan.

use core::net::SocketAddr;

use super::CatalogFault;
use super::filter::Geometry;
use super::peer::Peer;
use super::schedule::Jitter;
use super::wire::{Announce, Header, Message};
use crate::id::{Epoch, Millis, NodeId, SwarmTag};
use crate::limits::{LEAST_PEERS, MAX_FILTER_SEGMENTS, MAX_PEERS, SEGMENTS_A_PEER};
use crate::splitmix::SplitMix64;

/// What a datagram meant for the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// From a new peer, now in the table; `evicted` peers were forgotten to make room.
    Joined { evicted: u64 },
    /// From a peer that restarted.
    Restarted,
    /// From a known peer.
    Known,
    /// From a known peer, at an address that it has not proven. Its content is used all the same.
    Moved,
    /// An unproven boot announces itself.
    Claimed,
    /// A known peer said goodbye.
    Left,
    /// Overtaken by a later datagram, or a duplicate.
    Overtaken,
    /// From an unknown node: a goodbye, or anything else but an announcement.
    Stranger,
    /// From a new peer, while the table is full of live ones.
    Full,
}

/// The context of a datagram: where it came from, and this node's own state.
pub(super) struct Context<'a> {
    pub(super) from: SocketAddr,
    /// The swarm whose key is in use.
    pub(super) swarm: SwarmTag,
    pub(super) dice: &'a mut SplitMix64,
}

/// The table of peers.
pub(super) struct Directory {
    peers: Vec<Peer>,
    /// Their ids, in the same order: every datagram searches these.
    names: Vec<NodeId>,
    /// Most peers that it holds.
    most: usize,
    /// Filter segments still free.
    free_segments: usize,
    /// Lower bound on when a peer expires.
    expiry_at: Millis,
    /// Lower bound on when a pull is due.
    pull_at: Millis,
}

impl Directory {
    /// An empty directory for that many peers, clamped to the limits, with filters of
    /// [`SEGMENTS_A_PEER`] segments each, or of the largest size if the peers are few.
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

    /// Runs `act` on a peer.
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

    /// Takes in a datagram. A new boot is admitted only once it is proven, see
    /// [`Directory::admit`].
    pub(super) fn handle(
        &mut self,
        header: &Header,
        message: &Message<'_>,
        context: Context<'_>,
        now: Millis,
    ) -> Result<Outcome, CatalogFault> {
        let Context { from, swarm, dice } = context;
        let jitter = Jitter { dice, nodes: self.len() + 1 };
        let known = self.place_of(header.node);
        let same_boot = known.filter(|&index| self.peers[index].boot == header.boot);
        if let Some(index) = same_boot {
            let peer = &mut self.peers[index];
            peer.note_key(header, swarm, now);
            if peer.is_overtaken(header) {
                return Ok(Outcome::Overtaken);
            }
        }
        match (same_boot, message) {
            (Some(index), Message::Announce(Announce { interval_ms: 0, .. })) => {
                self.forget(index);
                Ok(Outcome::Left)
            }
            (None, Message::Announce(Announce { interval_ms: 0, .. })) => Ok(Outcome::Stranger),
            (Some(index), Message::Announce(announce)) => {
                let geometry = announced_geometry(announce)?;
                let peer = &mut self.peers[index];
                if peer.fingerprint != announce.fingerprint || peer.filter.geometry() != geometry {
                    return Err(CatalogFault::Contradiction);
                }
                peer.handle(header, message, jitter, now)?;
                let moved = peer.addr.ip() != from.ip();
                self.note_due(index);
                Ok(if moved { Outcome::Moved } else { Outcome::Known })
            }
            (Some(index), _) => {
                self.peers[index].handle(header, message, jitter, now)?;
                self.note_due(index);
                Ok(Outcome::Known)
            }
            (None, Message::Announce(announce)) => {
                announced_geometry(announce)?;
                Ok(Outcome::Claimed)
            }
            _ => Ok(Outcome::Stranger),
        }
    }

    /// Admits a boot that has announced itself, in place of an earlier boot of the same node.
    pub(super) fn admit(
        &mut self,
        header: &Header,
        announce: &Announce<'_>,
        from: SocketAddr,
        dice: &mut SplitMix64,
        now: Millis,
    ) -> Result<Outcome, CatalogFault> {
        let geometry = announced_geometry(announce)?;
        let jitter = Jitter { dice, nodes: self.len() + 1 };
        let message = Message::Announce(*announce);
        let known = self.place_of(header.node).map(|index| self.forget(index)).is_some();
        let Some(evicted) = self.make_room(geometry, now) else { return Ok(Outcome::Full) };
        self.push(Peer::new(header, announce, from, geometry))
            .handle(header, &message, jitter, now)?;
        self.note_due(self.len() - 1);
        Ok(if known { Outcome::Restarted } else { Outcome::Joined { evicted } })
    }

    /// Nothing is due before this: no peer expires, and no filter needs repair.
    pub(super) fn deadline(&self) -> Millis {
        self.expiry_at.min(self.pull_at)
    }

    /// The first peer whose filter repair is due, among those that `may` accepts.
    pub(super) fn due_for_pull(
        &mut self,
        now: Millis,
        may: impl Fn(&Peer) -> bool,
    ) -> Option<&mut Peer> {
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

    /// The set of peers that may be asked has changed: rescan for pulls.
    pub(super) fn look_for_pulls(&mut self) {
        self.pull_at = Millis(0);
    }

    /// Forgets the peers that were silent for three of their intervals; returns how many.
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

    /// Forgets the peers that have not obeyed the reset to `epoch`, and passes each to `forgotten`.
    pub(super) fn reset(&mut self, epoch: Epoch, mut forgotten: impl FnMut(&Peer)) {
        while let Some(index) = self.peers.iter().position(|peer| peer.epochs.epoch < epoch) {
            forgotten(&self.peers[index]);
            self.forget(index);
        }
    }

    /// Makes room by forgetting the peer that was silent longest, but only if it missed an
    /// announcement: a swarm larger than the table must not spend its time forgetting and
    /// relearning peers.
    fn evict(&mut self, now: Millis) -> bool {
        let silent = self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.last_heard);
        let late = silent.filter(|(_, peer)| peer.is_late(now)).map(|(index, _)| index);
        late.map(|index| self.forget(index)).is_some()
    }

    /// Makes room for a peer with a filter of this size. Returns how many peers were evicted, or
    /// `None` if all are live.
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
        // Expires at once unless its announcement is accepted next.
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

    /// Updates the due times after a change to a peer.
    fn note_due(&mut self, index: usize) {
        let peer = &self.peers[index];
        self.expiry_at = self.expiry_at.min(peer.expires_at());
        self.pull_at = self.pull_at.min(peer.pull_at().unwrap_or(self.pull_at));
    }
}

fn announced_geometry(announce: &Announce<'_>) -> Result<Geometry, CatalogFault> {
    Geometry::checked(announce.digests.segments(), announce.probes).ok_or(CatalogFault::Geometry)
}
