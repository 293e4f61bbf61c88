//! The repetition penalty: makes tokens that the text has just used less likely.
//!
//! Promise: a pure function of the logits, the setting and the recent tokens. No other logit
//! changes, and with a penalty of 1 none changes at all.
//!
//! The definition is the one that llama.cpp and Hugging Face share (Keskar et al., arXiv
//! 1909.05858, section 4.1, extended to handle the sign): the logit of every token among the last
//! `last_n` is divided by the penalty if it is positive and multiplied by it otherwise. A token
//! counts once, however often it occurs. The prompt's tokens count like the answer's.

use serde::Serialize;

use crate::id::TokenId;
use crate::limits::{MAX_REPEAT_PENALTY, MAX_REPEAT_TOKENS};

use super::SamplingError;

/// How strongly repetition is discouraged, and how far back it looks.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Repeat {
    /// Above 1 discourages recent tokens, below 1 encourages them; 1 changes nothing.
    #[serde(rename = "repeat_penalty")]
    penalty: f32,
    /// Number of latest tokens that count.
    #[serde(rename = "repeat_last_n")]
    last_n: usize,
}

impl Repeat {
    /// llama.cpp's default.
    pub(crate) const DEFAULT_LAST_N: usize = 64;

    /// No penalty.
    pub(crate) const OFF: Repeat = Repeat { penalty: 1.0, last_n: Repeat::DEFAULT_LAST_N };

    /// Settings within their ranges.
    ///
    /// # Errors
    /// [`SamplingError`], which states the valid range.
    pub fn new(penalty: f32, last_n: usize) -> Result<Repeat, SamplingError> {
        if !(penalty > 0.0 && penalty <= MAX_REPEAT_PENALTY) {
            return Err(SamplingError::RepeatPenalty(penalty));
        }
        if last_n > MAX_REPEAT_TOKENS {
            return Err(SamplingError::RepeatLastN(last_n));
        }
        Ok(Repeat { penalty, last_n })
    }

    /// The factor by which a recent token's logit is divided or multiplied.
    pub(crate) fn penalty(self) -> f32 {
        self.penalty
    }

    /// Number of latest tokens that count.
    pub(crate) fn last_n(self) -> usize {
        self.last_n
    }

    /// The part of the preceding tokens `before` that the penalty needs; empty if the penalty
    /// changes nothing.
    pub(crate) fn recent(self, before: &[TokenId]) -> &[TokenId] {
        let count = if self.penalty == 1.0 { 0 } else { self.last_n.min(before.len()) };
        &before[before.len() - count..]
    }

    /// Modifies the logits of the last `last_n` tokens in `before`. Ignores tokens beyond the
    /// vocabulary, which have no logit.
    pub(super) fn apply(self, logits: &mut [f32], before: &[TokenId]) {
        let mut ids: Vec<u32> = self.recent(before).iter().map(|token| token.0).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = self.changed(*logit);
            }
        }
    }

    /// The modified logit of a recent token.
    pub(super) fn changed(self, logit: f32) -> f32 {
        if logit > 0.0 { logit / self.penalty } else { logit * self.penalty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().copied().map(TokenId).collect()
    }

    fn penalized(penalty: f32, last_n: usize, logits: &[f32], before: &[u32]) -> Vec<f32> {
        let mut logits = logits.to_vec();
        Repeat::new(penalty, last_n).unwrap().apply(&mut logits, &tokens(before));
        logits
    }

    #[test]
    fn positive_logits_are_divided_and_others_multiplied_once_each() {
        let logits = [4.0, -1.0, 0.0, 3.0, -0.0];
        assert_eq!(penalized(2.0, 64, &logits, &[0, 1, 2, 4, 0, 0]), [2.0, -2.0, 0.0, 3.0, -0.0]);
        assert_eq!(penalized(0.5, 64, &logits, &[0, 1]), [8.0, -0.5, 0.0, 3.0, -0.0]);
    }

    #[test]
    fn only_the_latest_tokens_count() {
        let logits = [4.0, 4.0, 4.0, 4.0];
        assert_eq!(penalized(2.0, 2, &logits, &[0, 1, 2, 3]), [4.0, 4.0, 2.0, 2.0]);
        assert_eq!(penalized(2.0, 0, &logits, &[0, 1, 2, 3]), logits);
        assert_eq!(penalized(2.0, MAX_REPEAT_TOKENS, &logits, &[3]), [4.0, 4.0, 4.0, 2.0]);
    }

    /// Answers without the setting must stay the same, whatever the logits.
    #[test]
    fn a_penalty_of_one_changes_no_bit() {
        let logits: Vec<f32> =
            (0..4_000_u32).map(|at| f32::from_bits(at.wrapping_mul(0x9e37_79b9))).collect();
        let before: Vec<u32> = (0..4_000).collect();
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&penalized(1.0, MAX_REPEAT_TOKENS, &logits, &before)), bits(&logits));
        assert!(
            Repeat::OFF.recent(&tokens(&before)).is_empty(),
            "tokens that change nothing need not be kept"
        );
    }

    #[test]
    fn damaged_logits_and_tokens_outside_the_vocabulary_do_no_harm() {
        let logits = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN];
        let after = penalized(10.0, 64, &logits, &[0, 1, 2, 3, 4, 5, u32::MAX]);
        assert!(after[0].is_nan());
        assert_eq!(
            after[1..],
            [f32::INFINITY, f32::NEG_INFINITY, f32::MAX / 10.0, f32::NEG_INFINITY]
        );
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        for penalty in [0.0, -1.0, f32::NAN, f32::INFINITY, MAX_REPEAT_PENALTY * 1.01] {
            assert!(
                Repeat::new(penalty, 64).unwrap_err().to_string().contains("1 is off"),
                "{penalty}"
            );
        }
        assert!(
            Repeat::new(1.1, MAX_REPEAT_TOKENS + 1).unwrap_err().to_string().contains("at most")
        );
    }
}
