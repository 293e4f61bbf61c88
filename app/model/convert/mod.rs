//! Converts a Hugging Face directory to a GGUF that potluck (and llama.cpp) can map: config.json,
//! safetensors in one or several shards, the vocabulary of tokenizer.json, and the chat template.
//! Also converts a GGUF to another type (`gguf.rs`).
//!
//! Shards are mapped, only a chunk of one tensor is in memory at a time, and the file appears under
//! its name only once it is complete. Tensors or settings that Gemma 3's text model does not have
//! are refused, never dropped; the vision tensors of a multimodal model are omitted and counted.

mod gguf;
mod hub;
mod plan;
mod template;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use thiserror::Error;

use super::Progress;
use super::config::ModelConfig;
use super::draft::Draft;
use super::fault::{Fault, FileError};
use super::gguf::{Entry, Part, Writer, model_entries, vocabulary_entries};
use super::quantize::{Unstorable, encode};
use super::safetensors::{Tensor, one_line, open_directory, read_json};
use crate::tokenizer::{TokenizerError, Vocabulary};

pub use plan::ConvertType;
pub(super) use plan::{Planned, plan};

/// Values in memory at once while a matrix is converted: 4 MB as f32.
const CHUNK_VALUES: usize = 1 << 20;

/// The result of a conversion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Tensors written.
    pub(crate) tensors: usize,
    /// Tokens of the vocabulary; `None` if the directory has no tokenizer.json. The file can then
    /// only be used together with a separate tokenizer.json.
    pub(crate) vocabulary: Option<usize>,
    /// Notes for the user: tensors stored in another type than requested, omitted parts.
    pub(crate) notes: Vec<String>,
}

/// Why nothing was converted. No output file is left behind.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// A file that cannot be read, understood or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The vocabulary.
    #[error("{path}: {source}")]
    Tokenizer {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// A tensor with a value that the requested type cannot represent.
    #[error("{path}: tensor {tensor}, {source}")]
    Value {
        /// The file that holds it.
        path: String,
        /// The tensor's name in that file.
        tensor: String,
        /// Where and why.
        source: Unstorable,
    },
}

/// Converts `from`, a Hugging Face directory or a GGUF, to the GGUF `out`, with matrices stored as
/// `ty`. `progress` counts bytes of tensors.
pub fn convert(
    from: &Path,
    out: &Path,
    ty: ConvertType,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    if from.is_dir() {
        directory(from, out, ty, progress)
    } else {
        gguf::convert(from, out, ty, progress)
    }
}

/// Refuses to overwrite an existing file of the source directory, unless it is a GGUF.
fn refuse_source(dir: &Path, out: &Path) -> Result<(), FileError> {
    let (Ok(target), Ok(dir)) = (out.canonicalize(), dir.canonicalize()) else { return Ok(()) };
    let is_source = target.parent() == Some(dir.as_path())
        && target.extension().is_none_or(|ending| ending != "gguf");
    let message = "is a file of the source directory; choose another output file";
    if is_source { Err(FileError::new(out, Fault::Unsupported(message.into()))) } else { Ok(()) }
}

