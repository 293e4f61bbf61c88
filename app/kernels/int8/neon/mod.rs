//! int8 products for ARMv8.0-A: no dot product instruction, so products are summed in 16-bit lanes for as long as they fit, then
//! pairs of lanes in 32 bits. Four rows' sums are added across with pairwise adds, so that one vector holds the exact sums of
//! four rows over 32 columns, and one fused multiply-add for each term joins them to the four results.
//!
//! `formats` brings four rows of any format into registers, 32 columns at a time; `rows` packs those into a panel, or multiplies them
//! on the spot. `tile` is the assembly of prefill, `single` that of decoding the commonest formats.

use super::{Panel, Tokens};
use crate::kernels::{Format, GROUP};

mod formats;
mod rows;
mod single;
mod tile;

/// What scratch is made of.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Line([f32; 4]);

/// How the whole numbers of 32 columns are kept and summed, and what is beside them in a panel. Its block has eight lines of
/// codes, one of scales, then what is said here; a tile's has one of four tokens' activation scales.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Codes within −16..=15: sums of 16 products fit 16 bits.
    Small,
    /// The same, and a second term whose whole numbers are all 1: its scales; the sums of a tile's activations.
    Offset,
    /// The same with codes that are kept 16 less than they are.
    Biased,
    /// Any int8.
    Wide,
    /// Codes within −32..=31 under whole scales of 16 columns: two lines of those, each row's twice.
    Halves,
}

impl Kind {
    /// Of the formats that have loops here: Q2_K's second term has a whole number of its own for 16 columns, and no place.
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

    /// Lines that 32 columns take of a panel, and of a tile.
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
    const PADS: bool = false;
    type Block = Line;
    const ZERO: Line = Line([0.0; 4]);
    type Columns = Line;
    const NO_COLUMNS: Line = Line([0.0; 4]);

    fn lines(format: Format) -> (usize, usize) {
        Kind::of(format).map_or((0, 0), Kind::lines)
    }

    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Line]) {
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

    unsafe fn tile(format: Format, panel: &[Line], x: Tokens<'_>, tile: &[Line], y: *mut f32, stride: usize) {
        let kind = Kind::of(format).expect("a format with loops");
        // SAFETY: the caller's: what `pack` and `gather` made, and room for the results.
        unsafe { tile::tile(kind, panel, x, tile, y, stride) }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        let blocks = x.cols / GROUP;
        let panel = 4 * format.row_bytes(x.cols);
        assert!(blocks > 0 && rows.len().is_multiple_of(panel));
        assert!(x.codes.len() >= x.cols && x.scales.len() >= blocks && x.offsets.len() >= blocks);
        let panels = rows.len() / panel;
        let rows = rows.as_ptr();
        // SAFETY: as many panels and the token are there, by the assertions; the caller promises room for a result a row.
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
