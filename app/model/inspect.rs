//! Describes a GGUF and its memory needs, for the person who chooses one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::attention::scratch_values;
use super::config::{ModelConfig, Precision};
use super::engine::CHUNK_TOKENS;
use super::fault::{Fault, FileError};
use super::load::{fingerprint, named, open};
use super::stripes::STRIPE_ROWS;
use crate::kernels::MOST_TOGETHER;
use crate::kv::{KvFormat, KvShape, Plane};
use crate::limits::{
    BLOCK_TOKENS, HEAP_RESERVE_BYTES, MAX_CONTEXT_TOKENS, MAX_DRAFT_TOKENS, NODE_TABLE_BYTES,
    PROGRAM_BYTES,
};
use crate::tokenizer::Tokenizer;

/// The description of a GGUF.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Inspection {
    /// The file.
    pub path: String,
    /// Bytes of the file, or of all its parts.
    pub file_bytes: u64,
    /// Number of files of the model.
    pub parts: usize,
    /// The model's name according to the file.
    pub name: Option<String>,
    /// Always gemma3: others are refused.
    pub architecture: &'static str,
    /// Values of all tensors.
    pub parameters: u64,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Layers that see the whole prefix.
    pub global_layers: usize,
    /// Layers that see the window.
    pub sliding_layers: usize,
    /// Tokens of the window.
    pub window: usize,
    /// Tokens that the model was trained for.
    pub context: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Whether the file contains the text of its tokens. Without it a separate tokenizer.json is
    /// needed.
    pub has_vocabulary: bool,
    /// Tensors by type.
    pub tensors: BTreeMap<&'static str, TensorCount>,
    /// Whether the file has a chat template. A model with one was made for conversations; others
    /// complete text.
    pub chat: bool,
    /// The fingerprint with which the appliance shares this model's KV state.
    pub fingerprint: String,
    /// The memory that it needs to run.
    pub memory: Memory,
    /// Its speed on this machine, if measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

/// The measured speed of a model on a machine.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Speed {
    /// Prompt tokens processed per second.
    pub prefill_tokens_per_s: f64,
    /// Length of that prompt.
    pub prefill_tokens: usize,
    /// Answer tokens generated per second, after that prompt.
    pub decode_tokens_per_s: f64,
    /// Cores that computed.
    pub threads: usize,
    /// The instruction set of the kernels that ran.
    pub instructions: &'static str,
}

/// Tensors of one type.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct TensorCount {
    /// The number of tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Memory that a model needs, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Memory {
    /// Weights, mapped: every token reads all of them, so they should stay in memory.
    pub weights_bytes: u64,
    /// KV state per token on the layers that see the whole prefix.
    pub global_bytes_a_token: u64,
    /// KV state per token on the layers that see the window.
    pub sliding_bytes_a_token: u64,
    /// Tokens of the longest sequence that this build supports with this model.
    pub sequence_tokens: u64,
    /// Slab for one such sequence: every block's global plane, and the sliding planes of a window
    /// and a block.
    pub slab_bytes: u64,
    /// Memory that a pass on one core holds at once: an estimate.
    pub scratch_bytes: u64,
    /// The tables of the file's vocabulary, mapped; 0 if it has none.
    pub tokenizer_bytes: u64,
    /// Code, stacks, tables and allocator overhead: an estimate.
    pub program_bytes: u64,
}

impl Memory {
    /// The sum.
    pub(crate) fn total(&self) -> u64 {
        self.weights_bytes
            + self.slab_bytes
            + self.scratch_bytes
            + self.tokenizer_bytes
            + self.program_bytes
    }
}

/// Opens the GGUF at `path` and describes it.
pub(crate) fn inspect(path: &Path) -> Result<Inspection, FileError> {
    let opened = open(path)?;
    let config = &opened.config;
    let mut tensors: BTreeMap<&'static str, TensorCount> = BTreeMap::new();
    let mut parameters = 0;
    for (_, weight) in named(&opened.weights) {
        let entry = tensors.entry(weight.format().name()).or_default();
        entry.tensors += 1;
        entry.bytes += weight.bytes().len() as u64;
        parameters += (weight.rows() * weight.cols()) as u64;
    }
    let shape = KvShape::new(
        &config.layers,
        config.kv_heads,
        config.head_dim,
        config.window,
        KvFormat::Int8,
    )
    .map_err(|error| FileError::new(path, Fault::Shape(error)))?;
    let layers = |plane| config.layers.iter().filter(|&&other| other == plane).count();
    let weights_bytes = tensors.values().map(|count| count.bytes).sum();
    let vocabulary = opened.gguf.vocabulary()?;
    // A vocabulary that yields no tokenizer is refused when it is used.
    let tokenizer =
        vocabulary.as_ref().and_then(|vocabulary| Tokenizer::from_vocabulary(vocabulary).ok());
    let tokenizer_bytes = tokenizer.map_or(0, |tokenizer| tokenizer.table_bytes() as u64);
    Ok(Inspection {
        path: path.display().to_string(),
        file_bytes: opened.gguf.file_bytes(),
        parts: opened.gguf.files().len(),
        name: opened
            .gguf
            .text("general.name")?
            .map(|name| name.chars().filter(|c| !c.is_control()).take(200).collect()),
        architecture: super::gguf::ARCHITECTURE,
        parameters,
        hidden: config.hidden,
        ffn: config.ffn,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        global_layers: layers(Plane::Global),
        sliding_layers: layers(Plane::Sliding),
        window: config.window,
        context: config.context,
        vocabulary: config.vocab,
        has_vocabulary: vocabulary.is_some(),
        chat: matches!(opened.gguf.text("tokenizer.chat_template"), Ok(Some(text)) if !text.trim().is_empty()),
        tensors,
        fingerprint: fingerprint(opened.content(), Precision::INT8).to_string(),
        memory: memory(weights_bytes, tokenizer_bytes, &shape, config),
        speed: None,
    })
}

