//! Products of quantised activations with a quantised matrix: `y[t][r] = Σ_c x[t][c] · w[r][c]`.
//!
//! The definition: for each 32 columns, in order, and for each term of the format (`terms.rs`), the
//! integer products are summed exactly in i32. One fused multiply-add accumulates the sums:
//! `acc = fma(sum, term's scale · activation scale, acc)`. [`dots`] is the plain implementation,
//! and the oracle of all others.
//!
//! [`rows_plain`] handles every format; those of [`Panel::takes`] have separate loops for an
//! instruction set.
//!
//! Rows are processed a *panel* at a time. If there are enough tokens for a tile, the panel is
//! unpacked once into scratch and multiplied with every tile of tokens. Tokens that do not fill a
//! tile, such as the single one of decoding, are multiplied with the stored rows directly, or, on
//! x86-64, padded to a tile with zeros. Panels are distributed among the cores. On ARM the scratch
//! fits the L1 cache. Panels on x86-64 have 16 rows, and those of wide matrices do not fit
//! (docs/inside/kernels.md has the sizes).
//!
//! Rows of Q8_0 may also lie in two halves (`head`). Those of a panel are joined when their turn
//! comes; after that nothing knows the difference, so the bits are the same.

use core::ops::Range;

use super::isa::{Isa, Kind, per_isa};
use super::matmul::{check, each_rows};
use super::quantize::QuantizedRows;
use super::team::Out;
use super::terms::{Codes, unpack};
use super::{Format, GROUP, Matrix, Split, Team};
use source::Source;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod single;
mod source;
#[cfg(test)]
mod tests;

/// Activations starting at some token.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    cols: usize,
    codes: &'a [i8],
    scales: &'a [f32],
    /// −128 × the sum of each block's codes: corrects for weights that are stored 128 too large.
    offsets: &'a [i32],
}

impl<'a> Tokens<'a> {
    fn from(x: &'a QuantizedRows, token: usize) -> Tokens<'a> {
        let block = token * x.cols / GROUP;
        Tokens {
            cols: x.cols,
            codes: &x.codes[token * x.cols..],
            scales: &x.scales[block..],
            offsets: &x.offsets[block..],
        }
    }
}

/// Memory that is read soon, for prefetching: a hint, which an instruction set ignores if its
/// hardware prefetches by itself.
type Ahead<'a> = [&'a [u8]; 2];

/// How an instruction set multiplies [`Self::ROWS`] rows.
///
/// # Safety
/// All three may be called only if the CPU has the instructions, `rows` is complete blocks of as
/// many rows, `x` holds as many tokens as the call takes, and `y` has room for `ROWS` results per
/// token, `stride` floats apart.
trait Panel {
    /// Whether there are loops for a format.
    fn takes(format: Format) -> bool;

    /// Rows of a panel.
    const ROWS: usize;
    /// Tokens of a tile.
    const TOKENS: usize;
    /// From how many tokens on those that do not fill a tile are padded to one with zeros; fewer
    /// are multiplied one by one with rows that are then in a cache. Worth it if unpacking a panel
    /// and multiplying a tile take little longer than so many single tokens.
    const PADS_FROM: usize;
    /// The element of a panel.
    type Block: Copy;
    /// Initial scratch.
    const ZERO: Self::Block;
    /// The element of a tile: what the loop needs of the activations besides, or instead of, the
    /// stored ones.
    type Columns: Copy + Sync;
    /// Initial scratch.
    const NO_COLUMNS: Self::Columns;

    /// How many elements of a panel, and of a tile, 32 columns take. The second is 0 if the loop
    /// needs nothing but the activations in place.
    fn lines(_: Format) -> (usize, usize) {
        (1, 0)
    }

