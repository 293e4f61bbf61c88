//! One matrix or vector of weights, used in place in the mapped file.

use core::fmt;
use core::ops::Range;
use std::io;
use std::sync::Arc;

use memmap2::Mmap;

use crate::kernels::Format;

/// The bytes of a whole file, mapped or owned; clones share them.
#[derive(Clone)]
pub struct Bytes {
    source: Arc<dyn AsRef<[u8]> + Send + Sync>,
    map: Option<Arc<Mmap>>,
}

impl Bytes {
    /// Shares `source`.
    pub fn new(source: impl AsRef<[u8]> + Send + Sync + 'static) -> Bytes {
        Bytes { source: Arc::new(source), map: None }
    }

    /// Shares a memory map.
    pub(super) fn mapped(map: Mmap) -> Bytes {
        let map = Arc::new(map);
        Bytes { source: map.clone(), map: Some(map) }
    }

    /// All the bytes.
    pub fn as_slice(&self) -> &[u8] {
        (*self.source).as_ref()
    }

    /// Loads a whole map into memory and locks its pages there for as long as the map lives. Takes
    /// as long as reading the file. Does nothing for owned bytes, which are in memory already.
    ///
    /// # Errors
    /// The system's error if the process may not lock that much memory.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.map.as_ref().map_or(Ok(()), |map| map.lock())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.as_slice().len())
    }
}

/// A matrix of `rows` output rows by `cols` input columns, stored row by row; a vector is one row.
#[derive(Clone, Debug)]
pub struct Weight {
    bytes: Bytes,
    range: Range<usize>,
    format: Format,
    rows: usize,
    cols: usize,
}

impl Weight {
    /// A view of `range` of `bytes`. `None` unless the range lies within the bytes and holds
    /// exactly rows × cols values of the format, each row a whole number of units.
    pub fn new(
        bytes: Bytes,
        range: Range<usize>,
        format: Format,
        rows: usize,
        cols: usize,
    ) -> Option<Weight> {
        let expected = format.bytes(cols)?.checked_mul(rows)?;
        let inside = bytes.as_slice().get(range.clone())?;
        (inside.len() == expected && rows > 0 && cols > 0).then_some(Weight {
            bytes,
            range,
            format,
            rows,
            cols,
        })
    }

    /// A view of some of the rows.
    ///
    /// # Panics
    /// If the rows do not exist: a bug in the caller.
    pub(super) fn some_rows(&self, rows: Range<usize>) -> Weight {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let row_bytes = self.range.len() / self.rows;
        let range =
            self.range.start + rows.start * row_bytes..self.range.start + rows.end * row_bytes;
        Weight { range, rows: rows.len(), bytes: self.bytes.clone(), ..*self }
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The storage format of the values.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The stored bytes, row by row.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.as_slice()[self.range.clone()]
    }
}

/// Every tensor of a model. Norm vectors hold 1 + w, as GGUF stores them, in F32.
#[derive(Clone, Debug)]
pub struct Weights {
    /// vocab × hidden.
    pub embedding: Weight,
    /// vocab × hidden; `None` if the output is tied to the embedding.
    pub output: Option<Weight>,
    /// hidden.
    pub output_norm: Weight,
    /// Layer by layer.
    pub layers: Vec<LayerWeights>,
}

/// The tensors of one layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// hidden; before attention.
    pub attention_norm: Weight,
    /// (heads × head_dim) × hidden.
    pub query: Weight,
    /// (kv_heads × head_dim) × hidden.
    pub key: Weight,
    /// (kv_heads × head_dim) × hidden.
    pub value: Weight,
    /// head_dim.
    pub query_norm: Weight,
    /// head_dim.
    pub key_norm: Weight,
    /// hidden × (heads × head_dim).
    pub attention_output: Weight,
    /// hidden; after attention, before the result is added to the residual.
    pub post_attention_norm: Weight,
    /// hidden; before the feed-forward layer.
    pub ffn_norm: Weight,
    /// ffn × hidden.
    pub gate: Weight,
    /// ffn × hidden.
    pub up: Weight,
    /// hidden × ffn.
    pub down: Weight,
    /// hidden; after the feed-forward layer, before the result is added to the residual.
    pub post_ffn_norm: Weight,
}
