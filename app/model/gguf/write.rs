//! Writes a GGUF as a stream: first the head, from the plans of all tensors, then each tensor's
//! bytes as they are produced, so that at most a chunk of the model is in memory.

use std::io::{self, Write};

use super::config::every_nth_global;
use super::value::{Kind, Value};
use super::{ARCHITECTURE, Gguf};
use crate::kernels::Format;
use crate::kv::Plane;
use crate::model::config::ModelConfig;
use crate::tokenizer::Vocabulary;

const ALIGNMENT: usize = 32;
const VERSION: u32 = 3;

/// A metadata value to be written.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry<'a> {
    /// A size or id.
    U32(u32),
    /// A number.
    F32(f32),
    /// A switch.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(&'a [String]),
    /// A list of pairs, each written as one text with a space between.
    Pairs(&'a [(String, String)]),
    /// A list of numbers.
    F32s(&'a [f32]),
    /// A list of whole numbers.
    I32s(Vec<i32>),
    /// A list of switches.
    Bools(Vec<bool>),
    /// A value copied from the head of another file.
    Kept(&'a Value, &'a [u8]),
}

/// A tensor to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorPlan {
    /// Its name.
    pub name: String,
    /// Its sizes, innermost (columns) first.
    pub dims: Vec<usize>,
    /// The storage format of its values.
    pub format: Format,
    /// Its bytes.
    pub bytes: usize,
}

impl TensorPlan {
    /// A matrix of `rows` by `cols`, or the vector of one row; `None` if `cols` is not a whole
    /// number of units of `format`.
    pub fn new(
        name: String,
        (rows, cols): (usize, usize),
        is_vector: bool,
        format: Format,
    ) -> Option<TensorPlan> {
        let bytes = format.bytes(cols)?.checked_mul(rows)?;
        let dims = if is_vector { vec![cols] } else { vec![cols, rows] };
        Some(TensorPlan { name, dims, format, bytes })
    }
}

/// A GGUF being written. The head is already written; every planned tensor's bytes follow, in
/// order.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    lengths: std::vec::IntoIter<usize>,
    left: usize,
    unpadded: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the head. The tensors must then be written in the order of `plans`.
    pub fn new(
        mut out: W,
        entries: &[(String, Entry<'_>)],
        plans: &[TensorPlan],
    ) -> io::Result<Writer<W>> {
        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(plans.len() as u64).to_le_bytes());
        head.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for (key, entry) in entries {
            put_text(&mut head, key);
            put_entry(&mut head, entry);
        }
        let mut offset = 0usize;
        for plan in plans {
            put_text(&mut head, &plan.name);
            head.extend_from_slice(&(plan.dims.len() as u32).to_le_bytes());
            for dim in &plan.dims {
                head.extend_from_slice(&(*dim as u64).to_le_bytes());
            }
            head.extend_from_slice(&(plan.format as u32).to_le_bytes());
            head.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += plan.bytes.next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&head)?;
        let lengths = plans.iter().map(|plan| plan.bytes).collect::<Vec<_>>().into_iter();
        Ok(Writer { out, lengths, left: 0, unpadded: 0 })
    }

    /// Appends bytes to the current tensor.
    ///
    /// # Panics
    /// If the bytes exceed the plan: a bug in the caller.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.left == 0 {
            self.left = self.lengths.next().unwrap_or(0);
            self.unpadded = self.left;
        }
        assert!(
            bytes.len() <= self.left,
            "{} bytes for a tensor that has {} left",
            bytes.len(),
            self.left
        );
        self.out.write_all(bytes)?;
        self.left -= bytes.len();
        if self.left == 0 {
            let padding = self.unpadded.next_multiple_of(ALIGNMENT) - self.unpadded;
            self.out.write_all(&[0; ALIGNMENT][..padding])?;
        }
        Ok(())
    }

    /// Returns the output once every tensor is complete.
    ///
    /// # Panics
    /// If bytes of a planned tensor are missing: a bug in the caller.
    pub fn finish(mut self) -> W {
        assert!(
            self.left == 0 && self.lengths.next().is_none(),
            "a planned tensor was not written"
        );
        self.out
    }
}

fn put_text(head: &mut Vec<u8>, text: &str) {
    head.extend_from_slice(&(text.len() as u64).to_le_bytes());
    head.extend_from_slice(text.as_bytes());
}