fn directory(
    dir: &Path,
    out: &Path,
    ty: ConvertType,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    refuse_source(dir, out)?;
    let tensors = open_directory(dir)?;
    let source = Source::find(dir, &tensors)?;
    let json_path = dir.join("config.json");
    let json = read_json(&json_path)?;
    let hub = hub::parse(&json_path, &json, source.embedding_rows)?;
    let (planned, mut notes) = plan(&hub.model, hub.tied, ty);
    source.check(&hub.model, hub.tied, &planned, &mut notes)?;
    let vocabulary = vocabulary(dir, &hub.model, &mut notes)?;

    let canonical = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = canonical
        .file_name()
        .map_or_else(|| "Gemma 3".into(), |name| name.to_string_lossy().into_owned());
    let mut entries = model_entries(&hub.model, &one_line(&name), ty.file_type());
    if let Some(vocabulary) = &vocabulary {
        entries.extend(vocabulary_entries(vocabulary));
    }
    if let Some(template) = template::chat_template(dir, &mut notes)? {
        entries.push(("tokenizer.chat_template".to_owned(), Entry::Text(template)));
    }
    let plans: Vec<_> = planned.iter().map(|planned| planned.plan.clone()).collect();
    let total = plans.iter().map(|plan| plan.bytes as u64).sum();
    let broken = |error: io::Error| FileError::new(out, Fault::Write(error));
    let mut writer = Writer::new(Draft::create(out)?, &entries, &plans).map_err(broken)?;
    let mut done = 0;
    for planned in &planned {
        let (name, tensor) = source.tensor(planned)?;
        write_tensor(tensor, planned, &mut |bytes| {
            writer.write(bytes)?;
            done += bytes.len() as u64;
            progress(Progress { done, total, item: &planned.plan.name });
            Ok(())
        })
        .map_err(|error| match error {
            ChunkError::Io(error) => broken(error).into(),
            ChunkError::Value(source) => ConvertError::Value {
                path: tensor.path.display().to_string(),
                tensor: name,
                source,
            },
        })?;
    }
    let bytes = writer.finish().keep()?;
    Ok(Report {
        bytes,
        tensors: planned.len(),
        vocabulary: vocabulary.map(|v| v.tokens.len()),
        notes,
    })
}

fn vocabulary(
    dir: &Path,
    config: &ModelConfig,
    notes: &mut Vec<String>,
) -> Result<Option<Vocabulary>, ConvertError> {
    let path = dir.join("tokenizer.json");
    if !path.exists() {
        notes.push(
            "the directory has no tokenizer.json: the file is written without a vocabulary".into(),
        );
        return Ok(None);
    }
    let refuse = |source| ConvertError::Tokenizer { path: path.display().to_string(), source };
    let mut vocabulary = Vocabulary::from_tokenizer_json_file(&path).map_err(refuse)?;
    let had = vocabulary.tokens.len();
    vocabulary.fit(config.vocab).map_err(refuse)?;
    if had != config.vocab {
        notes.push(format!(
            "tokenizer.json has {had} tokens, but the embedding {} rows: the vocabulary was fitted",
            config.vocab
        ));
    }
    vocabulary.drop_implied_merges().map_err(refuse)?;
    if vocabulary.merges.iter().any(|(left, right)| left.contains(' ') || right.contains(' ')) {
        let message =
            "a merge contains a plain space, which GGUF cannot represent: not Gemma's tokenizer"
                .to_owned();
        return Err(FileError::new(&path, Fault::Unsupported(message)).into());
    }
    Ok(Some(vocabulary))
}

/// The text model's place among a directory's tensors.
struct Source<'a> {
    dir: &'a Path,
    tensors: &'a BTreeMap<String, Tensor>,
    prefix: &'static str,
    embedding_rows: usize,
}

/// Prefixes of the text model's tensor names: text-only files, multimodal ones old and new, and the
/// bare inner model.
const PREFIXES: [&str; 4] = ["model.", "language_model.model.", "model.language_model.", ""];
const HEADS: [&str; 3] =
    ["lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"];
/// Prefixes of the vision tensors in multimodal files.
const VISION: [&str; 4] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

