//! Opens a model for use, and computes the fingerprint under which nodes share its KV state.
//!
//! The fingerprint covers exactly what determines KV bytes: configuration, the content of every
//! tensor, precision, numerics version, block size. File names, the order of tensors and metadata,
//! and the vocabulary's text do not matter, because keys are made of token ids.

use core::ops::Range;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::config::{ModelConfig, Precision, Rope};
use super::fault::{Fault, FileError};
use super::gguf::{Gguf, GgufFile};
use super::weight::{Weight, Weights};
use crate::id::Fingerprint;
use crate::kernels::NUMERICS_VERSION;
use crate::limits::BLOCK_TOKENS;

const CONTENT_DOMAIN: &[u8] = b"potluck model content 1";
const FINGERPRINT_DOMAIN: &[u8] = b"potluck fingerprint 1";

/// If this many bytes at the end of a file's tensors are zeros, the copy was interrupted: on FAT
/// the length is then right, but the rest was never written. No tensor ends like this. Files below
/// `SAMPLED_EVERY` are copied in one go.
const EMPTY_END_BYTES: usize = 64 << 10;

/// A sample reads `SAMPLE_BYTES` at the start of every tensor and at every `SAMPLED_EVERY` bytes of
/// it.
const SAMPLE_BYTES: usize = 4 << 10;
const SAMPLED_EVERY: usize = 1 << 20;

/// A model, checked and mapped.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its tensors, in place in the maps.
    pub weights: Weights,
    /// The files, for their names and the vocabulary.
    pub gguf: Gguf,
}

/// Opens the GGUF at `path`, together with its other parts if it has any. Reads and checks the
/// heads, but none of the tensor data.
pub fn open(path: &Path) -> Result<Opened, FileError> {
    let gguf = Gguf::open(path)?;
    let config = gguf.config()?;
    let weights = gguf.weights(&config)?;
    gguf.vocabulary_size()?;
    if let Some(file) = ends_empty(&gguf) {
        return Err(FileError::new(&file.path, Fault::EmptyEnd));
    }
    Ok(Opened { config, weights, gguf })
}

impl Opened {
    /// Hash of configuration and tensors. Equal models have equal hashes, whatever the names and
    /// number of their files. Reads all tensors.
    pub fn content(&self) -> Content {
        Content(content(&self.config, &self.weights))
    }

    /// Hash of the files' lengths, the head, and a few KiB at the start and at every MiB of each
    /// tensor. It differs for another model or another conversion of this one. Reads some 2 MB,
    /// which takes a third of a second from the board's card; [`Opened::content`] takes eleven
    /// seconds. It misses changes within a MiB of a tensor; docs/inside/kv.md says where that is
    /// good enough.
    pub(crate) fn sample(&self) -> Result<[u8; 16], FileError> {
        let mut hash = Xxh3Default::new();
        let mut files = Vec::with_capacity(self.gguf.files().len());
        for GgufFile { path, bytes } in self.gguf.files() {
            hash.update(&(bytes.as_slice().len() as u64).to_le_bytes());
            files.push((
                path,
                File::open(path).map_err(|error| FileError::new(path, Fault::Open(error)))?,
            ));
        }
        hash.update(&self.vocabulary_source());
        // Reads the file instead of the map: touching the map would page in the surroundings too.
        let mut buffer = [0; SAMPLE_BYTES];
        for tensor in self.gguf.tensors().values() {
            let (path, file) = &mut files[tensor.file];
            let wrong = |error| FileError::new(path, Fault::Open(error));
            for start in tensor.range.clone().step_by(SAMPLED_EVERY) {
                let part = &mut buffer[..SAMPLE_BYTES.min(tensor.range.end - start)];
                file.seek(SeekFrom::Start(start as u64)).map_err(wrong)?;
                file.read_exact(part).map_err(wrong)?;
                hash.update(part);
            }
        }
        Ok(hash.digest128().to_le_bytes())
    }

    /// The matrix that produces the logits, the index of its file, and its byte range there.
    pub fn output_rows(&self) -> (&Weight, usize, Range<usize>) {
        let tied = (&self.weights.embedding, "token_embd.weight");
        let (weight, name) =
            self.weights.output.as_ref().map_or(tied, |output| (output, "output.weight"));
        let tensor = &self.gguf.tensors()[name];
        (weight, tensor.file, tensor.range.clone())
    }

