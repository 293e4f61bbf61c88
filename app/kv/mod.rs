//! What a block of KV state is: the one vocabulary that model and cache share. docs/inside/kv.md draws the bytes.
//!
//! A block is [`BLOCK_TOKENS`](crate::limits::BLOCK_TOKENS) tokens (the ragged end of a prompt: fewer). Its bytes lie in two
//! planes, kept, advertised and fetched apart: the global plane (layers that attend to the whole prefix) and the sliding
//! plane (layers that attend to the last `window` tokens, and so are needed only near the place where work resumes).

mod page;
mod shape;

pub use page::{BlockPages, Page, Sequence};
pub(crate) use shape::{HeadSpan, ShapeError};
pub use shape::{KvFormat, KvShape, Plane, copy_tokens};
