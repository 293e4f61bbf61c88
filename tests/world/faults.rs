//! What a reset meets: cards that can or cannot be written, nodes that hear nothing for a while or start anew, datagrams from
//! anywhere.

use std::net::SocketAddr;

use potluck::id::EpochState;
use potluck::node::{Input, ResetNews};

use super::World;

/// What survives a restart.
#[derive(Default)]
pub struct Card {
    /// Asked for, done in the next millisecond.
    pub(super) saving: Option<EpochState>,
    pub(super) saved: EpochState,
    full: bool,
}

impl World {
    /// Resets the swarm from a node's console.
    pub fn reset(&mut self, member: usize, store: bool) {
        self.handle(member, Input::Reset { store });
    }

    /// What a node's console said of its resets.
    pub fn resets(&self, member: usize) -> &[ResetNews] {
        &self.members[member].resets
    }

    /// The state on a node's card.
    pub fn saved(&self, member: usize) -> EpochState {
        self.members[member].card.saved
    }

    /// From now on a node's card takes nothing, or does again.
    pub fn fill_card(&mut self, member: usize, full: bool) {
        self.members[member].card.full = full;
    }

    /// From now on a node hears and sends no datagram, or does again.
    pub fn deafen(&mut self, member: usize, deaf: bool) {
        self.members[member].deaf = deaf;
    }

    /// A datagram from `from` reaches every node but the one at that address.
    pub fn multicast(&mut self, from: SocketAddr, bytes: &[u8]) {
        for member in 0..self.members.len() {
            if self.members[member].addr != from && !self.members[member].deaf {
                self.handle(member, Input::Datagram { from, bytes });
            }
        }
    }

    pub(super) fn save(&mut self, member: usize) {
        let card = &mut self.members[member].card;
        let Some(epochs) = card.saving.take() else { return };
        let result = if card.full { Err("the card is full".to_string()) } else { Ok(()) };
        if result.is_ok() {
            card.saved = epochs;
        }
        self.handle(member, Input::Persisted { epochs, result });
    }
}
