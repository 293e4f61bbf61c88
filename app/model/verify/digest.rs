//! Digests of every bit that a model computed, one for the logits and one for the KV state. Two
//! machines that print the same digests for the same directory computed identical results and may
//! serve blocks to one another.

use core::fmt;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use super::handover::pack;
use crate::kv::{Plane, Sequence};
use crate::limits::BLOCK_TOKENS;

/// XXH3-128 in hexadecimal, over the golden sequences in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Digests {
    /// Of the logits of every position, as little-endian f32.
    pub logits: String,
    /// Of the KV bytes of every token, block by block, in transfer encoding: first a block's global
    /// plane, then its sliding one.
    pub kv: String,
}

impl fmt::Display for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logits {}, KV {}", self.logits, self.kv)
    }
}

/// Digests under construction.
#[derive(Default)]
pub(super) struct Digester {
    logits: Xxh3Default,
    kv: Xxh3Default,
}

impl Digester {
    /// Adds the `logits` of a sequence and the state of its first `tokens` tokens in `pages`.
    pub(super) fn sequence(&mut self, logits: &[f32], pages: &Sequence, tokens: usize) {
        logits.iter().for_each(|logit| self.logits.update(&logit.to_le_bytes()));
        for (index, block) in pages.blocks.iter().enumerate() {
            let count = tokens.saturating_sub(index * BLOCK_TOKENS).min(BLOCK_TOKENS);
            for plane in Plane::ALL {
                if let Some(page) = block.plane(plane) {
                    self.kv.update(&pack(&pages.shape, plane, count, page));
                }
            }
        }
    }

    pub(super) fn finish(&self) -> Digests {
        let text = |hash: &Xxh3Default| format!("{:032x}", hash.digest128());
        Digests { logits: text(&self.logits), kv: text(&self.kv) }
    }
}
