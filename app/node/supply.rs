//! From tokens to what the planner asks: which block of a prompt is held where.

use crate::cache::{Chain, Link};
use crate::id::{Millis, TokenId};
use crate::kv::Plane;
use crate::limits::{BLOCK_TOKENS, MAX_PEERS};
use crate::planner::{self, BlockSupply, Costs, PeerRate, Plan};

use super::Node;

/// The blocks that a plan speaks of: full blocks from the first token on, then at most one ragged block.
pub(super) struct Supply {
    pub links: Vec<Link>,
    pub blocks: Vec<BlockSupply>,
}

impl Supply {
    /// Forgets all but the first `blocks` blocks.
    pub(super) fn truncate(&mut self, blocks: usize) {
        self.links.truncate(blocks);
        self.blocks.truncate(blocks);
    }
}

impl Node {
    /// Looks up every block of `chain` here, and where `ask_peers`, in the peers' filters. After the last full block that anyone
    /// has, the longest ragged block of the same tokens is looked for too: an earlier, shorter prompt may have ended there.
    pub(super) fn supply(&self, chain: &Chain, tokens: &[TokenId], ask_peers: bool) -> Supply {
        let mut supply = Supply { links: Vec::new(), blocks: Vec::new() };
        if !self.config.reuse {
            return supply;
        }
        for link in &chain.blocks {
            let block = self.supply_of(link, ask_peers);
            if !available(&block, Plane::Global) {
                break;
            }
            supply.links.push(link.clone());
            supply.blocks.push(block);
        }
        let covered = supply.links.len() * BLOCK_TOKENS;
        let parent = supply.links.last().map_or(self.root, |link| link.key);
        let rest = &tokens[covered..tokens.len().min(covered + BLOCK_TOKENS - 1)];
        for len in (1..=rest.len()).rev() {
            let link = crate::cache::link(&self.secret, parent, &rest[..len]);
            let block = self.supply_of(&link, ask_peers);
            if available(&block, Plane::Global) {
                supply.links.push(link);
                supply.blocks.push(block);
                break;
            }
        }
        supply
    }

    fn supply_of(&self, link: &Link, ask_peers: bool) -> BlockSupply {
        let tokens = link.tokens.len();
        let bytes = Plane::ALL.map(|plane| self.config.shape.plane_bytes(plane, tokens));
        let own = Plane::ALL.map(|plane| self.cache.holds(link, plane));
        let mut peers = [heapless::Vec::new(), heapless::Vec::new()];
        for plane in Plane::ALL {
            if ask_peers && !own[plane as usize] {
                // The filter may name more holders than a plan can use; the first few are as good as any.
                for node in self.catalog.holders(&link.key, plane) {
                    if peers[plane as usize].push(node).is_err() {
                        break;
                    }
                }
            }
        }
        BlockSupply { tokens, bytes, own, peers }
    }

    /// What to take from here, what to fetch, what to compute.
    pub(super) fn plan(&self, supply: &Supply, total_tokens: usize, ask_peers: bool, now: Millis) -> Plan {
        let mut peers: heapless::Vec<PeerRate, MAX_PEERS> = heapless::Vec::new();
        if ask_peers {
            peers.extend(self.catalog.peers().take(MAX_PEERS).map(|peer| self.rates.peer(peer.node, now)));
        }
        let costs = Costs { prefill_tokens_per_s: self.rates.prefill_tokens_per_s(), link_bytes_per_s: None, peers: &peers };
        planner::plan(&supply.blocks, total_tokens, |resume| self.config.shape.first_sliding(resume), &costs)
    }
}

fn available(block: &BlockSupply, plane: Plane) -> bool {
    let at = plane as usize;
    block.own[at] || !block.peers[at].is_empty() || block.bytes[at] == 0
}
