//! Which node keeps the last copy of a block that several nodes hold.
//!
//! Evicting first what peers hold too makes room for more of the swarm's blocks, but if every node
//! does so, all drop the same popular block at once. So the holders are ranked by a hash of node
//! and block (rendezvous hashing; Thaler and Ravishankar, 1998): the first keeps its copy, without
//! any message between them. Nodes that know different holders still agree: the first of all
//! holders is also first in every subset that contains it.
//!
//! The hash uses not the block but its stem, a block at or before it, so that one node keeps a
//! stretch of a prompt: a block is useful only with all blocks before it.

use crate::id::{BlockKey, NodeId};

/// Blocks between two stems, after the initial doubling: the window of the published models.
const STRETCH: u32 = 32;

/// A copy from a peer, as [`Cache::reserve`](super::Cache::reserve) asks about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCopy {
    /// The block.
    pub(crate) key: BlockKey,
    /// The block that decides who keeps it.
    pub(crate) stem: BlockKey,
}

/// Whether the block at `depth` is its own stem; otherwise it has the stem of the block before it.
/// Stretches double up to 32 blocks: prompts part early, within the first few blocks, and the parts
/// should have different keepers.
pub(super) fn is_stem(depth: u32) -> bool {
    depth.is_multiple_of(STRETCH) || (depth < STRETCH && depth.is_power_of_two())
}

/// Whether one of `holders` ranks above `node`, so that `node` may drop its copy.
pub(crate) fn outranked(
    node: NodeId,
    stem: &BlockKey,
    holders: impl IntoIterator<Item = NodeId>,
) -> bool {
    let own = claim(node, stem);
    holders.into_iter().any(|holder| claim(holder, stem) > own)
}

/// The rank of a node, with its id to break ties.
fn claim(node: NodeId, stem: &BlockKey) -> (u64, NodeId) {
    let mut encoded = [0; 24];
    encoded[..16].copy_from_slice(&stem.0);
    encoded[16..].copy_from_slice(&node.0.to_le_bytes());
    (xxhash_rust::xxh3::xxh3_64(&encoded), node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem(number: u8) -> BlockKey {
        BlockKey([number; 16])
    }

    fn others(node: u64) -> impl Iterator<Item = NodeId> {
        (0..12).filter(move |&other| other != node).map(NodeId)
    }

    #[test]
    fn of_all_holders_exactly_one_is_first_and_every_node_is_for_some() {
        let mut kept = [0; 12];
        for number in 0..=255 {
            let first: Vec<u64> = (0..12)
                .filter(|&node| !outranked(NodeId(node), &stem(number), others(node)))
                .collect();
            assert_eq!(first.len(), 1);
            kept[first[0] as usize] += 1;
        }
        assert!(kept.iter().all(|&count| (8..40).contains(&count)), "{kept:?}");
    }

    /// A node that knows fewer holders may keep a copy without need, but no node drops one because
    /// of a holder that ranks below it.
    #[test]
    fn the_first_of_all_is_the_first_of_whomever_it_knows() {
        for number in 0..=255 {
            let first = (0..12)
                .find(|&node| !outranked(NodeId(node), &stem(number), others(node)))
                .unwrap();
            for known in 0..12 {
                assert!(!outranked(NodeId(first), &stem(number), others(first).take(known)));
            }
        }
        assert!(!outranked(NodeId(1), &stem(1), []), "the only copy is kept");
    }

    #[test]
    fn a_stretch_is_no_longer_than_the_window() {
        let stems: Vec<u32> = (0..130).filter(|&depth| is_stem(depth)).collect();
        assert_eq!(stems, [0, 1, 2, 4, 8, 16, 32, 64, 96, 128]);
    }
}