fn memory(
    weights_bytes: u64,
    tokenizer_bytes: u64,
    shape: &KvShape,
    config: &ModelConfig,
) -> Memory {
    let tokens = config.context.min(MAX_CONTEXT_TOKENS);
    Memory {
        weights_bytes,
        global_bytes_a_token: shape.plane_bytes(Plane::Global, 1) as u64,
        sliding_bytes_a_token: shape.plane_bytes(Plane::Sliding, 1) as u64,
        sequence_tokens: tokens as u64,
        slab_bytes: sequence_bytes(shape, tokens),
        scratch_bytes: scratch_bytes(config, tokens, 1),
        tokenizer_bytes,
        program_bytes: NODE_TABLE_BYTES + PROGRAM_BYTES + HEAP_RESERVE_BYTES,
    }
}

/// Slab for one sequence of `tokens`: every block's global plane, and the sliding planes of a
/// window and a block.
pub(crate) fn sequence_bytes(shape: &KvShape, tokens: usize) -> u64 {
    let blocks = tokens.div_ceil(BLOCK_TOKENS);
    let near = (shape.window().div_ceil(BLOCK_TOKENS) + 1).min(blocks);
    let (global, sliding) = (
        shape.plane_bytes(Plane::Global, BLOCK_TOKENS),
        shape.plane_bytes(Plane::Sliding, BLOCK_TOKENS),
    );
    (blocks * global + near * sliding) as u64
}

/// Memory that a pass on `cores` cores holds at once, an estimate: residual, normed input and block
/// output; queries and attention output; keys and values; gate and up; all f32, for the tokens of a
/// chunk; a row of logits twice, a stripe of a draft's logits, or a bound for every output row and
/// every token that is judged from halves, and once more for one of these tokens; and on each core
/// its scratch memory for attention over `context` positions.
pub(crate) fn scratch_bytes(config: &ModelConfig, context: usize, cores: usize) -> u64 {
    let widths = 3 * config.hidden
        + 2 * config.heads * config.head_dim
        + 2 * config.kv_heads * config.head_dim
        + 2 * config.ffn;
    let of_a_core = scratch_values(config.heads, config.kv_heads, config.head_dim, context);
    let logits = ((MOST_TOGETHER + 1) * config.vocab)
        .max((MAX_DRAFT_TOKENS + 1) * config.vocab.min(STRIPE_ROWS));
    4 * (widths * CHUNK_TOKENS + logits + cores * of_a_core) as u64
}

