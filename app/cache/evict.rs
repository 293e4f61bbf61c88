//! Who goes when room is needed.
//!
//! Nothing pinned goes, and nothing that a child stands on. Of the rest, first what peers hold as well (it can be fetched
//! again), then what has fewer tokens (it is computed again soon), then what was used longest ago, then what lies deeper
//! (the beginning of a prompt serves more prompts than its end), then by key, so that the choice is the same everywhere.
//!
//! One choice is one run over the index. Peers are asked about a block only when it would be the choice if they held it.

use core::cmp::Reverse;

use super::index::{Entry, Index};
use crate::id::BlockKey;
use crate::kv::Plane;

/// What room is needed for.
#[derive(Clone, Copy)]
pub(super) enum Room {
    /// A slot of the plane.
    Slot(Plane),
    /// An entry of the index.
    Entry,
}

impl Room {
    /// When `entry` was last used, if it may make this room. What a reset has taken back has only pinned planes left, if any,
    /// so that it is never the one.
    fn offered_by(self, entry: &Entry) -> Option<u64> {
        let whole = || {
            let last_use = entry.planes.iter().flatten().map(|kept| kept.last_use).max()?;
            (entry.children == 0 && !entry.pinned()).then_some(last_use)
        };
        match self {
            Room::Slot(Plane::Sliding) => entry.visible(Plane::Sliding).filter(|kept| kept.pins == 0).map(|kept| kept.last_use),
            Room::Slot(Plane::Global) => entry.visible(Plane::Global).and_then(|_| whole()),
            Room::Entry => whole(),
        }
    }
}

/// The block that makes room, or `None` when all are needed.
pub(super) fn victim(index: &Index, room: Room, held_by_peers: &dyn Fn(&BlockKey) -> bool) -> Option<BlockKey> {
    let mut best_shared = None;
    let mut best_other = None;
    for entry in index.iter() {
        let Some(last_use) = room.offered_by(entry) else { continue };
        let rank = (entry.tokens().len(), last_use, Reverse(entry.depth), entry.link.key);
        let precedes = |best: &Option<_>| best.as_ref().is_none_or(|best| rank < *best);
        if precedes(&best_shared) {
            if held_by_peers(&entry.link.key) {
                best_shared = Some(rank);
            } else if precedes(&best_other) {
                best_other = Some(rank);
            }
        }
    }
    best_shared.or(best_other).map(|(.., key)| key)
}
