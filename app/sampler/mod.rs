//! Chooses a token from logits: the likeliest (greedy), or a draw from the likeliest.
//!
//! Promise: the token is a pure function of the logits, the settings, the preceding tokens and its
//! position. There is no state: the random number at a position is a hash of seed and position, so
//! an answer can be resumed anywhere, on any machine, with the same tokens. NaN logits never win
//! and never panic.
//!
//! The order of steps is Hugging Face's: the repetition penalty, temperature, the `top_k`
//! likeliest, then the fewest of these that hold `top_p`.

mod likely;
mod repeat;

use core::cmp::Ordering;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::TokenId;
use crate::limits::{MAX_REPEAT_PENALTY, MAX_REPEAT_TOKENS, MAX_TEMPERATURE};

pub use repeat::Repeat;

/// How a token is chosen.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Sampling {
    /// Divides the logits: values below 1 make likely tokens likelier. 0 takes the likeliest
    /// (greedy).
    pub temperature: f32,
    /// Draws from the `top_k` likeliest tokens; 0 draws from all.
    pub top_k: usize,
    /// Draws from the fewest likeliest tokens whose probabilities sum to this; 1 draws from all.
    pub top_p: f32,
    /// Equal seeds give equal draws.
    pub seed: u64,
    /// The repetition penalty for recent tokens.
    #[serde(flatten)]
    pub repeat: Repeat,
}

/// Settings outside their ranges.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum SamplingError {
    /// Negative, too high or NaN.
    #[error("temperature is {0}; it must be from 0 (greedy) to {MAX_TEMPERATURE}")]
    Temperature(f32),
    /// Not a probability, or one that excludes every token.
    #[error("top-p is {0}; it must be above 0 and at most 1 (all tokens)")]
    TopP(f32),
    /// Not above 0, too high, or NaN.
    #[error(
        "repeat-penalty is {0}; it must be above 0 and at most {MAX_REPEAT_PENALTY} (1 is off)"
    )]
    RepeatPenalty(f32),
    /// Longer than any context.
    #[error("repeat-last-n is {0}; it must be at most {MAX_REPEAT_TOKENS} (0 is off)")]
    RepeatLastN(usize),
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling::GREEDY
    }
}

/// A token that may be drawn, and its logit, which is never NaN.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Candidate {
    /// Orders by descending logit, then by ascending id, so that the order never depends on how the
    /// tokens were found.
    fn order(&self, other: &Candidate) -> Ordering {
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0, repeat: Repeat::OFF };

    /// Settings within their ranges, without a repetition penalty.
    ///
    /// # Errors
    /// [`SamplingError`], which states the valid range.
    pub fn new(
        temperature: f32,
        top_k: usize,
        top_p: f32,
        seed: u64,
    ) -> Result<Sampling, SamplingError> {
        if !(0.0..=MAX_TEMPERATURE).contains(&temperature) {
            return Err(SamplingError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingError::TopP(top_p));
        }
        Ok(Sampling { temperature, top_k, top_p, seed, repeat: Repeat::OFF })
    }

    /// Chooses the token that follows `position` tokens. `recent` holds at least the last of them
    /// that [`Repeat::recent`] asks for. `logits` has one value per row of the vocabulary, at least
    /// one; the repetition penalty modifies them.
    pub(crate) fn sample(
        &self,
        logits: &mut [f32],
        recent: &[TokenId],
        position: usize,
    ) -> TokenId {
        self.repeat.apply(logits, recent);
        self.draw(logits, position)
    }

    fn draw(&self, logits: &[f32], position: usize) -> TokenId {
        let top_k = if self.top_k == 0 { logits.len() } else { self.top_k.min(logits.len()) };
        self.draw_from((0..).zip(logits.iter().copied()), logits.len(), top_k, position)
    }

    /// Draws from the `top_k` likeliest of `vocab` tokens. `logits` has at least every token that
    /// can be among these, sorted by id.
    fn draw_from(
        &self,
        logits: impl Numbered,
        vocab: usize,
        top_k: usize,
        position: usize,
    ) -> TokenId {
        let (best, highest) = greedy(logits.clone());
        // If even the best logit is minus infinity, there is nothing to draw from.
        let is_drawn = self.temperature > 0.0 && self.top_k != 1 && highest > f32::NEG_INFINITY;
        if !is_drawn {
            return best;
        }
        let weigh = Weigh { best: highest, temperature: self.temperature };
        let draw = uniform(self.seed, position);
        if top_k == vocab && self.top_p >= 1.0 {
            return among_all(logits, &weigh, draw);
        }
        let candidates = nucleus(logits, top_k, vocab, self.top_p, &weigh);
        among(&candidates, &weigh, draw)
    }
}

