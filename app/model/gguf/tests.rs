//! Valid files round-trip and mean what llama.cpp means by them; `refused` has the broken ones.

use std::path::Path;

use super::*;
use crate::kernels::Format;
use crate::kv::Plane;
use crate::model::config::{ModelConfig, Rope};
use crate::model::weight::Bytes;
use crate::tokenizer::Vocabulary;

mod parts;
mod refused;
mod types;

/// A GGUF in pieces, so that a test can modify one.
#[derive(Clone)]
struct Raw {
    magic: [u8; 4],
    version: u32,
    entries: Vec<(String, Vec<u8>)>,
    tensors: Vec<RawTensor>,
    alignment: usize,
}

#[derive(Clone)]
struct RawTensor {
    name: String,
    dims: Vec<u64>,
    ty: u32,
    data: Vec<u8>,
    offset: Option<u64>,
}

fn text(text: &str) -> Vec<u8> {
    [&8u32.to_le_bytes()[..], &(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn number(number: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), number.to_le_bytes()].concat()
}

fn float(number: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), number.to_le_bytes()].concat()
}

fn texts(items: &[&str]) -> Vec<u8> {
    let mut out =
        [&9u32.to_le_bytes()[..], &8u32.to_le_bytes(), &(items.len() as u64).to_le_bytes()]
            .concat();
    for item in items {
        out.extend_from_slice(&(item.len() as u64).to_le_bytes());
        out.extend_from_slice(item.as_bytes());
    }
    out
}

fn bools(flags: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &7u32.to_le_bytes(), &(flags.len() as u64).to_le_bytes(), flags]
        .concat()
}

fn config() -> ModelConfig {
    ModelConfig {
        vocab: 5,
        hidden: 32,
        ffn: 64,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        layers: vec![Plane::Sliding, Plane::Global],
        window: 24,
        context: 100,
        rms_eps: 1e-6,
        query_scale: 0.25,
        rope_global: Rope { base: 1e6, factor: 1.0 },
        rope_sliding: Rope { base: 1e4, factor: 1.0 },
    }
}

/// The tiny model with only the keys that every published file has.
fn tiny() -> Raw {
    let mut entries: Vec<(String, Vec<u8>)> = vec![("general.architecture".into(), text("gemma3"))];
    for (key, value) in [
        ("context_length", number(100)),
        ("embedding_length", number(32)),
        ("block_count", number(2)),
        ("feed_forward_length", number(64)),
        ("attention.head_count", number(2)),
        ("attention.head_count_kv", number(1)),
        ("attention.key_length", number(16)),
        ("attention.layer_norm_rms_epsilon", float(1e-6)),
        ("attention.sliding_window", number(24)),
        ("attention.sliding_window_pattern", number(2)),
        ("rope.freq_base", float(1e6)),
    ] {
        entries.push((format!("gemma3.{key}"), value));
    }
    let tensors = tensor_names(2, true).into_iter().enumerate().map(|(seed, (name, part))| {
        let (rows, cols) = part.shape(&config());
        let (dims, ty, bytes) = match part.is_norm() {
            true => (vec![cols as u64], 0, cols * 4),
            false => (vec![cols as u64, rows as u64], 8, rows * cols / 32 * 34),
        };
        let data = (0..bytes).map(|i| (i * 7 + seed) as u8).collect();
        RawTensor { name, dims, ty, data, offset: None }
    });
    Raw { magic: *b"GGUF", version: 3, entries, tensors: tensors.collect(), alignment: 32 }
}

impl Raw {
    fn set(mut self, key: &str, value: Vec<u8>) -> Raw {
        self.entries.retain(|(name, _)| name != key);
        self.entries.push((key.to_owned(), value));
        self
    }

    fn without(mut self, key: &str) -> Raw {
        self.entries.retain(|(name, _)| name != key);
        self
    }

