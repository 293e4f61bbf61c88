//! The rows of a product: stored as they are, or in two halves.

use core::ops::Range;

use crate::kernels::head::{Split, join_rows};
use crate::kernels::{Format, GROUP, Isa, Matrix};

/// Where a product takes its rows from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Rows that are used in place.
    Stored(Matrix<'a>),
    /// Rows of Q8_0 in two halves, which are joined a few at a time.
    Halved(Split<'a>),
}

impl<'a> Source<'a> {
    /// How the rows are encoded once they are whole.
    pub(super) fn format(&self) -> Format {
        match self {
            Source::Stored(m) => m.format,
            Source::Halved(_) => Format::Q8_0,
        }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        match self {
            Source::Stored(m) => m.rows,
            Source::Halved(m) => m.rows(),
        }
    }

    /// Values of a row.
    pub(super) fn cols(&self) -> usize {
        match self {
            Source::Stored(m) => m.cols,
            Source::Halved(m) => m.cols(),
        }
    }

    /// Blocks of 32 values of a row.
    pub(super) fn blocks(&self) -> usize {
        self.cols() / GROUP
    }

    /// How many of `rows` rows to ask [`Source::whole`] for at a time: all that lie ready, or as
    /// many as a panel has, so that joined ones are still in the L1 cache when they are used.
    pub(super) fn at_once(&self, rows: usize, panel: usize) -> usize {
        match self {
            Source::Stored(_) => rows.max(1),
            Source::Halved(_) => panel,
        }
    }

    /// Some of the rows, one after the other; joined in `scratch` if they lie in halves.
    #[inline(always)]
    pub(super) fn whole<'s>(
        &'s self,
        isa: Isa,
        rows: Range<usize>,
        scratch: &'s mut Vec<u8>,
    ) -> &'s [u8] {
        match self {
            Source::Stored(m) => m.rows(rows),
            Source::Halved(m) => {
                scratch.resize(rows.len() * Format::Q8_0.row_bytes(m.cols()), 0);
                join_rows(isa, m.range(rows), scratch);
                scratch
            }
        }
    }

    /// The memory in which some of the rows lie, for prefetching.
    #[inline(always)]
    pub(super) fn parts(&self, rows: Range<usize>) -> [&'a [u8]; 2] {
        match self {
            Source::Stored(m) => [m.rows(rows), &[]],
            Source::Halved(m) => {
                let m = m.range(rows);
                [m.all_upper(), m.all_lower()]
            }
        }
    }
}
