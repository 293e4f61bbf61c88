//! Measures how fast this machine prefills.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::TokenId;
use crate::kv::Sequence;
use crate::limits::BLOCK_TOKENS;
use crate::model::{Logits, Model};

/// A pass over a block below this leaves time to measure two within the second that a
/// start may take.
const QUICK_BLOCK: Duration = Duration::from_millis(200);

/// Prefill tokens per second, measured on private pages: the planner compares a peer's offer with
/// it before the first prompt. None if the model cannot run that many tokens. The first block
/// brings the weights into memory and is not measured.
pub(super) fn measure_prefill(model: &Model) -> Option<f32> {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), 2 * BLOCK_TOKENS));
    let pass = |blocks: usize| {
        let tokens = vec![TokenId(0); blocks * BLOCK_TOKENS];
        let start = Instant::now();
        model.forward(&tokens, 0, &sequence, Logits::None).ok()?;
        Some((tokens.len(), start.elapsed()))
    };
    let (_, first) = pass(1)?;
    let (tokens, took) = pass(if first < QUICK_BLOCK { 2 } else { 1 })?;
    Some(tokens as f32 / took.as_secs_f32().max(1e-6))
}