    fn tensor(&mut self, name: &str) -> &mut RawTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            out.extend_from_slice(&(key.len() as u64).to_le_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend_from_slice(&(tensor.name.len() as u64).to_le_bytes());
            out.extend_from_slice(tensor.name.as_bytes());
            out.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.extend_from_slice(&dim.to_le_bytes()));
            out.extend_from_slice(&tensor.ty.to_le_bytes());
            out.extend_from_slice(&tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend_from_slice(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend_from_slice(&data);
        out
    }
}

/// Parses and reads everything; returns the error as one line.
fn read(bytes: Vec<u8>) -> Result<(Gguf, ModelConfig), String> {
    let read = || {
        let gguf = Gguf::parse(Path::new("some.gguf"), Bytes::new(bytes))?;
        let config = gguf.config()?;
        gguf.weights(&config)?;
        gguf.vocabulary()?;
        Ok((gguf, config))
    };
    read().map_err(|error: crate::model::FileError| {
        let line = error.to_string();
        assert!(line.starts_with("some.gguf: ") && !line.contains('\n'), "{line}");
        line["some.gguf: ".len()..].to_owned()
    })
}

fn refusal(raw: &Raw) -> String {
    read(raw.build()).expect_err("it was accepted")
}

#[test]
fn a_published_file_reads_with_llama_cpps_defaults() {
    let (gguf, read_config) = read(tiny().build()).unwrap();
    assert_eq!(read_config, config());
    let weights = gguf.weights(&read_config).unwrap();
    assert_eq!((weights.layers.len(), weights.output.is_none()), (2, true));
    let (raw, down) = (tiny(), &weights.layers[1].down);
    let stored = raw.tensors.iter().find(|tensor| tensor.name == "blk.1.ffn_down.weight").unwrap();
    assert_eq!((down.rows(), down.cols(), down.format()), (32, 64, Format::Q8_0));
    assert_eq!(down.bytes(), stored.data);
    assert!(gguf.vocabulary().unwrap().is_none());
    for version in [2, 3] {
        assert!(read(Raw { version, ..tiny() }.build()).is_ok());
    }
    let wide = Raw { alignment: 64, ..tiny() }.set("general.alignment", number(64));
    assert!(read(wide.build()).is_ok());
}

#[test]
fn each_key_means_what_llama_cpp_means_by_it() {
    let of = |raw: Raw| read(raw.build()).unwrap().1;
    let sliding = "gemma3.attention.sliding_window";
    let pattern = "gemma3.attention.sliding_window_pattern";
    let planes = |raw: Raw| of(raw).layers;
    assert_eq!(
        planes(tiny().without(pattern)),
        [Plane::Sliding; 2],
        "every sixth layer is global, so none of two"
    );
    assert_eq!(planes(tiny().set(pattern, number(1))), [Plane::Global; 2]);
    assert_eq!(planes(tiny().set(pattern, bools(&[0, 1]))), [Plane::Global, Plane::Sliding]);
    let everywhere = of(tiny().without(sliding));
    assert_eq!((everywhere.layers, everywhere.window), (vec![Plane::Global; 2], 100));
    assert_eq!(of(tiny().set("gemma3.attention.scale", float(0.5))).query_scale, 0.5);
    assert_eq!(of(tiny().set("gemma3.rope.freq_base_swa", float(5e3))).rope_sliding.base, 5e3);
    let linear = tiny()
        .set("gemma3.rope.scaling.type", text("linear"))
        .set("gemma3.rope.scaling.factor", float(8.0));
    assert_eq!((of(linear.clone()).rope_global.factor, of(linear).rope_sliding.factor), (8.0, 1.0));
    assert_eq!(of(tiny().set("gemma3.rope.scaling.type", text("none"))).rope_global.factor, 1.0);
    let derived = of(tiny().without("gemma3.attention.key_length"));
    assert_eq!(derived.head_dim, 16);
    let ollamas =
        tiny().without("gemma3.rope.freq_base").set("gemma3.rope.global.freq_base", float(2e6));
    let ollamas = of(ollamas
        .set("gemma3.rope.local.freq_base", float(5e3))
        .set("gemma3.final_logit_softcapping", float(30.0)));
    assert_eq!((ollamas.rope_global.base, ollamas.rope_sliding.base), (2e6, 5e3));
}

#[test]
fn a_written_vocabulary_is_read_back_whole() {
    let mut vocabulary = Vocabulary::synthetic(512, 1);
    vocabulary.merges = vec![("▁a".into(), "b".into()), ("c".into(), "▁".into())];
    let config = ModelConfig { vocab: 512, ..config() };
    let mut entries = model_entries(&config, "tiny", 7);
    entries.extend(vocabulary_entries(&vocabulary));
    let plans: Vec<TensorPlan> = tensor_names(2, false)
        .into_iter()
        .map(|(name, part)| {
            TensorPlan::new(name, part.shape(&config), part.is_norm(), Format::F32).unwrap()
        })
        .collect();
    let mut writer = Writer::new(Vec::new(), &entries, &plans).unwrap();
    plans.iter().for_each(|plan| writer.write(&vec![1; plan.bytes]).unwrap());
    let bytes = writer.finish();
    let (gguf, read_config) = read(bytes).unwrap();
    assert_eq!(read_config, config);
    assert_eq!(gguf.vocabulary().unwrap().unwrap(), vocabulary);
    assert!(gguf.weights(&config).unwrap().output.is_some());
}

#[test]
fn the_writers_metadata_says_the_configuration_again() {
    let flags = vec![Plane::Global, Plane::Sliding, Plane::Sliding, Plane::Global];
    for layers in [
        every_nth_global(3, 6),
        every_nth_global(12, 6),
        every_nth_global(5, 2),
        vec![Plane::Global; 3],
        flags,
    ] {
        let mut config = ModelConfig { layers, ..config() };
        config.rope_global.factor = 8.0;
        let plans: Vec<TensorPlan> = tensor_names(config.layers.len(), true)
            .into_iter()
            .map(|(name, part)| {
                TensorPlan::new(name, part.shape(&config), part.is_norm(), Format::F16).unwrap()
            })
            .collect();
        let mut writer = Writer::new(Vec::new(), &model_entries(&config, "x", 1), &plans).unwrap();
        plans.iter().for_each(|plan| writer.write(&vec![0; plan.bytes]).unwrap());
        let (gguf, read_config) = read(writer.finish()).unwrap();
        assert_eq!(read_config, config);
        assert_eq!(gguf.text("general.name").unwrap(), Some("x"));
    }
}