/// Logits with their tokens' ids, in ascending order of id.
trait Numbered: Iterator<Item = (u32, f32)> + Clone {}

impl<I: Iterator<Item = (u32, f32)> + Clone> Numbered for I {}

/// The highest logit and its token; of equals, the first. The first token if no logit is above
/// minus infinity.
fn greedy(logits: impl Numbered) -> (TokenId, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in logits {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    (TokenId(best.0), best.1)
}

/// Computes the weight of a logit's token relative to the likeliest token's weight of 1.
struct Weigh {
    best: f32,
    temperature: f32,
}

impl Weigh {
    fn weight(&self, logit: f32) -> f64 {
        if logit == self.best {
            1.0
        } else if logit < self.best {
            f64::from(libm::expf((logit - self.best) / self.temperature))
        } else {
            0.0
        }
    }
}

/// A number from 0 (included) to 1 (excluded), the same for the same seed and position.
fn uniform(seed: u64, position: usize) -> f64 {
    let bits = xxh3_64_with_seed(&(position as u64).to_le_bytes(), seed);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws from every token.
fn among_all(logits: impl Numbered, weigh: &Weigh, draw: f64) -> TokenId {
    let total: f64 = logits.clone().map(|(_, logit)| weigh.weight(logit)).sum();
    pick(logits, weigh, draw * total)
}

/// Draws from the candidates.
fn among(candidates: &[Candidate], weigh: &Weigh, draw: f64) -> TokenId {
    let total: f64 = candidates.iter().map(|candidate| weigh.weight(candidate.logit)).sum();
    pick(candidates.iter().map(|candidate| (candidate.id, candidate.logit)), weigh, draw * total)
}

/// The token whose share of the total contains the drawn weight. A token without weight is never
/// chosen.
fn pick(tokens: impl Iterator<Item = (u32, f32)>, weigh: &Weigh, drawn: f64) -> TokenId {
    let mut sum = 0.0;
    let mut last = 0;
    for (id, logit) in tokens {
        let weight = weigh.weight(logit);
        if weight > 0.0 {
            sum += weight;
            last = id;
            if drawn < sum {
                break;
            }
        }
    }
    TokenId(last)
}

/// The fewest of the `top_k` likeliest tokens that hold `top_p` of their probability, sorted by
/// descending logit; at least one.
///
/// If all tokens are allowed, a few hundred nearly always hold it, so only 256 are sorted at first.
/// If they do not suffice, eight times as many are.
fn nucleus(
    logits: impl Numbered,
    top_k: usize,
    vocab: usize,
    top_p: f32,
    weigh: &Weigh,
) -> Vec<Candidate> {
    let is_limited = top_k < vocab;
    let mut count = if is_limited { top_k } else { top_k.min(256) };
    let mut candidates = likeliest(logits.clone(), count, vocab);
    let total: f64 = if is_limited {
        candidates.iter().map(|candidate| weigh.weight(candidate.logit)).sum()
    } else {
        logits.clone().map(|(_, logit)| weigh.weight(logit)).sum()
    };
    let enough = f64::from(top_p) * total;
    loop {
        let mut sum = 0.0;
        let reached = candidates.iter().position(|candidate| {
            sum += weigh.weight(candidate.logit);
            sum >= enough
        });
        if let Some(last) = reached {
            candidates.truncate(last + 1);
        } else if count < top_k {
            count = top_k.min(count * 8);
            candidates = likeliest(logits.clone(), count, vocab);
            continue;
        }
        return candidates;
    }
}

/// The `count` highest logits, sorted. A single pass that keeps at most twice `count`.
fn likeliest(logits: impl Numbered, count: usize, vocab: usize) -> Vec<Candidate> {
    let room = vocab.min(2 * count);
    let mut kept: Vec<Candidate> = Vec::with_capacity(room);
    let mut floor = f32::NEG_INFINITY;
    for (id, logit) in logits {
        // At the floor, the earlier ids have been kept already. NaN is never above it.
        if logit > floor {
            kept.push(Candidate { id, logit });
            if kept.len() == room && room > count {
                kept.select_nth_unstable_by(count - 1, Candidate::order);
                kept.truncate(count);
                floor = kept[count - 1].logit;
            }
        }
    }
    kept.sort_unstable_by(Candidate::order);
    kept.truncate(count);
    kept
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the expected values are computed another way")]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for position in 0..draws {
            counts[sampling.draw(logits, position).0 as usize] += 1;
        }
        counts
    }

    /// Many logits with ties, like those of a large vocabulary.
    fn many(count: usize) -> Vec<f32> {
        (0..count as u64)
            .map(|id| (uniform(7, id as usize) * 4000.0).floor() as f32 / 200.0)
            .collect()
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(
            Sampling::GREEDY.draw(&[0.5, 2.0, 2.0, -1.0], 0),
            TokenId(1),
            "answers would differ between builds"
        );
        assert_eq!(Sampling::GREEDY.draw(&[-0.0, 0.0], 3), TokenId(0));
    }

    #[test]
    fn the_penalty_turns_a_loop_into_another_token_and_off_it_is_not_there() {
        let logits = [1.0_f32, 1.5, 1.2];
        let before = [TokenId(1), TokenId(1)];
        let sample = |sampling: Sampling| sampling.sample(&mut logits.clone(), &before, 2);
        assert_eq!(sample(Sampling::GREEDY), TokenId(1));
        let repeat = Repeat::new(1.3, 64).unwrap();
        assert_eq!(sample(Sampling { repeat, ..Sampling::GREEDY }), TokenId(2));
        let hot = Sampling {
            repeat: Repeat::new(10.0, 2).unwrap(),
            ..Sampling::new(0.05, 0, 1.0, 1).unwrap()
        };
        assert!((0..200).all(|at| hot.sample(&mut logits.clone(), &before, at) != TokenId(1)));
    }

    #[test]
    fn damaged_logits_never_win_and_never_panic() {
        let hot = Sampling::new(1.5, 3, 0.9, 1).unwrap();
        let all = Sampling::new(1.5, 0, 1.0, 1).unwrap();
        for position in 0..200 {
            for sampling in [Sampling::GREEDY, hot, all] {
                let id =
                    sampling.draw(&[f32::NAN, 1.0, f32::NAN, 0.9, f32::NEG_INFINITY], position);
                assert!(id == TokenId(1) || id == TokenId(3), "{id:?} has a NaN or infinite logit");
                assert_eq!(sampling.draw(&[f32::NAN; 4], position), TokenId(0));
                assert_eq!(sampling.draw(&[f32::NEG_INFINITY; 4], position), TokenId(0));
                assert_eq!(sampling.draw(&[3.0, f32::INFINITY, 1.0], position), TokenId(1));
                assert_eq!(sampling.draw(&[f32::NAN], position), TokenId(0));
            }
        }
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [1.0_f32, 0.0, 2.0, -1.0];
        let draws = 40_000;
        for temperature in [0.5_f32, 1.0, 2.0] {
            let weights = logits.map(|logit| f64::from(logit / temperature).exp());
            let total: f64 = weights.iter().sum();
            // The last two go through the sorted candidates, with practically every token allowed.
            for (top_k, top_p) in [(0, 1.0), (4, 1.0), (0, 0.999_999)] {
                let counts =
                    counts(&Sampling::new(temperature, top_k, top_p, 42).unwrap(), &logits, draws);
                for (count, weight) in counts.iter().zip(weights) {
                    let off = *count as f64 / draws as f64 - weight / total;
                    assert!(
                        off.abs() < 0.01,
                        "a token's frequency is off by {off:+} at temperature {temperature}"
                    );
                }
            }
        }
    }

    #[test]
    fn top_k_draws_from_k_tokens() {
        let logits = many(5_000);
        for k in [1, 2, 7, 300] {
            let mut order: Vec<u32> = (0..5_000).collect();
            order
                .sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
            let allowed = &order[..k];
            let sampling = Sampling::new(50.0, k, 1.0, 3).unwrap();
            let drawn: std::collections::BTreeSet<u32> =
                (0..4_000).map(|at| sampling.draw(&logits, at).0).collect();
            assert!(
                drawn.iter().all(|id| allowed.contains(id)),
                "top-k let an unlikely token through"
            );
            assert!(drawn.len() > k * 9 / 10, "top-k of {k} only ever draws {}", drawn.len());
        }
    }

    #[test]
    fn top_p_draws_from_the_fewest_that_hold_it() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.125_f32.ln(), 0.125_f32.ln()];
        let drawn = |top_p| {
            let counts = counts(&Sampling::new(1.0, 0, top_p, 9).unwrap(), &logits, 4_000);
            counts.iter().map(|count| *count > 0).collect::<Vec<_>>()
        };
        assert_eq!(drawn(0.3), [false, true, false, false], "the likeliest token alone holds 0.3");
        assert_eq!(drawn(0.6), [true, true, false, false]);
        assert_eq!(drawn(0.8), [true, true, true, false], "of equals the lower id comes first");
        assert_eq!(drawn(1.0), [true, true, true, true]);
    }

    #[test]
    fn top_p_counts_within_top_k() {
        // Within the two likeliest the shares are 2/3 and 1/3.
        let logits = [0.25_f32.ln(), 0.5_f32.ln(), 0.125_f32.ln(), 0.125_f32.ln()];
        let first = counts(&Sampling::new(1.0, 2, 0.6, 9).unwrap(), &logits, 1_000);
        assert_eq!(first, [0, 1_000, 0, 0]);
        let both = counts(&Sampling::new(1.0, 2, 0.7, 9).unwrap(), &logits, 1_000);
        assert!(both[0] > 0 && both[1] > both[0] && both[2] == 0);
    }

    #[test]
    fn a_flat_distribution_needs_most_tokens() {
        let flat = vec![1.0; 5_000];
        let weigh = Weigh { best: 1.0, temperature: 1.0 };
        assert_eq!(
            nucleus((0..).zip(flat.iter().copied()), 5_000, 5_000, 0.9, &weigh).len(),
            4_500,
            "top-p must widen its search"
        );
        assert_eq!(nucleus((0..).zip(flat.iter().copied()), 1_000, 5_000, 0.5, &weigh).len(), 500);
    }

    #[test]
    fn the_likeliest_are_those_of_a_full_sort() {
        let logits = many(3_000);
        let mut sorted: Vec<u32> = (0..3_000).collect();
        sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        for count in [1, 2, 63, 64, 1_500, 1_501, 2_999, 3_000] {
            let found: Vec<u32> = likeliest((0..).zip(logits.iter().copied()), count, logits.len())
                .iter()
                .map(|candidate| candidate.id)
                .collect();
            assert_eq!(found, sorted[..count], "the {count} likeliest");
        }
    }

    #[test]
    fn an_answer_can_be_resumed_anywhere() {
        let logits = many(1_000);
        let sampling = Sampling::new(0.8, 40, 0.95, 2026).unwrap();
        let whole: Vec<TokenId> =
            (0..64).map(|position| sampling.draw(&logits, position)).collect();
        let resumed: Vec<TokenId> =
            (32..64).map(|position| sampling.draw(&logits, position)).collect();
        assert_eq!(whole[32..], resumed);
        let other = Sampling { seed: 2027, ..sampling };
        assert!(
            (0..64).any(|position| other.draw(&logits, position) != whole[position]),
            "the seed must matter"
        );
    }

    /// Golden: boards and PCs, this version and later ones, draw the same numbers.
    #[test]
    fn draws_never_change() {
        let sampling = Sampling::new(1.0, 0, 1.0, 1).unwrap();
        let drawn: Vec<u32> =
            (0..8).map(|position| sampling.draw(&[0.0; 1_000], position).0).collect();
        assert_eq!(drawn, [618, 521, 90, 467, 179, 848, 455, 640]);
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        assert!(
            Sampling::new(-1.0, 0, 1.0, 0).unwrap_err().to_string().contains("from 0 (greedy)")
        );
        assert!(Sampling::new(f32::NAN, 0, 1.0, 0).is_err());
        assert!(Sampling::new(f32::INFINITY, 0, 1.0, 0).is_err());
        assert!(Sampling::new(1.0, 0, 0.0, 0).unwrap_err().to_string().contains("top-p is 0"));
        assert!(Sampling::new(1.0, 0, 1.1, 0).is_err());
        assert!(Sampling::new(1.0, 0, f32::NAN, 0).is_err());
    }
}