    /// Hash of everything before the tensors, including the vocabulary.
    pub(crate) fn vocabulary_source(&self) -> [u8; 16] {
        xxh3_128(self.gguf.head()).to_le_bytes()
    }
}

/// The first file whose tensors end in zeros.
fn ends_empty(gguf: &Gguf) -> Option<&GgufFile> {
    gguf.files().iter().enumerate().find_map(|(number, file)| {
        let ends = gguf
            .tensors()
            .values()
            .filter(|tensor| tensor.file == number)
            .map(|tensor| tensor.range.end);
        let end = ends.max().filter(|&end| end > SAMPLED_EVERY)?;
        file.bytes.as_slice()[end - EMPTY_END_BYTES..end]
            .iter()
            .all(|byte| *byte == 0)
            .then_some(file)
    })
}

/// The content hash of a model, see [`Opened::content`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content(pub(crate) [u8; 16]);

/// Two nodes share KV state of the model with this content only if their fingerprints are equal.
pub fn fingerprint(content: Content, precision: Precision) -> Fingerprint {
    digest(&content.0, precision, NUMERICS_VERSION)
}

fn digest(content: &[u8; 16], precision: Precision, numerics: u32) -> Fingerprint {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(FINGERPRINT_DOMAIN);
    bytes.extend_from_slice(&numerics.to_le_bytes());
    bytes.push(u8::from(precision.int8_activations));
    bytes.push(precision.kv as u8);
    bytes.extend_from_slice(&(BLOCK_TOKENS as u32).to_le_bytes());
    bytes.extend_from_slice(content);
    Fingerprint(xxh3_128(&bytes).to_le_bytes())
}

fn content(config: &ModelConfig, weights: &Weights) -> [u8; 16] {
    let mut hash = Xxh3Default::new();
    hash.update(CONTENT_DOMAIN);
    let ModelConfig {
        vocab,
        hidden,
        ffn,
        heads,
        kv_heads,
        head_dim,
        ref layers,
        window,
        context,
        ..
    } = *config;
    for size in [vocab, hidden, ffn, heads, kv_heads, head_dim, layers.len(), window, context] {
        hash.update(&(size as u64).to_le_bytes());
    }
    for plane in layers {
        hash.update(&[*plane as u8]);
    }
    let ModelConfig { rms_eps, query_scale, rope_global, rope_sliding, .. } = *config;
    let Rope { base, factor } = rope_global;
    for value in [rms_eps, query_scale, base, factor, rope_sliding.base, rope_sliding.factor] {
        hash.update(&value.to_bits().to_le_bytes());
    }
    for (name, weight) in named(weights) {
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&(weight.format() as u32).to_le_bytes());
        hash.update(&(weight.rows() as u64).to_le_bytes());
        hash.update(&(weight.cols() as u64).to_le_bytes());
        hash.update(&xxh3_128(weight.bytes()).to_le_bytes());
    }
    hash.digest128().to_le_bytes()
}