/// A readable size: 243.1 MB.
fn megabytes(bytes: u64) -> String {
    if bytes < 100_000 { format!("{bytes} B") } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        let parts =
            if self.parts > 1 { format!(" in {} parts", self.parts) } else { String::new() };
        writeln!(f, "file         {} ({}{parts})", self.path, megabytes(self.file_bytes))?;
        writeln!(f, "model        {}", self.name.as_deref().unwrap_or("without a name"))?;
        let kind = if self.chat {
            "chat: the file has a chat template"
        } else {
            "base: completes text, has no chat template"
        };
        writeln!(f, "kind         {kind}")?;
        writeln!(
            f,
            "architecture {}, {:.1} M parameters",
            self.architecture,
            self.parameters as f64 / 1e6
        )?;
        let (global, sliding) = (self.global_layers, self.sliding_layers);
        writeln!(
            f,
            "layers       {} ({global} global, {sliding} sliding over {} tokens)",
            global + sliding,
            self.window
        )?;
        writeln!(f, "sizes        hidden {}, feed-forward {}", self.hidden, self.ffn)?;
        writeln!(
            f,
            "heads        {} of {}, {} for keys and values",
            self.heads, self.head_dim, self.kv_heads
        )?;
        writeln!(f, "context      {} tokens", self.context)?;
        let text = if self.has_vocabulary {
            "in the file"
        } else {
            "not in the file: give a tokenizer.json"
        };
        writeln!(f, "vocabulary   {} tokens, {text}", self.vocabulary)?;
        for (name, count) in &self.tensors {
            writeln!(f, "tensors      {:4} {name:<6} {}", count.tensors, megabytes(count.bytes))?;
        }
        writeln!(f, "fingerprint  {} (int8 activations, int8 KV)", self.fingerprint)?;
        writeln!(f, "weights      {} mapped", megabytes(memory.weights_bytes))?;
        let (global, sliding) = (memory.global_bytes_a_token, memory.sliding_bytes_a_token);
        writeln!(
            f,
            "KV state     {} B per token: {global} global, {sliding} sliding",
            global + sliding
        )?;
        writeln!(
            f,
            "slab         {} for a sequence of {} tokens",
            megabytes(memory.slab_bytes),
            memory.sequence_tokens
        )?;
        writeln!(f, "scratch      about {} on one core", megabytes(memory.scratch_bytes))?;
        let (tokenizer, program) = (memory.tokenizer_bytes, memory.program_bytes);
        writeln!(
            f,
            "program      about {}, and {} mapped for the tokenizer",
            megabytes(program),
            megabytes(tokenizer)
        )?;
        write!(f, "in all       about {}", megabytes(memory.total()))?;
        let Some(speed) = &self.speed else { return Ok(()) };
        let Speed {
            prefill_tokens_per_s,
            prefill_tokens,
            decode_tokens_per_s,
            threads,
            instructions,
        } = speed;
        let plural = if *threads == 1 { "" } else { "s" };
        write!(
            f,
            "\nspeed here   {decode_tokens_per_s:.1} tokens/s of an answer, {prefill_tokens_per_s:.1} of a prompt of "
        )?;
        write!(f, "{prefill_tokens} (int8, {threads} thread{plural}, {instructions})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BOARD_WORKING_BYTES;
    use crate::model::convert::ConvertType;
    use crate::model::synth::{Shape, synth};

    #[test]
    fn the_demo_model_is_described_in_figures_that_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.gguf");
        synth(Shape::Demo, 3, ConvertType::Q4_0, &path, &mut |_| {}).unwrap();
        let said = inspect(&path).unwrap();
        assert_eq!((said.global_layers, said.sliding_layers, said.window), (1, 5, 256));
        let types: Vec<_> = said.tensors.keys().copied().collect();
        assert_eq!(types, ["F32", "Q4_0", "Q8_0"]);
        assert_eq!(said.tensors["Q8_0"], TensorCount { tensors: 1, bytes: 4_096 * 256 / 32 * 34 });
        assert_eq!(said.memory.global_bytes_a_token, 2 * (64 + 4));
        assert_eq!(said.memory.sliding_bytes_a_token, 5 * 2 * (64 + 4));
        assert!(said.file_bytes > said.memory.weights_bytes);
        let memory = &said.memory;
        let tables =
            Tokenizer::from_vocabulary(&open(&path).unwrap().gguf.vocabulary().unwrap().unwrap())
                .unwrap()
                .table_bytes();
        assert_eq!((memory.tokenizer_bytes, memory.program_bytes), (tables as u64, 26_000_000));
        let parts = memory.weights_bytes
            + memory.slab_bytes
            + memory.scratch_bytes
            + memory.tokenizer_bytes;
        assert_eq!(memory.total() - parts, memory.program_bytes);
        let text = said.to_string();
        assert!(
            text.contains(&format!("in all       about {}", megabytes(memory.total()))),
            "{text}"
        );
        assert!(text.contains("layers       6 (1 global, 5 sliding over 256 tokens)"), "{text}");
        assert!(text.contains(&said.fingerprint) && said.fingerprint.len() == 32);
        assert!(
            text.contains("kind         base: completes text") && !text.contains("speed"),
            "{text}"
        );
        let speed = Speed {
            prefill_tokens_per_s: 400.04,
            prefill_tokens: 256,
            decode_tokens_per_s: 50.0,
            threads: 2,
            instructions: "avx2",
        };
        let text = Inspection { speed: Some(speed), chat: true, parts: 3, ..said }.to_string();
        let line = "speed here   50.0 tokens/s of an answer, 400.0 of a prompt of 256 (int8, 2 threads, avx2)";
        assert!(text.ends_with(line), "{text}");
        assert!(
            text.contains(" MB in 3 parts)")
                && text.contains("kind         chat: the file has a chat template"),
            "{text}"
        );
    }

    #[test]
    fn a_pass_of_the_boards_model_fits_what_the_board_keeps_for_it() {
        let config = Shape::Gemma3_270M.config();
        let on = |cores| scratch_bytes(&config, MAX_CONTEXT_TOKENS, cores);
        assert!(on(4) <= BOARD_WORKING_BYTES, "{}", on(4));
        // Every core has its own scores: 8 tokens, 4 heads, and rows of a block.
        assert_eq!(on(4) - on(3), 4 * (8 * 4 * MAX_CONTEXT_TOKENS as u64 + 16 * 256));
        // A tile holds the queries of one KV head.
        let split = ModelConfig { kv_heads: 4, ..config };
        assert_eq!(
            scratch_bytes(&split, 2_048, 2) - scratch_bytes(&split, 2_048, 1),
            4 * (8 * 2_048 + 16 * 256)
        );
    }
}
