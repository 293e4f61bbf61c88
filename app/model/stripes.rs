//! Finds the likeliest tokens after several rows, stripe by stripe of the vocabulary: the output
//! matrix is read once for all rows, and at most one stripe of their logits is in memory.
//!
//! Promise: the logits are bit-identical to those computed all at once, and no wanted token is left
//! out.

use core::cmp::Ordering;

use crate::kernels::Likely;

use super::Wanted;

/// Output rows of a stripe. With the rows of the longest draft, a stripe has as many logits as one
/// row has in Gemma's vocabulary.
pub(super) const STRIPE_ROWS: usize = 8_192;

/// The best candidates of one row so far.
pub(super) struct Best<'a> {
    wanted: Wanted<'a>,
    likeliest: Vec<Likely>,
    apart: Vec<Likely>,
    /// Set once `count` candidates are known. A lower logit is not among the likeliest, nor is an
    /// equal one with a higher id.
    floor: Option<f32>,
}

/// Orders by descending logit, then by ascending id.
fn order(a: &Likely, b: &Likely) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

impl<'a> Best<'a> {
    pub(super) fn new(wanted: Wanted<'a>) -> Best<'a> {
        Best { wanted, likeliest: Vec::new(), apart: Vec::new(), floor: None }
    }

    /// Takes the logits of the tokens from `first` on; each call continues where the previous one
    /// ended.
    pub(super) fn take(&mut self, first: usize, logits: &[f32]) {
        let after = first + logits.len();
        let from = self.wanted.apart.partition_point(|id| (*id as usize) < first);
        let to = self.wanted.apart.partition_point(|id| (*id as usize) < after);
        let apart = &self.wanted.apart[from..to];
        self.apart.extend(apart.iter().map(|id| (*id, logits[*id as usize - first])));
        for (id, logit) in (first as u32..).zip(logits.iter().copied()) {
            if self.floor.is_some_and(|floor| logit <= floor) || apart.binary_search(&id).is_ok() {
                continue;
            }
            self.likeliest.push((id, logit));
            if self.likeliest.len() >= 2 * self.wanted.count
                || (self.floor.is_none() && self.likeliest.len() == self.wanted.count)
            {
                self.settle();
            }
        }
    }

    /// Drops all but the `count` likeliest.
    fn settle(&mut self) {
        let count = self.wanted.count;
        if count > 0 && self.likeliest.len() >= count {
            let (_, last, _) = self.likeliest.select_nth_unstable_by(count - 1, order);
            self.floor = Some(last.1);
            self.likeliest.truncate(count);
        }
    }

    /// The wanted logits, sorted by id.
    pub(super) fn all(mut self) -> Vec<Likely> {
        self.settle();
        self.likeliest.append(&mut self.apart);
        self.likeliest.sort_unstable_by_key(|(id, _)| *id);
        self.likeliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_and_those_apart_are_found_whatever_the_stripes() {
        for (seed, stripe) in [(1u32, 1), (2, 7), (3, 64), (4, 1_000)] {
            // Many are equal.
            let logits: Vec<f32> = (0..1_000u32)
                .map(|id| ((id ^ seed).wrapping_mul(2_654_435_761) >> 27) as f32 - 7.0)
                .collect();
            for (count, apart) in [
                (1, &[][..]),
                (1, &[0, 5, 999]),
                (5, &[3, 4, 500, 501]),
                (300, &[7]),
                (2_000, &[1, 2]),
            ] {
                let mut best = Best::new(Wanted { count, apart });
                logits
                    .chunks(stripe)
                    .enumerate()
                    .for_each(|(at, part)| best.take(at * stripe, part));
                let mut all: Vec<Likely> = (0..)
                    .zip(logits.iter().copied())
                    .filter(|(id, _)| !apart.contains(id))
                    .collect();
                all.sort_by(order);
                all.truncate(count);
                all.extend(apart.iter().map(|id| (*id, logits[*id as usize])));
                all.sort_by_key(|(id, _)| *id);
                assert_eq!(
                    best.all(),
                    all,
                    "{count} likeliest, {apart:?} apart, stripes of {stripe}"
                );
            }
        }
    }
}
