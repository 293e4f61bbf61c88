//! The structure of a block of KV state, shared by model and cache. docs/inside/kv.md draws the
//! bytes.
//!
//! A block is [`BLOCK_TOKENS`](crate::limits::BLOCK_TOKENS) tokens; the ragged block at the end of
//! a prompt has fewer. Its bytes are split into two planes, which are stored, advertised and
//! fetched separately: the global plane (layers that attend to the whole prefix) and the sliding
//! plane (layers that attend to the last `window` tokens, so it is needed only near the resume
//! point).

mod page;
mod shape;

pub use page::{BlockPages, Page, Sequence};
pub(crate) use shape::{HeadSpan, ShapeError};
pub use shape::{KvFormat, KvShape, Plane, copy_tokens};
