//! How many tokens of a path to check in one step.
//!
//! A step is not chosen on its own: the one that is cheapest per token may leave two or three
//! tokens for a last step, which costs nearly as much as a whole one. So the measure is the time
//! until all tokens of the path are part of the answer.

use super::Costs;
use crate::limits::{BLOCK_TOKENS, MAX_DRAFT_TOKENS, MAX_PATH_TOKENS, SMOOTH_STEP_MS};

/// Least saving that a draft must promise, as a fraction of a step: less is within
/// measurement error.
const LEAST_GAIN: f32 = 0.02;

/// Rows of the longest step.
const MOST_ROWS: usize = 1 + MAX_DRAFT_TOKENS;

/// What is known about a path before a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Outlook {
    /// The chance that its next token is right.
    pub chance: f32,
    /// Tokens that the answer gains if the whole path is right, including the one after it.
    pub ahead: usize,
    /// Most tokens that the next step can check.
    pub most: usize,
    /// How much longer than a step of one row the next step may take, in microseconds.
    pub allowance_us: f32,
}

/// How many tokens to check in the next step: the number that finishes the path soonest, assuming
/// that a path that goes wrong is abandoned and the rest is decoded token by token. 0 if a draft
/// gains nothing.
pub(crate) fn length(costs: &Costs, outlook: &Outlook) -> usize {
    let Some(one) = costs.step_us(1) else { return 0 };
    let ahead = outlook.ahead.min(MAX_PATH_TOKENS + 1);
    // A step that is not allowed now is not planned for later either: only the savings of others
    // can allow it, so a plan that waits for it would wait forever. (A wider one may be allowed all
    // the same: steps from halves of the output rows can cost more than wider ones.)
    let steps: [f32; MOST_ROWS] = core::array::from_fn(|drafted| {
        let step = costs
            .step_us(1 + drafted)
            .filter(|step| drafted == 0 || step - one <= outlook.allowance_us)
            .filter(|step| drafted < BLOCK_TOKENS || *step <= SMOOTH_STEP_MS as f32 * 1e3);
        step.unwrap_or(f32::INFINITY)
    });
    let steps = &steps[..=outlook.most];
    // The least time to gain each number of tokens.
    let mut least = [0.0; MAX_PATH_TOKENS + 2];
    for left in 1..ahead {
        least[left] = times(steps, &least, outlook.chance, left).fold(f32::MAX, f32::min);
    }
    let mut times = times(steps, &least, outlook.chance, ahead);
    let Some(alone) = times.next() else { return 0 };
    let (mut best, mut best_time) = (0, alone - LEAST_GAIN * one);
    for (at, time) in times.enumerate() {
        // On a tie takes the longer one, since an early gain raises the allowance.
        if time <= best_time {
            (best, best_time) = (1 + at, time);
        }
    }
    best
}

/// The time until `left` tokens have come, for each number of rows of the next step, starting at
/// one; `least` is the least time for fewer tokens.
fn times(steps: &[f32], least: &[f32], chance: f32, left: usize) -> impl Iterator<Item = f32> {
    // The chance that all tokens so far were right, and the expected cost if one of them was not.
    let (mut right, mut astray) = (1.0, 0.0);
    steps.iter().zip((0..left).rev()).map(move |(step, rest)| {
        astray += right * (1.0 - chance) * rest as f32 * steps[0];
        right *= chance;
        step + astray + right * least[rest]
    })
}
