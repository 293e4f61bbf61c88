//! int8 products for ARMv8.0-A, which has no dot product instruction: products are summed in 16-bit
//! lanes while they fit, then pairs of lanes in 32 bits. Pairwise adds then combine the sums of
//! four rows, so that one vector holds the exact sums of four rows over 32 columns, and one fused
//! multiply-add per term adds them to the four results.
//!
//! `formats` loads four rows of any format into registers, 32 columns at a time. `rows` packs these
//! into a panel, or multiplies them directly. `tile` is the assembly for prefill, `single` that for
//! decoding the most common formats.

use super::{Ahead, Panel, Tokens};
use crate::kernels::{Format, GROUP};

mod formats;
mod rows;
mod single;
mod tile;

/// The element of scratch memory.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Line([f32; 4]);

/// How the integers of 32 columns are stored and summed, and what accompanies them in a panel. A
/// panel's block has eight lines of codes, one of scales, then the items listed here; a tile's
/// block has one line of four tokens' activation scales.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Codes within −16..=15: sums of 16 products fit 16 bits.
    Small,
    /// The same, plus a second term whose integers are all 1: its scales, and the sums of a tile's
    /// activations.
    Offset,
    /// The same with codes that are stored 16 too small.
    Biased,
    /// Any int8.
    Wide,
    /// Codes within −32..=31 under integer scales of 16 columns: two lines of those, each
    /// row's twice.
    Halves,
}

impl Kind {
    /// The kind of each format that has loops here. Q2_K has none: its second term has a separate
    /// integer for each 16 columns.
    const fn of(format: Format) -> Option<Kind> {
        match format {
            Format::Q4_0 | Format::Q5_0 => Some(Kind::Small),
            Format::Q4_1 | Format::Q4_K => Some(Kind::Offset),
            Format::Q5_1 | Format::Q5_K => Some(Kind::Biased),
            Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => Some(Kind::Wide),
            Format::Q3_K | Format::Q6_K => Some(Kind::Halves),
            Format::Q2_K | Format::F32 | Format::F16 | Format::BF16 => None,
        }
    }

    /// Lines of a panel, and of a tile, for 32 columns.
    const fn lines(self) -> (usize, usize) {
        match self {
            Kind::Small | Kind::Wide => (9, 1),
            Kind::Offset | Kind::Biased => (10, 2),
            Kind::Halves => (11, 1),
        }
    }
}

/// ARMv8.0-A with NEON.
pub(super) struct Neon;

impl Panel for Neon {
    fn takes(format: Format) -> bool {
        Kind::of(format).is_some()
    }

    const ROWS: usize = 4;
    const TOKENS: usize = 4;
    const PADS_FROM: usize = usize::MAX;
    type Block = Line;
    const ZERO: Line = Line([0.0; 4]);
    type Columns = Line;
    const NO_COLUMNS: Line = Line([0.0; 4]);

    fn lines(format: Format) -> (usize, usize) {
        Kind::of(format).map_or((0, 0), Kind::lines)
    }

    unsafe fn pack(format: Format, rows: &[u8], _: Ahead<'_>, panel: &mut [Line]) {
        rows::pack(format, rows, panel);
    }

    fn gather(format: Format, x: Tokens<'_>, tile: &mut [Line]) {
        let (_, lines) = Self::lines(format);
        let blocks = x.cols / GROUP;
        for (b, lines) in tile.chunks_exact_mut(lines).enumerate() {
            let of = |t: usize| t * blocks + b;
            lines[0] = Line(core::array::from_fn(|t| x.scales[of(t)]));
            if let Some(sums) = lines.get_mut(1) {
                // −128 × the sum, exactly.
                *sums = Line(core::array::from_fn(|t| (x.offsets[of(t)] / -128) as f32));
            }
        }
    }

    unsafe fn tile(
        format: Format,
        panel: &[Line],
        x: Tokens<'_>,
        tile: &[Line],
        _: Ahead<'_>,
        y: *mut f32,
        stride: usize,
    ) {
        let kind = Kind::of(format).expect("a format with loops");
        // SAFETY: the caller guarantees the output of `pack` and `gather`, and room for
        // the results.
        unsafe { tile::tile(kind, panel, x, tile, y, stride) }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        let blocks = x.cols / GROUP;
        let panel = 4 * format.row_bytes(x.cols);
        assert!(blocks > 0 && rows.len().is_multiple_of(panel));
        assert!(x.codes.len() >= x.cols && x.scales.len() >= blocks && x.offsets.len() >= blocks);
        let panels = rows.len() / panel;
        let rows = rows.as_ptr();
        // SAFETY: the panels and the token exist, by the assertions; the caller guarantees room for
        // one result per row.
        let each = |one: unsafe fn(*const u8, Tokens<'_>, *mut f32)| unsafe {
            (0..panels).for_each(|p| one(rows.add(p * panel), x, y.add(4 * p)));
        };
        match format {
            Format::Q8_0 => each(single::q8_0),
            Format::Q4_0 => each(single::q4_0),
            Format::Q5_0 => each(single::q5_0),
            // SAFETY: as above.
            _ => unsafe { rows::single(format, rows, panels, x, y) },
        }
    }
}
