//! What drafts have cost and saved one answer.
//!
//! Promise: if all its drafts are wrong, an answer takes at most 1.5 steps and 2.5 % longer than
//! without any (a quarter of a step and half a per cent if they are mere guesses), as far as
//! the costs of a step are known. Until they are, a wrong draft is followed by a step of one row,
//! which measures them at no cost.

use super::costs::BELIEVED;
use super::{Costs, Source};

/// Allowed loss on what once followed: steps, and a fraction of the answer's time. Together 5 % of
/// an answer of 64 tokens. With less than 1.5 steps, a machine whose steps of several rows cost
/// more than two of one row (its single rows are quick, as from halves of the output rows) would
/// never try one.
const SOUND: (f32, f32) = (1.5, 0.025);

/// The same for guesses by similarity: new prose must not be slowed noticeably.
const GUESS: (f32, f32) = (0.25, 0.005);

/// Gains and losses of one answer.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Account {
    spent_us: f32,
    lost_us: f32,
    /// Steps made before the time of a one-row step was measured: their time, and the tokens that
    /// they produced.
    open_us: f32,
    open_tokens: usize,
    /// Whether one of them had a wrong draft.
    is_warned: bool,
}

impl Account {
    /// A step over `rows` rows took `micros` and produced `tokens` tokens.
    pub(crate) fn note(&mut self, costs: &Costs, rows: usize, tokens: usize, micros: u64) {
        self.spent_us += micros as f32;
        if rows > 1 && costs.is_provisional() {
            self.open_us += micros as f32;
            self.open_tokens += tokens;
            self.is_warned |= tokens < rows;
        } else if rows > 1
            && let (Some(one), Some(usual)) = (costs.step_us(1), costs.step_us(rows))
        {
            self.lost_us += (micros as f32).min(BELIEVED * usual) - one * tokens as f32;
        }
    }

    /// How much longer than a step of one row the next step may take, in microseconds, if its whole
    /// draft is wrong.
    pub(crate) fn allowance_us(&self, costs: &Costs, source: Source) -> f32 {
        let (steps, part) = if source.is_guess() { GUESS } else { SOUND };
        match costs.step_us(1) {
            Some(one) if !(costs.is_provisional() && self.is_warned) => {
                let lost_us = self.lost_us + self.open_us - one * self.open_tokens as f32;
                steps * one + part * self.spent_us - lost_us
            }
            // Rules out even a draft that seems to cost nothing.
            _ => f32::NEG_INFINITY,
        }
    }
}
