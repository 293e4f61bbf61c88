//! The directory: every peer that was heard of lately, at most `MAX_PEERS`, in memory set aside at the start.

use core::net::SocketAddr;

use super::CatalogFault;
use super::filter::Geometry;
use super::pace::{Crowd, Dice};
use super::peer::Peer;
use super::view::VIEW_BYTES;
use super::wire::{Announce, Header, Message};
use crate::id::{Epoch, Millis, NodeId};
use crate::limits::MAX_PEERS;

/// What a datagram meant for the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// From a peer that was not known; `evicted`: another had to go for it.
    Joined { evicted: bool },
    /// From a peer that started anew.
    Restarted,
    /// From a known peer.
    Known,
    /// A known peer said goodbye.
    Left,
    /// Overtaken by a later datagram, a copy of one, or from a boot that was replaced.
    Overtaken,
    /// Not an announcement, and from nobody known; or a goodbye of such a one.
    Stranger,
    /// From a peer that was not known, while the table is full of live ones.
    Full,
}

/// The table of peers.
pub(super) struct Directory {
    peers: heapless::Vec<Peer, MAX_PEERS>,
    /// Memory for the filters of peers to come.
    spare: heapless::Vec<Box<[u8]>, MAX_PEERS>,
}

impl Directory {
    /// An empty directory. All memory is taken now: 16 kB a peer.
    pub(super) fn new() -> Directory {
        let spare = (0..MAX_PEERS).map(|_| vec![0; VIEW_BYTES].into_boxed_slice()).collect();
        Directory { peers: heapless::Vec::new(), spare }
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, Peer> {
        self.peers.iter()
    }

    pub(super) fn iter_mut(&mut self) -> core::slice::IterMut<'_, Peer> {
        self.peers.iter_mut()
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.iter().find(|peer| peer.node == node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.iter_mut().find(|peer| peer.node == node)
    }

    /// How many peers are known.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Takes in a datagram.
    pub(super) fn hear(
        &mut self,
        header: &Header,
        message: &Message<'_>,
        from: SocketAddr,
        dice: &mut Dice,
        now: Millis,
    ) -> Result<Heard, CatalogFault> {
        let crowd = Crowd { dice, nodes: self.len() + 1 };
        let known = self.peers.iter().position(|peer| peer.node == header.node);
        let same_boot = known.is_some_and(|index| self.peers[index].boot == header.boot);
        if known.is_some_and(|index| {
            let peer = &self.peers[index];
            peer.is_past(header.boot) || same_boot && peer.is_overtaken(header)
        }) {
            return Ok(Heard::Overtaken);
        }
        match (known, message) {
            (Some(index), Message::Announce(Announce { interval_ms: 0, .. })) if same_boot => {
                self.forget(index);
                Ok(Heard::Left)
            }
            (_, Message::Announce(Announce { interval_ms: 0, .. })) => Ok(Heard::Stranger),
            (Some(index), Message::Announce(announce)) => {
                let geometry = announced_geometry(announce)?;
                let peer = &self.peers[index];
                if same_boot && (peer.fingerprint != announce.fingerprint || peer.view.geometry() != geometry) {
                    return Err(CatalogFault::Contradiction);
                }
                if !same_boot {
                    let peer = self.peers.swap_remove(index).restarted(header, announce, from, geometry);
                    self.admit(peer).hear(header, message, from, crowd, now)?;
                    return Ok(Heard::Restarted);
                }
                self.peers[index].hear(header, message, from, crowd, now)?;
                Ok(Heard::Known)
            }
            (Some(index), _) if same_boot => {
                self.peers[index].hear(header, message, from, crowd, now)?;
                Ok(Heard::Known)
            }
            (None, Message::Announce(announce)) => {
                let geometry = announced_geometry(announce)?;
                let evicted = self.spare.is_empty();
                if evicted && !self.evict(now) {
                    return Ok(Heard::Full);
                }
                let bits = self.spare.pop().expect("a full table was thinned");
                self.admit(Peer::new(header, announce, from, geometry, bits)).hear(header, message, from, crowd, now)?;
                Ok(Heard::Joined { evicted })
            }
            _ => Ok(Heard::Stranger),
        }
    }

    /// Forgets the peers that were silent for three of their intervals; says how many.
    pub(super) fn expire(&mut self, now: Millis) -> u64 {
        let before = self.peers.len();
        while let Some(index) = self.peers.iter().position(|peer| peer.expires_at() <= now) {
            self.forget(index);
        }
        (before - self.peers.len()) as u64
    }

    /// Forgets the peers that have not obeyed the reset to `epoch`; says how many.
    pub(super) fn reset(&mut self, epoch: Epoch) -> u64 {
        let before = self.peers.len();
        while let Some(index) = self.peers.iter().position(|peer| peer.epochs.epoch < epoch) {
            self.forget(index);
        }
        (before - self.peers.len()) as u64
    }

    /// Makes room by forgetting the peer that was silent longest, provided that it missed an announcement: a swarm larger than
    /// the table must not spend its time forgetting and learning.
    fn evict(&mut self, now: Millis) -> bool {
        let silent = self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.last_heard);
        let late = silent.filter(|(_, peer)| peer.is_late(now)).map(|(index, _)| index);
        late.map(|index| self.forget(index)).is_some()
    }

    fn admit(&mut self, peer: Peer) -> &mut Peer {
        assert!(self.peers.push(peer).is_ok(), "a filter's memory was free, so there is room for its peer");
        self.peers.last_mut().expect("a peer was added")
    }

    fn forget(&mut self, index: usize) {
        let bits = self.peers.swap_remove(index).view.into_bits();
        assert!(self.spare.push(bits).is_ok(), "no more filters than peers");
    }
}

fn announced_geometry(announce: &Announce<'_>) -> Result<Geometry, CatalogFault> {
    Geometry::checked(announce.digests.segments(), announce.probes).ok_or(CatalogFault::Geometry)
}
