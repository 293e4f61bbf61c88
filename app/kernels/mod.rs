//! The arithmetic of the model, defined once. The header of each file gives its order of
//! operations. Together they define [`NUMERICS_VERSION`]; docs/inside/precision.md describes them
//! in one piece.
//!
//! Promises:
//! - A result depends on its input values, never on the batch, the tile, the chunk of a prompt or
//!   the CPU. Every sum has one order; every multiplication followed by an addition is one fused
//!   multiply-add (`f32::mul_add`); nothing comes from the platform's libm.
//! - The portable build of a loop is the oracle: every other build ([`Isa`]) gives the same bits,
//!   and tests compare them.
//! - Slices in, slices out, of shapes that the caller has checked. A wrong length is a bug in the
//!   caller and panics.
//!
//! All `unsafe` for arithmetic is here: calls to code compiled for instructions that the CPU is
//! known to have, the loops of `int8` over memory whose size was checked before, and sharing one
//! call among cores (`team`).

#![allow(unsafe_code)]

mod attention;
mod format;
mod head;
mod int8;
mod isa;
mod kv_row;
mod math;
mod matmul;
mod quantize;
mod rope;
mod team;
mod terms;

pub use attention::{accumulate, scores};
pub(crate) use format::dequantize_row;
pub use format::{Format, Matrix};
pub(crate) use head::{
    Asked, HeadShape, Likely, MOST_TOGETHER, Split, judged_together, likeliest, split_row,
};
pub(crate) use int8::matmul_halved;
pub use int8::matmul_int8;
pub use isa::Isa;
pub(crate) use kv_row::{decode_f32, encode_f32};
pub use kv_row::{decode_int8, encode_int8};
pub(crate) use math::normalize;
pub use math::{gelu_mul, rms_norm, softmax};
pub(crate) use matmul::matmul;
pub use quantize::{QuantizedRows, quantize_rows};
pub(crate) use rope::{RopeTable, rotate};
pub use team::Team;

/// Columns whose products are summed as integers before a float joins them; also the values that
/// share one scale in activations and KV rows.
pub const GROUP: usize = 32;

/// The version of this module's arithmetic. It goes into the fingerprint: two nodes whose versions
/// differ never share state. Raise it with any change that could change a bit.
pub(crate) const NUMERICS_VERSION: u32 = 1;