impl<'a> Source<'a> {
    fn find(dir: &'a Path, tensors: &'a BTreeMap<String, Tensor>) -> Result<Source<'a>, FileError> {
        for prefix in PREFIXES {
            let embedding = tensors.get(&format!("{prefix}embed_tokens.weight"));
            if let Some((embedding_rows, _)) = embedding.and_then(Tensor::matrix) {
                return Ok(Source { dir, tensors, prefix, embedding_rows });
            }
        }
        let message = "its safetensors hold no embed_tokens.weight: this is not a Gemma 3";
        Err(FileError::new(dir, Fault::Foreign(message.into())))
    }

    /// The Hugging Face name and the tensor for `planned`.
    fn tensor(&self, planned: &Planned) -> Result<(String, &'a Tensor), FileError> {
        let names = self.names(planned);
        let found = names
            .iter()
            .find_map(|name| self.tensors.get(name).map(|tensor| (name.clone(), tensor)));
        found.ok_or_else(|| {
            let message = format!("tensor {} is missing; download the model again", names[0]);
            FileError::new(self.dir, Fault::Foreign(message))
        })
    }

    fn names(&self, planned: &Planned) -> Vec<String> {
        let prefix = self.prefix;
        match planned.part {
            Part::Embedding => vec![format!("{prefix}embed_tokens.weight")],
            Part::Output => HEADS.iter().map(|head| (*head).to_owned()).collect(),
            _ => vec![format!("{prefix}{}", inner_name(&planned.plan.name))],
        }
    }

    /// Checks that every planned tensor exists with a fitting shape and type, and that no tensor
    /// would be lost silently.
    fn check(
        &self,
        config: &ModelConfig,
        tied: bool,
        planned: &[Planned],
        notes: &mut Vec<String>,
    ) -> Result<(), FileError> {
        let mut used = Vec::with_capacity(planned.len());
        for planned in planned {
            let (name, tensor) = self.tensor(planned)?;
            let at = |message: String| FileError::new(&tensor.path, Fault::Unsupported(message));
            let (rows, cols) = (planned.rows, planned.cols);
            if tensor.matrix() != Some((rows, cols))
                || planned.part.is_norm() != (tensor.dims.len() == 1)
            {
                let dims = tensor.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
                return Err(at(format!(
                    "tensor {name} is {dims}, but config.json makes it {rows} x {cols}"
                )));
            }
            if let Some(ty) = tensor.foreign_type() {
                return Err(at(format!(
                    "tensor {name} is {ty}; potluck converts F32, F16 and BF16"
                )));
            }
            used.push(name);
        }
        used.sort_unstable();
        let mut vision = 0;
        for (name, tensor) in self.tensors {
            let is_tied_head = tied && HEADS.contains(&name.as_str());
            if used.binary_search(name).is_ok()
                || is_tied_head
                || name.ends_with("rotary_emb.inv_freq")
            {
                continue;
            }
            if !VISION.iter().any(|prefix| name.starts_with(prefix)) {
                let layers = config.layers.len();
                let message = format!(
                    "tensor {} does not belong to Gemma 3's text model of {layers} layers",
                    one_line(name)
                );
                return Err(FileError::new(&tensor.path, Fault::Unsupported(message)));
            }
            vision += 1;
        }
        if vision > 0 {
            notes.push(format!("{vision} tensors of the vision tower were omitted"));
        }
        Ok(())
    }
}

/// The Hugging Face name of a layer's tensor or of the last norm.
fn inner_name(gguf: &str) -> String {
    let Some((layer, name)) = gguf.strip_prefix("blk.").and_then(|rest| rest.split_once('.'))
    else {
        return "norm.weight".to_owned();
    };
    let name = match name.strip_suffix(".weight").unwrap_or(name) {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_output" => "self_attn.o_proj",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" => "pre_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => "post_feedforward_layernorm",
    };
    format!("layers.{layer}.{name}.weight")
}

enum ChunkError {
    Io(io::Error),
    Value(Unstorable),
}

impl From<io::Error> for ChunkError {
    fn from(error: io::Error) -> ChunkError {
        ChunkError::Io(error)
    }
}

/// Reads and converts `tensor` in chunks of whole rows, and passes them to `sink`.
fn write_tensor(
    tensor: &Tensor,
    planned: &Planned,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ChunkError> {
    let Planned { rows, cols, .. } = *planned;
    let rows_a_chunk = (CHUNK_VALUES / cols).max(1);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(rows_a_chunk) {
        let start = first * cols;
        tensor.floats(start..(first + rows_a_chunk).min(rows) * cols, &mut values);
        if planned.part.is_norm() {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        bytes.clear();
        encode(planned.plan.format, &values, &mut bytes)
            .map_err(|error| ChunkError::Value(error.after(start)))?;
        sink(&bytes)?;
    }
    Ok(())
}