    /// Unpacks rows, block by block, and prefetches `ahead`.
    unsafe fn pack(format: Format, rows: &[u8], ahead: Ahead<'_>, panel: &mut [Self::Block]);

    /// Prepares the tile of `TOKENS` tokens.
    fn gather(_: Format, _: Tokens<'_>, _: &mut [Self::Columns]) {}

    /// The results of `TOKENS` tokens, which are also passed as laid out by [`Panel::gather`].
    /// Prefetches `ahead`.
    unsafe fn tile(
        format: Format,
        panel: &[Self::Block],
        x: Tokens<'_>,
        tile: &[Self::Columns],
        ahead: Ahead<'_>,
        y: *mut f32,
        stride: usize,
    );

    /// The results of one token for any number of panels, from the stored rows.
    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32);
}

/// The laid-out activations of all full tiles: once per call, because every core reads them.
fn gathered<P: Panel>(m: Source<'_>, x: &QuantizedRows) -> Vec<P::Columns> {
    let (_, lines) = P::lines(m.format());
    let (tiles, lines) = (x.rows() / P::TOKENS, m.blocks() * lines);
    let mut columns = vec![P::NO_COLUMNS; tiles * lines];
    if lines > 0 {
        for (t, tile) in columns.chunks_exact_mut(lines).enumerate() {
            P::gather(m.format(), Tokens::from(x, t * P::TOKENS), tile);
        }
    }
    columns
}

/// The product on all cores of the team.
///
/// # Safety
/// The CPU has the instructions of `P`, and the sizes match.
unsafe fn product<P: Panel>(
    team: &Team,
    isa: Isa,
    m: Source<'_>,
    x: &QuantizedRows,
    y: &mut [f32],
) {
    if !P::takes(m.format()) {
        return plain(team, isa, m, x, y);
    }
    let tokens = x.rows();
    let padded =
        (tokens >= P::PADS_FROM && !tokens.is_multiple_of(P::TOKENS)).then(|| x.padded(P::TOKENS));
    let tiles = gathered::<P>(m, padded.as_ref().unwrap_or(x));
    let activations = Activations { x, padded: padded.as_ref(), tiles: &tiles };
    // SAFETY: guaranteed by the caller; every range of rows is handed out once.
    each_rows(team, m.rows(), y, &|range, y| unsafe {
        rows_with::<P>(isa, m, activations, range, y)
    });
}

/// The product by the plain loop.
fn plain(team: &Team, isa: Isa, m: Source<'_>, x: &QuantizedRows, y: &mut [f32]) {
    // SAFETY: `y` has the size that `matmul` has checked; every range of rows is handed out
    // once.
    each_rows(team, m.rows(), y, &|range, y| unsafe { rows_plain(isa, m, x, range, y) });
}

/// The activations that the cores of a product read.
struct Activations<'a, P: Panel> {
    x: &'a QuantizedRows,
    /// The same, padded to full tiles.
    padded: Option<&'a QuantizedRows>,
    /// The result of [`gathered`] for all full tiles.
    tiles: &'a [P::Columns],
}

impl<P: Panel> Clone for Activations<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Panel> Copy for Activations<'_, P> {}

/// # Safety
/// The CPU has the instructions of `P`, `y` has room for tokens × rows, and no one else accesses
/// `range` of them.
unsafe fn rows_with<P: Panel>(
    isa: Isa,
    m: Source<'_>,
    activations: Activations<'_, P>,
    range: Range<usize>,
    y: Out,
) {
    let Activations { x, padded, tiles } = activations;
    let (tokens, format) = (x.rows(), m.format());
    let whole = range.len() / P::ROWS * P::ROWS + range.start;
    let mut joined = Vec::new();
    if tokens == 1 {
        let step = m.at_once(whole - range.start, P::ROWS);
        for r in (range.start..whole).step_by(step) {
            // SAFETY: complete rows, an existing token, and places of this range.
            unsafe {
                let rows = m.whole(isa, r..r + step, &mut joined);
                P::single(format, rows, Tokens::from(x, 0), y.at(r));
            }
        }
        // SAFETY: the rest of this range.
        unsafe { rows_plain(isa, m, x, whole..range.end, y) }
        return;
    }
    // All tokens of full tiles, including the zero tokens.
    let tiled = padded.map_or(tokens / P::TOKENS * P::TOKENS, QuantizedRows::rows);
    let blocks = if tiled > 0 { m.blocks() } else { 0 };
    let (panel_lines, tile_lines) = P::lines(format);
    let mut panel = vec![P::ZERO; blocks * panel_lines];
    let tile_lines = blocks * tile_lines;
    let mut last = vec![0f32; if padded.is_some() { P::TOKENS * P::ROWS } else { 0 }];
    for r in (range.start..whole).step_by(P::ROWS) {
        let rows = m.whole(isa, r..r + P::ROWS, &mut joined);
        // Prefetches the next panel while this one is packed and multiplied, a share for each step.
        let shares = 1 + tiled / P::TOKENS;
        let next = m.parts(r + P::ROWS..(r + 2 * P::ROWS).min(range.end));
        let mut next = next.map(|part| part.chunks(part.len().div_ceil(shares).max(1)));
        let mut ahead = || next.each_mut().map(|part| part.next().unwrap_or_default());
        // SAFETY: complete rows, existing tokens, and places of this range: r + ROWS is at most its
        // end. `last` has room for a tile.
        unsafe {
            if tiled > 0 {
                P::pack(format, rows, ahead(), &mut panel);
            }
            for t in (0..tiled).step_by(P::TOKENS) {
                let tile = &tiles[t / P::TOKENS * tile_lines..][..tile_lines];
                let columns = Tokens::from(padded.unwrap_or(x), t);
                if t + P::TOKENS <= tokens {
                    let y = y.at(t * m.rows() + r);
                    P::tile(format, &panel, columns, tile, ahead(), y, m.rows());
                    continue;
                }
                P::tile(format, &panel, columns, tile, ahead(), last.as_mut_ptr(), P::ROWS);
                for (t, results) in (t..tokens).zip(last.chunks_exact(P::ROWS)) {
                    y.at(t * m.rows() + r).copy_from_nonoverlapping(results.as_ptr(), P::ROWS);
                }
            }
            for t in tiled..tokens {
                P::single(format, rows, Tokens::from(x, t), y.at(t * m.rows() + r));
            }
        }
    }
    // SAFETY: the rest of this range.
    unsafe { rows_plain(isa, m, x, whole..range.end, y) }
}

