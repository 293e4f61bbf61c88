//! Hands a prefix's KV state from one sequence to another, as between nodes: packed block by block,
//! unpacked into fresh pages, continued there. The result must be bit-identical to computing
//! everything in one place.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::id::TokenId;
use crate::kv::{BlockPages, KvShape, Page, Plane, Sequence, copy_tokens};
use crate::limits::BLOCK_TOKENS;
use crate::model::{Logits, Model, ModelError};

/// Splits tried per sequence; a longer list is thinned evenly.
const MAX_SPLITS: usize = 96;

/// The result of handing over prefixes at many splits.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Handover {
    /// Splits at which a prefix was handed over.
    pub splits: usize,
    /// Splits for which every later logit and every KV byte was bit-identical.
    pub identical: usize,
    /// The first difference, as "sequence 3 of 101 tokens at 48: logits".
    pub first_difference: Option<String>,
}

/// The pages of three sequences, allocated once and reused for every split.
pub(super) struct Bench {
    whole: Arc<Sequence>,
    donor: Arc<Sequence>,
    receiver: Arc<Sequence>,
}

impl Bench {
    pub(super) fn new(shape: &Arc<KvShape>, tokens: usize) -> Bench {
        let make = || Arc::new(Sequence::private(shape, tokens));
        Bench { whole: make(), donor: make(), receiver: make() }
    }

    /// Pages for runs without a hand-over.
    pub(super) fn pages(&self) -> &Arc<Sequence> {
        &self.whole
    }

    /// Hands over `ids` at every split worth trying.
    pub(super) fn hand_over(
        &self,
        model: &Model,
        number: usize,
        ids: &[TokenId],
        result: &mut Handover,
    ) -> Result<(), ModelError> {
        let vocab = model.config().vocab;
        spoil(&self.whole);
        let miss = model.forward(ids, 0, &self.whole, Logits::All)?;
        for split in splits(ids.len(), model.kv_shape().window()) {
            spoil(&self.donor);
            model.forward(&ids[..split], 0, &self.donor, Logits::None)?;
            let receiver = self.receive(model.kv_shape(), split);
            let hit = model.forward(&ids[split..], split, &receiver, Logits::All)?;
            let same_logits = same_bits(&hit, &miss[split * vocab..]);
            let same_state = same_state(&self.whole, &receiver, ids.len());
            result.splits += 1;
            result.identical += usize::from(same_logits && same_state);
            if !(same_logits && same_state) && result.first_difference.is_none() {
                let what = if same_logits { "KV bytes" } else { "logits" };
                let length = ids.len();
                result.first_difference =
                    Some(format!("sequence {number} of {length} tokens at {split}: {what}"));
            }
        }
        Ok(())
    }

    /// The donor's first `split` tokens in pages of the receiver, packed and unpacked on the way.
    /// Sliding planes that are not needed to resume at `split` are absent.
    fn receive(&self, shape: &Arc<KvShape>, split: usize) -> Arc<Sequence> {
        spoil(&self.receiver);
        let needed = shape.first_sliding(split);
        let blocks = self.donor.blocks.iter().zip(&self.receiver.blocks).enumerate().map(
            |(index, (from, to))| {
                let start = index * BLOCK_TOKENS;
                let count = split.saturating_sub(start).min(BLOCK_TOKENS);
                let is_past = start + BLOCK_TOKENS <= needed;
                for plane in Plane::ALL {
                    if let (Some(from), Some(to), true) =
                        (from.plane(plane), to.plane(plane), count > 0)
                    {
                        carry(shape, plane, count, from, to);
                    }
                }
                BlockPages {
                    global: to.global.clone(),
                    sliding: if is_past { None } else { to.sliding.clone() },
                }
            },
        );
        Arc::new(Sequence { shape: shape.clone(), blocks: blocks.collect() })
    }
}

/// Packs `count` tokens like a transfer does, and unpacks them.
fn carry(shape: &KvShape, plane: Plane, count: usize, from: &Page, to: &Page) {
    let packed = pack(shape, plane, count, from);
    copy_tokens(shape, plane, count, (&packed, count), (&mut to.write(), BLOCK_TOKENS));
}

pub(super) fn pack(shape: &KvShape, plane: Plane, count: usize, page: &Page) -> Vec<u8> {
    let mut packed = vec![0; shape.plane_bytes(plane, count)];
    copy_tokens(shape, plane, count, (&page.read(), BLOCK_TOKENS), (&mut packed, count));
    packed
}

/// Fills every page with values that ruin any computation: NaN in either format.
fn spoil(sequence: &Sequence) {
    for block in &sequence.blocks {
        for page in Plane::ALL.iter().filter_map(|&plane| block.plane(plane)) {
            page.write().fill(0xff);
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Whether the first `tokens` tokens have the same bytes in every page present in `hit`.
fn same_state(miss: &Sequence, hit: &Sequence, tokens: usize) -> bool {
    let shape = &miss.shape;
    miss.blocks.iter().zip(&hit.blocks).enumerate().all(|(index, (miss, hit))| {
        let count = tokens.saturating_sub(index * BLOCK_TOKENS).min(BLOCK_TOKENS);
        Plane::ALL.iter().all(|&plane| match (miss.plane(plane), hit.plane(plane)) {
            (Some(miss), Some(hit)) => {
                pack(shape, plane, count, miss) == pack(shape, plane, count, hit)
            }
            _ => true,
        })
    })
}

/// Where a sequence of `tokens` is worth splitting: every block boundary and its neighbours, the
/// window and its neighbours, one token, and all but the last (which is always recomputed).
fn splits(tokens: usize, window: usize) -> Vec<usize> {
    let boundaries = (0..=tokens / BLOCK_TOKENS).map(|block| block * BLOCK_TOKENS);
    let window_ends = [window, 2 * window, window + BLOCK_TOKENS];
    let around = boundaries.chain(window_ends).flat_map(|at| [at.saturating_sub(1), at, at + 1]);
    let all: BTreeSet<usize> = around
        .chain([tokens / 2, tokens - 1])
        .filter(|split| (1..tokens).contains(split))
        .collect();
    let all: Vec<usize> = all.into_iter().collect();
    let step = all.len().div_ceil(MAX_SPLITS).max(1);
    let thinned: BTreeSet<usize> =
        all.iter().copied().step_by(step).chain(all.last().copied()).collect();
    thinned.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_cut_wherever_reuse_could_go_wrong() {
        assert!(splits(1, 32).is_empty());
        assert_eq!(splits(2, 32), [1]);
        assert_eq!(splits(20, 5), [1, 4, 5, 6, 9, 10, 11, 15, 16, 17, 19]);
        let long = splits(8_000, 512);
        assert!(long.len() <= MAX_SPLITS + 1 && long.ends_with(&[7_999]));
    }
}
