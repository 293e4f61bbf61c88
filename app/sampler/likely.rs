//! Chooses a token when only the likeliest logits are known.
//!
//! Promise: if the known logits include every token that can be among the `top_k` likeliest and
//! every token that the repetition penalty changes, the choice is the same as with all logits.

use crate::id::TokenId;

use super::Sampling;

impl Sampling {
    /// How many of the likeliest tokens decide, before any penalty; `None` if the whole vocabulary
    /// does.
    pub(crate) fn looks_at(&self, vocab: usize) -> Option<usize> {
        match self.top_k {
            _ if self.temperature <= 0.0 => Some(1),
            0 => None,
            top_k => (top_k < vocab).then_some(top_k),
        }
    }

    /// The tokens whose likelihood the repetition penalty changes, sorted by id.
    pub(crate) fn penalized(&self, recent: &[TokenId], vocab: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = self.repeat.recent(recent).iter().map(|token| token.0).collect();
        ids.retain(|id| (*id as usize) < vocab);
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Chooses the same token as [`Sampling::sample`] from a vocabulary of `vocab` tokens. `known`
    /// has, sorted by id, the logits of [`Sampling::penalized`] and of all other tokens that can be
    /// among the [`Sampling::looks_at`] likeliest. The penalty modifies them.
    pub(crate) fn sample_likely(
        &self,
        known: &mut [(u32, f32)],
        recent: &[TokenId],
        position: usize,
        vocab: usize,
    ) -> TokenId {
        for id in self.penalized(recent, vocab) {
            if let Ok(at) = known.binary_search_by_key(&id, |(id, _)| *id) {
                known[at].1 = self.repeat.changed(known[at].1);
            }
        }
        self.draw_from(
            known.iter().copied(),
            vocab,
            self.looks_at(vocab).unwrap_or(vocab),
            position,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Repeat;

    /// Logits with many ties; each seed stands for another text.
    fn logits(vocab: usize, seed: u64) -> Vec<f32> {
        (0..vocab)
            .map(|id| (super::super::uniform(seed, id) * 60.0).floor() as f32 / 4.0 - 5.0)
            .collect()
    }

    /// Exactly the logits that must be known, including ties at the edge.
    fn known(sampling: &Sampling, logits: &[f32], recent: &[TokenId]) -> Vec<(u32, f32)> {
        let apart = sampling.penalized(recent, logits.len());
        let mut others: Vec<f32> = (0u32..)
            .zip(logits)
            .filter(|(id, _)| !apart.contains(id))
            .map(|(_, logit)| *logit)
            .collect();
        others.sort_by(|a, b| b.total_cmp(a));
        let least = others[sampling.looks_at(logits.len()).unwrap() - 1];
        (0u32..)
            .zip(logits.iter().copied())
            .filter(|(id, logit)| *logit >= least || apart.contains(id))
            .collect()
    }

    #[test]
    fn the_likeliest_decide_as_all_do() {
        let repeats = [
            Repeat::OFF,
            Repeat::new(1.3, 64).unwrap(),
            Repeat::new(0.5, 8).unwrap(),
            Repeat::new(10.0, 0).unwrap(),
        ];
        let settings = [
            (0.0, 0, 1.0),
            (0.0, 5, 0.5),
            (1.0, 1, 1.0),
            (0.7, 64, 0.95),
            (3.0, 7, 1.0),
            (40.0, 40, 0.3),
        ];
        for (repeat, (temperature, top_k, top_p)) in
            repeats.into_iter().flat_map(|r| settings.map(|s| (r, s)))
        {
            let sampling =
                Sampling { repeat, ..Sampling::new(temperature, top_k, top_p, 77).unwrap() };
            for seed in 0..120 {
                let logits = logits(900, seed);
                let recent: Vec<TokenId> =
                    (0..70).map(|i| TokenId((seed as u32 * 31 + i * 13) % 905)).collect();
                let whole = sampling.sample(&mut logits.clone(), &recent, seed as usize);
                let mut some = known(&sampling, &logits, &recent);
                assert_eq!(
                    sampling.sample_likely(&mut some, &recent, seed as usize, 900),
                    whole,
                    "{sampling:?}, seed {seed}"
                );
                // Knowing more logits than necessary does no harm.
                let mut all: Vec<(u32, f32)> = (0..).zip(logits).collect();
                assert_eq!(sampling.sample_likely(&mut all, &recent, seed as usize, 900), whole);
            }
        }
    }

    #[test]
    fn what_looks_at_everything_says_so() {
        let of =
            |temperature, top_k| Sampling::new(temperature, top_k, 0.9, 0).unwrap().looks_at(1_000);
        assert_eq!(of(0.0, 0), Some(1));
        assert_eq!(of(0.5, 1), Some(1));
        assert_eq!(of(0.5, 64), Some(64));
        assert_eq!([of(0.5, 0), of(0.5, 1_000), of(0.5, 5_000)], [None; 3]);
    }
}