/// The definition, for `terms` terms per group.
#[inline(always)]
fn dots<const T: usize>(
    terms: usize,
    codes: &[Codes],
    scales: &[f32],
    x: [(&[[i8; GROUP]], &[f32]); T],
) -> [f32; T] {
    let blocks = codes.len() / terms;
    let x = x.map(|(codes, scales)| (&codes[..blocks], &scales[..blocks]));
    let mut acc = [0f32; T];
    for (b, (codes, scales)) in
        codes.chunks_exact(terms).zip(scales.chunks_exact(terms)).enumerate()
    {
        for (w, scale) in codes.iter().zip(scales) {
            for t in 0..T {
                let a = &x[t].0[b];
                let mut sum = 0i32;
                for i in 0..GROUP {
                    // At most 32 × 4,096 × 127 in magnitude, so nothing wraps. The wrapping
                    // operations avoid overflow checks and their branches.
                    sum = sum.wrapping_add(i32::from(w[i]).wrapping_mul(i32::from(a[i])));
                }
                acc[t] = (sum as f32).mul_add(scale * x[t].1[b], acc[t]);
            }
        }
    }
    acc
}

/// # Safety
/// `y` has room for tokens × rows, and no one else accesses `range` of them.
#[inline(always)]
unsafe fn rows_body(m: Source<'_>, x: &QuantizedRows, range: Range<usize>, y: Out) {
    const TILE: usize = 4;
    let (tokens, blocks, terms) = (x.rows(), m.blocks(), m.format().terms());
    if range.is_empty() {
        return;
    }
    let mut codes = vec![[0; GROUP]; blocks * terms];
    let mut scales = vec![0f32; blocks * terms];
    let mut joined = Vec::new();
    let all = x.codes.as_chunks::<GROUP>().0;
    let row = |t: usize| (&all[t * blocks..][..blocks], &x.scales[t * blocks..][..blocks]);
    for r in range {
        let row_bytes = m.whole(Isa::PORTABLE, r..r + 1, &mut joined);
        unpack(m.format(), row_bytes, &mut codes, &mut scales);
        // SAFETY: the index is within this range.
        let put = |t: usize, sum: f32| unsafe { y.at(t * m.rows() + r).write(sum) };
        let mut t = 0;
        while t + TILE <= tokens {
            let sums = dots::<TILE>(terms, &codes, &scales, core::array::from_fn(|i| row(t + i)));
            sums.into_iter().enumerate().for_each(|(i, sum)| put(t + i, sum));
            t += TILE;
        }
        for t in t..tokens {
            let [sum] = dots::<1>(terms, &codes, &scales, [row(t)]);
            put(t, sum);
        }
    }
}

per_isa! {
    /// A range of rows by the plain loop: for any format, and for rows that do not fill a panel.
    ///
    /// # Safety
    /// As for [`rows_body`].
    unsafe fn rows_plain(m: Source<'_>, x: &QuantizedRows, range: Range<usize>, y: Out) = rows_body;
}

/// Product of a quantised matrix with quantised activations.
///
/// # Shapes
/// x: tokens × cols; y: tokens × rows.
pub fn matmul_int8(team: &Team, isa: Isa, m: Matrix<'_>, x: &QuantizedRows, y: &mut [f32]) {
    assert!(m.format.is_quantized());
    matmul(team, isa, Source::Stored(m), x, y);
}

/// The same product, bit for bit, with rows of Q8_0 that lie in two halves.
///
/// # Shapes
/// x: tokens × cols; y: tokens × rows.
pub(crate) fn matmul_halved(team: &Team, isa: Isa, m: Split<'_>, x: &QuantizedRows, y: &mut [f32]) {
    matmul(team, isa, Source::Halved(m), x, y);
}

fn matmul(team: &Team, isa: Isa, m: Source<'_>, x: &QuantizedRows, y: &mut [f32]) {
    assert!(x.cols == m.cols());
    check(m.rows(), m.cols(), x.codes.len(), y);
    // SAFETY: an `Isa` exists only if the CPU has its instructions; every range of rows is handed
    // out once; the sizes are checked above.
    unsafe {
        match isa.kind() {
            Kind::Portable => plain(team, isa, m, x, y),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => product::<neon::Neon>(team, isa, m, x, y),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => product::<avx2::Avx2>(team, isa, m, x, y),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => product::<avx512::Avx512>(team, isa, m, x, y),
        }
    }
}