fn put_array<T>(
    head: &mut Vec<u8>,
    kind: Kind,
    items: &[T],
    mut put: impl FnMut(&mut Vec<u8>, &T),
) {
    head.extend_from_slice(&(Kind::Array as u32).to_le_bytes());
    head.extend_from_slice(&(kind as u32).to_le_bytes());
    head.extend_from_slice(&(items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(head, item));
}

fn put_entry(head: &mut Vec<u8>, entry: &Entry<'_>) {
    let scalar = |head: &mut Vec<u8>, kind: Kind, bytes: &[u8]| {
        head.extend_from_slice(&(kind as u32).to_le_bytes());
        head.extend_from_slice(bytes);
    };
    match entry {
        Entry::U32(number) => scalar(head, Kind::U32, &number.to_le_bytes()),
        Entry::F32(number) => scalar(head, Kind::F32, &number.to_le_bytes()),
        Entry::Bool(flag) => scalar(head, Kind::Bool, &[u8::from(*flag)]),
        Entry::Text(text) => {
            scalar(head, Kind::String, &[]);
            put_text(head, text);
        }
        Entry::Texts(texts) => {
            put_array(head, Kind::String, texts, |head, text| put_text(head, text))
        }
        Entry::Pairs(pairs) => put_array(head, Kind::String, pairs, |head, (left, right)| {
            put_text(head, &format!("{left} {right}"));
        }),
        Entry::F32s(numbers) => put_array(head, Kind::F32, numbers, |head, number| {
            head.extend_from_slice(&number.to_le_bytes());
        }),
        Entry::I32s(numbers) => put_array(head, Kind::I32, numbers, |head, number| {
            head.extend_from_slice(&number.to_le_bytes());
        }),
        Entry::Kept(value, file) => value.put(file, head),
        Entry::Bools(flags) => {
            put_array(head, Kind::Bool, flags, |head, flag| head.push(u8::from(*flag)))
        }
    }
}

/// The metadata of a model, under llama.cpp's keys. `file_type` is llama.cpp's number for the type
/// of most matrices.
pub fn model_entries<'a>(
    config: &ModelConfig,
    name: &str,
    file_type: u32,
) -> Vec<(String, Entry<'a>)> {
    let mut entries = vec![
        ("general.architecture".to_owned(), Entry::Text(ARCHITECTURE.to_owned())),
        ("general.name".to_owned(), Entry::Text(name.to_owned())),
        ("general.file_type".to_owned(), Entry::U32(file_type)),
        ("general.quantization_version".to_owned(), Entry::U32(2)),
    ];
    let mut put =
        |key: &str, entry: Entry<'a>| entries.push((format!("{ARCHITECTURE}.{key}"), entry));
    let size = |size: usize| Entry::U32(size as u32);
    put("context_length", size(config.context));
    put("embedding_length", size(config.hidden));
    put("block_count", size(config.layers.len()));
    put("feed_forward_length", size(config.ffn));
    put("attention.head_count", size(config.heads));
    put("attention.head_count_kv", size(config.kv_heads));
    put("attention.key_length", size(config.head_dim));
    put("attention.value_length", size(config.head_dim));
    put("attention.layer_norm_rms_epsilon", Entry::F32(config.rms_eps));
    put("attention.scale", Entry::F32(config.query_scale));
    put("attention.sliding_window", size(config.window));
    put("attention.sliding_window_pattern", pattern(&config.layers));
    put("rope.freq_base", Entry::F32(config.rope_global.base));
    put("rope.freq_base_swa", Entry::F32(config.rope_sliding.base));
    if config.rope_global.factor != 1.0 {
        put("rope.scaling.type", Entry::Text("linear".to_owned()));
        put("rope.scaling.factor", Entry::F32(config.rope_global.factor));
    }
    entries
}

/// A single number if every n-th layer is global, otherwise a flag per layer.
fn pattern<'a>(planes: &[Plane]) -> Entry<'a> {
    match (1..=planes.len() + 1).find(|&every| every_nth_global(planes.len(), every) == planes) {
        // 6 identifies Gemma 3 even if the model has too few layers to show the pattern.
        Some(every) if every > planes.len() && every_nth_global(planes.len(), 6) == planes => {
            Entry::U32(6)
        }
        Some(every) => Entry::U32(every as u32),
        None => Entry::Bools(planes.iter().map(|&plane| plane == Plane::Sliding).collect()),
    }
}

/// The metadata of `gguf`, byte for byte and in its order, without the entries that describe how
/// tensors are stored: their types, their alignment, and the split into parts.
pub fn kept_entries(gguf: &Gguf) -> Vec<(String, Entry<'_>)> {
    let is_storage = |key: &str| {
        key.starts_with("split.")
            || matches!(
                key,
                "general.file_type" | "general.quantization_version" | "general.alignment"
            )
    };
    let mut kept: Vec<_> = gguf.metadata().iter().filter(|(key, _)| !is_storage(key)).collect();
    kept.sort_unstable_by_key(|(_, value)| value.start());
    kept.into_iter().map(|(key, value)| (key.clone(), Entry::Kept(value, gguf.head()))).collect()
}

/// The metadata of a vocabulary, as llama.cpp reads it for SentencePiece models.
pub(crate) fn vocabulary_entries(vocabulary: &Vocabulary) -> Vec<(String, Entry<'_>)> {
    let mut entries = Vec::new();
    let mut put = |key: &str, entry| entries.push((format!("tokenizer.ggml.{key}"), entry));
    put("model", Entry::Text("llama".to_owned()));
    put("pre", Entry::Text("default".to_owned()));
    put("tokens", Entry::Texts(&vocabulary.tokens));
    put("scores", Entry::F32s(&vocabulary.scores));
    put("token_type", Entry::I32s(vocabulary.kinds.iter().map(|&kind| kind as i32).collect()));
    if !vocabulary.merges.is_empty() {
        put("merges", Entry::Pairs(&vocabulary.merges));
    }
    for (key, id) in [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("unknown_token_id", vocabulary.unknown),
        ("padding_token_id", vocabulary.padding),
    ] {
        if let Some(id) = id {
            put(key, Entry::U32(id.0));
        }
    }
    put("add_bos_token", Entry::Bool(vocabulary.add_bos));
    put("add_eos_token", Entry::Bool(false));
    put("add_space_prefix", Entry::Bool(false));
    entries
}