/// Every tensor under its GGUF name, sorted by name.
pub(super) fn named(weights: &Weights) -> Vec<(String, &Weight)> {
    let mut named = vec![
        ("token_embd.weight".to_owned(), &weights.embedding),
        ("output_norm.weight".to_owned(), &weights.output_norm),
    ];
    named.extend(weights.output.iter().map(|output| ("output.weight".to_owned(), output)));
    for (index, layer) in weights.layers.iter().enumerate() {
        let parts = [
            ("attn_norm", &layer.attention_norm),
            ("attn_q", &layer.query),
            ("attn_k", &layer.key),
            ("attn_v", &layer.value),
            ("attn_q_norm", &layer.query_norm),
            ("attn_k_norm", &layer.key_norm),
            ("attn_output", &layer.attention_output),
            ("post_attention_norm", &layer.post_attention_norm),
            ("ffn_norm", &layer.ffn_norm),
            ("ffn_gate", &layer.gate),
            ("ffn_up", &layer.up),
            ("ffn_down", &layer.down),
            ("post_ffw_norm", &layer.post_ffn_norm),
        ];
        named.extend(parts.map(|(name, weight)| (format!("blk.{index}.{name}.weight"), weight)));
    }
    named.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{KvFormat, Plane};
    use crate::model::convert::ConvertType;
    use crate::model::synth::{Shape, synth_config};

    fn tiny(dir: &Path, seed: u64) -> Opened {
        let mut config = Shape::Demo.config();
        (config.vocab, config.hidden, config.ffn, config.head_dim, config.heads) =
            (512, 64, 96, 32, 2);
        let path = dir.join(format!("tiny-{seed}.gguf"));
        synth_config(&config, seed, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
        open(&path).unwrap()
    }

    /// If this fails, nodes of this build no longer share with those of the previous one. Either
    /// raise the number in the domain on purpose or find out why.
    #[test]
    fn the_fingerprint_of_a_known_model_is_pinned() {
        let dir = tempfile::tempdir().unwrap();
        let opened = tiny(dir.path(), 1);
        assert_eq!(
            digest(&opened.content().0, Precision::INT8, 1).to_string(),
            "6cfbe26cac1abec99815ada046d09e34"
        );
    }

    #[test]
    fn a_file_whose_copying_was_cut_short_is_told_by_its_empty_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.gguf");
        crate::model::synth::synth(Shape::Demo, 1, ConvertType::Q4_0, &path, &mut |_| {}).unwrap();
        open(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.len();
        bytes[length * 2 / 3..].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let said = open(&path).unwrap_err().to_string();
        assert!(said.contains("copy it again, and eject the card"), "{said}");
    }

    #[test]
    fn a_sample_tells_models_and_cut_files_apart_and_their_names_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (tiny(dir.path(), 1), tiny(dir.path(), 2));
        assert_ne!(one.sample().unwrap(), two.sample().unwrap());
        let copy = dir.path().join("copy.gguf");
        std::fs::copy(one.gguf.path(), &copy).unwrap();
        assert_eq!(open(&copy).unwrap().sample().unwrap(), one.sample().unwrap());
        let mut bytes = std::fs::read(&copy).unwrap();
        for tensor in one.gguf.tensors().values() {
            let kept = bytes[tensor.range.start];
            bytes[tensor.range.start] ^= 1;
            std::fs::write(&copy, &bytes).unwrap();
            assert_ne!(
                open(&copy).unwrap().sample().unwrap(),
                one.sample().unwrap(),
                "a tensor was not sampled"
            );
            bytes[tensor.range.start] = kept;
        }
        std::fs::remove_file(&copy).unwrap();
        assert!(matches!(
            open(one.gguf.path()).map(|o| (std::fs::remove_file(o.gguf.path()), o.sample())),
            Ok((Ok(()), Err(_)))
        ));
    }

    #[test]
    fn whatever_could_change_a_kv_byte_changes_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let opened = tiny(dir.path(), 1);
        let of = |opened: &Opened| content(&opened.config, &opened.weights);
        let mut seen = vec![digest(&opened.content().0, Precision::INT8, 1).0];
        seen.push(digest(&opened.content().0, Precision::FLOAT, 1).0);
        seen.push(
            digest(&opened.content().0, Precision { int8_activations: true, kv: KvFormat::F32 }, 1)
                .0,
        );
        seen.push(digest(&opened.content().0, Precision::INT8, 2).0);
        seen.push(of(&opened));
        seen.push(of(&tiny(dir.path(), 2)));
        for change in [
            |c: &mut ModelConfig| c.window += 1,
            |c: &mut ModelConfig| c.rms_eps *= 2.0,
            |c: &mut ModelConfig| c.query_scale *= 2.0,
            |c: &mut ModelConfig| c.rope_global.factor = 8.0,
            |c: &mut ModelConfig| c.rope_sliding.base = 1e6,
            |c: &mut ModelConfig| c.layers[0] = Plane::Global,
        ] {
            let mut other = opened.clone();
            change(&mut other.config);
            seen.push(of(&other));
        }
        let mut other = opened.clone();
        other.weights.layers.swap(0, 1);
        seen.push(of(&other));
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
