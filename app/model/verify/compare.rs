//! Compares one model with golden logits and continuations.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::golden::Golden;
use crate::id::TokenId;
use crate::kv::Sequence;
use crate::model::{Logits, Model, ModelError};

/// How far a model is from the golden results.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Compared {
    /// Positions whose logits were compared.
    pub positions: usize,
    /// The largest absolute difference of a logit.
    pub largest_error: f32,
    /// The share of positions whose likeliest token is the same.
    pub argmax_agreement: f64,
    /// Mean Kullback-Leibler divergence from the golden distribution, in nats.
    pub mean_kl: f64,
    /// Greedy tokens compared, over all sequences.
    pub greedy_tokens: usize,
    /// How many of them match the golden ones before the first mismatch.
    pub greedy_agreeing: usize,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compared {
            largest_error,
            argmax_agreement,
            mean_kl,
            greedy_tokens,
            greedy_agreeing,
            ..
        } = self;
        let greedy = if *greedy_tokens == 0 {
            "-".into()
        } else {
            format!("{greedy_agreeing}/{greedy_tokens}")
        };
        write!(f, "{largest_error:>13.2e} {argmax_agreement:>9.4} {mean_kl:>10.2e} {greedy:>11}")
    }
}

/// Sums over positions, before division.
#[derive(Default)]
pub(super) struct Tally {
    compared: Compared,
    same: usize,
    kl: f64,
}

impl Tally {
    /// Adds the positions of `ours` against `right`, both rows of `vocab` logits.
    pub(super) fn logits(&mut self, ours: &[f32], right: &[f32], vocab: usize) {
        for (ours, right) in ours.chunks_exact(vocab).zip(right.chunks_exact(vocab)) {
            self.compared.positions += 1;
            let error = ours.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, largest);
            self.compared.largest_error = largest(self.compared.largest_error, error);
            self.same += usize::from(argmax(ours) == argmax(right));
            self.kl += divergence(right, ours);
        }
    }

    /// Adds a greedy continuation.
    pub(super) fn greedy(&mut self, ours: &[TokenId], right: &[TokenId]) {
        self.compared.greedy_tokens += right.len();
        self.compared.greedy_agreeing += ours.iter().zip(right).take_while(|(a, b)| a == b).count();
    }

    pub(super) fn finish(self) -> Compared {
        let positions = self.compared.positions.max(1) as f64;
        Compared {
            argmax_agreement: self.same as f64 / positions,
            mean_kl: self.kl / positions,
            ..self.compared
        }
    }
}

/// The greater of two numbers; NaN counts as greater than all.
fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// The likeliest token; of equals, the first.
pub(in crate::model) fn argmax(logits: &[f32]) -> usize {
    logits
        .iter()
        .enumerate()
        .fold(0, |best, (i, value)| if *value > logits[best] { i } else { best })
}

/// KL(right ‖ ours) of the distributions given by two rows of logits.
pub(in crate::model) fn divergence(right: &[f32], ours: &[f32]) -> f64 {
    let (right_sum, ours_sum) = (log_sum(right), log_sum(ours));
    let log_ratio = |(a, b): (&f32, &f32)| {
        let right = f64::from(*a) - right_sum;
        libm::exp(right) * (right - (f64::from(*b) - ours_sum))
    };
    right.iter().zip(ours).map(log_ratio).sum::<f64>().max(0.0)
}

/// The logarithm of the sum of the exponentials. Minus a logit, it is the negative log-likelihood
/// of that logit's token.
#[expect(clippy::disallowed_methods, reason = "a figure for people; no state depends on it")]
pub(in crate::model) fn log_sum(row: &[f32]) -> f64 {
    let top = row.iter().fold(f64::NEG_INFINITY, |top, value| top.max(f64::from(*value)));
    top + row.iter().map(|value| libm::exp(f64::from(*value) - top)).sum::<f64>().ln()
}

/// Runs all of `golden`, compares the logits with `right`, and returns them.
pub(super) fn sequence(
    model: &Model,
    pages: &Arc<Sequence>,
    golden: &Golden,
    right: &[f32],
    tally: &mut Tally,
) -> Result<Vec<f32>, ModelError> {
    let logits = model.forward(&golden.ids, 0, pages, Logits::All)?;
    tally.logits(&logits, right, model.config().vocab);
    Ok(logits)
}

/// Continues `golden` greedily, token by token.
pub(super) fn greedy(
    model: &Model,
    pages: &Arc<Sequence>,
    golden: &Golden,
    tally: &mut Tally,
) -> Result<(), ModelError> {
    let mut tokens = Vec::with_capacity(golden.greedy.len());
    let mut next = golden.ids.clone();
    let mut first = 0;
    while tokens.len() < golden.greedy.len() {
        let logits = model.forward(&next, first, pages, Logits::Last(1))?;
        first += next.len();
        let token = TokenId(argmax(&logits) as u32);
        tokens.push(token);
        next = vec![token];
    }
    tally.greedy(&tokens, &golden.greedy);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the expected values are computed another way")]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_row_is_seen_and_nan_is_never_small() {
        let mut tally = Tally::default();
        tally.logits(&[0.0, 1.0, 2.0, 5.0], &[0.0, 1.0, 4.0, 3.0], 2);
        let compared = tally.finish();
        assert_eq!(
            (compared.positions, compared.largest_error, compared.argmax_agreement),
            (2, 2.0, 0.5)
        );
        // KL of (e/(1+e), 1/(1+e)) from (1/(1+e^3), e^3/(1+e^3)), halved because the other row
        // agrees.
        let (p, q) = (1.0 / (1.0 + (-1.0f64).exp()), 1.0 / (1.0 + 3f64.exp()));
        let kl = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        assert!((compared.mean_kl - kl / 2.0).abs() < 1e-9, "{}", compared.mean_kl);
        let mut tally = Tally::default();
        tally.logits(&[f32::NAN, 1.0], &[0.0, 1.0], 2);
        assert!(tally.finish().largest_error.is_nan());
    }
}
