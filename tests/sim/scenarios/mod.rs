//! Named scenarios, one test each: promises of a node that were once found broken, and the figures
//! that nodes are held to.
//!
//! Sizes: Gemma 3 270M's layers with heads an eighth as large, so a token has 1,224 bytes instead
//! of 9,792, on lines an eighth as fast. [`lan`] converts real bytes per millisecond to the
//! simulator's.

mod again;
mod basics;
mod drafts;
mod evicting;
mod habits;
mod ill;
mod locked;
mod loss;
mod middle;
mod news;
mod occupied;
#[cfg(feature = "net")]
mod paper;
mod radio;
mod rare;
mod second;
mod silent;
mod slower;
mod suspended;

use std::sync::Arc;

use potluck::kv::{KvShape, Plane};
use potluck::limits::PREFILL_STEP_TOKENS;

use crate::sim::engine::shape_270m;
use crate::sim::heap::MS;
use crate::sim::ledger::Asked;
use crate::sim::talk::BOARD;

/// Bytes of a token's global and sliding planes in [`shape`].
const GLOBAL: u64 = 204;
const SLIDING: u64 = 1_020;

/// The window of Gemma 3 270M.
const WINDOW: u64 = 512;

/// A slab for 6,800 tokens.
const ROOM: usize = 8 << 20;

/// 21 Mbit/s, the rate of the board's radio.
const RADIO: u64 = 2_600 / 8;

fn shape() -> Arc<KvShape> {
    shape_270m(32, WINDOW as usize)
}

/// Milliseconds that a board takes to compute `tokens`.
fn computing(tokens: u64) -> u64 {
    tokens * BOARD / MS
}

/// Computing alone, one prefill step and 5 %: the bound of every answer.
fn bound(tokens: u64) -> u64 {
    computing(tokens) * 105 / 100 + computing(PREFILL_STEP_TOKENS as u64)
}

/// Bytes of a fetch of the first `tokens` tokens, with sliding planes for the last window only.
fn fetch_bytes(tokens: u64) -> u64 {
    tokens * GLOBAL + tokens.min(WINDOW) * SLIDING
}

/// Bytes of foreign state that an answer used.
fn used_bytes(asked: &Asked) -> u64 {
    asked
        .foreign
        .iter()
        .map(|(plane, _)| if *plane == Plane::Global { GLOBAL } else { SLIDING })
        .sum()
}
