//! Valid files round trip; every kind of broken one ends in a line that says what to do.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::kernels::Format;
use crate::kv::Plane;
use crate::model::config::{ModelConfig, Rope};
use crate::model::weight::Bytes;
use crate::tokenizer::Vocabulary;

mod parts;
mod types;

/// A GGUF in pieces, so that a test can bend one.
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
    let mut out = [&9u32.to_le_bytes()[..], &8u32.to_le_bytes(), &(items.len() as u64).to_le_bytes()].concat();
    for item in items {
        out.extend_from_slice(&(item.len() as u64).to_le_bytes());
        out.extend_from_slice(item.as_bytes());
    }
    out
}

fn bools(flags: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &7u32.to_le_bytes(), &(flags.len() as u64).to_le_bytes(), flags].concat()
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

/// Parses and reads everything; the error as one line.
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
    read(raw.build()).expect_err("it was taken")
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
    assert_eq!(planes(tiny().without(pattern)), [Plane::Sliding; 2], "every sixth is global: none of two");
    assert_eq!(planes(tiny().set(pattern, number(1))), [Plane::Global; 2]);
    assert_eq!(planes(tiny().set(pattern, bools(&[0, 1]))), [Plane::Global, Plane::Sliding]);
    let everywhere = of(tiny().without(sliding));
    assert_eq!((everywhere.layers, everywhere.window), (vec![Plane::Global; 2], 100));
    assert_eq!(of(tiny().set("gemma3.attention.scale", float(0.5))).query_scale, 0.5);
    assert_eq!(of(tiny().set("gemma3.rope.freq_base_swa", float(5e3))).rope_sliding.base, 5e3);
    let linear = tiny().set("gemma3.rope.scaling.type", text("linear")).set("gemma3.rope.scaling.factor", float(8.0));
    assert_eq!((of(linear.clone()).rope_global.factor, of(linear).rope_sliding.factor), (8.0, 1.0));
    assert_eq!(of(tiny().set("gemma3.rope.scaling.type", text("none"))).rope_global.factor, 1.0);
    let derived = of(tiny().without("gemma3.attention.key_length"));
    assert_eq!(derived.head_dim, 16);
    let ollamas = tiny().without("gemma3.rope.freq_base").set("gemma3.rope.global.freq_base", float(2e6));
    let ollamas = of(ollamas.set("gemma3.rope.local.freq_base", float(5e3)).set("gemma3.final_logit_softcapping", float(30.0)));
    assert_eq!((ollamas.rope_global.base, ollamas.rope_sliding.base), (2e6, 5e3));
}

#[test]
fn what_potluck_does_not_run_is_refused_with_what_it_does() {
    let refused = |key: &str, value: Vec<u8>| refusal(&tiny().set(key, value));
    assert_eq!(refused("general.architecture", text("llama")), "architecture llama: potluck runs gemma3; get a Gemma 3");
    let yarn = refused("gemma3.rope.scaling.type", text("yarn"));
    assert_eq!(yarn, "metadata gemma3.rope.scaling.type is yarn; this build knows linear and none");
    for factor in [f32::NAN, f32::INFINITY, -1.0] {
        let line = refused("gemma3.rope.scaling.factor", float(factor));
        assert_eq!(line, "metadata gemma3.rope.scaling.factor must be a positive number");
    }
    assert!(refused("gemma3.attn_logit_softcapping", float(30.0)).contains("Gemma 3 caps no logits"));
    assert!(refused("gemma3.final_logit_softcapping", float(50.0)).contains("Gemma 3 caps no logits"));
    assert!(refused("gemma3.block_count", number(65)).ends_with("is 65; this build takes 1 to 64"));
    assert!(refused("gemma3.block_count", number(0)).ends_with("is 0; this build takes 1 to 64"));
    assert!(refused("gemma3.attention.head_count_kv", number(3)).contains("1 to 2"));
    assert!(refused("gemma3.attention.value_length", number(8)).contains("differs from the key length 16"));
    assert!(refused("gemma3.rope.dimension_count", number(8)).contains("differs from the key length 16"));
    assert!(refused("gemma3.attention.key_length", number(15)).contains("RoPE turns pairs"));
    assert!(refused("gemma3.attention.layer_norm_rms_epsilon", float(-1.0)).contains("must be a positive number"));
    assert!(refused("gemma3.attention.scale", float(f32::NAN)).contains("must be a positive number"));
    assert!(refused("gemma3.attention.sliding_window_pattern", bools(&[1])).contains("each of the 2 layers"));
    assert!(refused("gemma3.context_length", text("long")).contains("is not a whole number"));
    assert_eq!(
        refusal(&tiny().without("gemma3.rope.freq_base")),
        "damaged: metadata gemma3.rope.freq_base is missing; download it again"
    );

    let mut raw = tiny();
    *raw.tensor("blk.1.ffn_up.weight") =
        RawTensor { name: "blk.1.ffn_up.weight".into(), dims: vec![256, 8], ty: 12, data: vec![0; 144 * 8], offset: None };
    assert!(refusal(&raw).contains("tensor blk.1.ffn_up.weight is 8 x 256, but the metadata makes it 64 x 32"));
    let mut raw = tiny();
    raw.tensors.push(RawTensor { name: "blk.0.attn_q.bias".into(), dims: vec![32], ty: 0, data: vec![0; 128], offset: None });
    assert_eq!(refusal(&raw), "tensor blk.0.attn_q.bias is none that Gemma 3's text model of 2 layers has");
    raw.tensors.last_mut().unwrap().name = "v.blk.0.attn_q.bias".into();
    assert!(read(raw.build()).is_ok(), "the vision tower of a merged file does not concern us");
}

#[test]
fn a_damaged_file_is_named_as_such() {
    let whole = tiny().build();
    let line = read(whole[..whole.len() - 40].to_vec()).err().unwrap();
    let (has, needs) = (whole.len() - 40, whole.len());
    assert_eq!(
        line,
        format!("truncated: tensor output_norm.weight ends at byte {needs}, but the file has {has}; download or copy it again")
    );
    assert!(read(whole[..3].to_vec()).err().unwrap().starts_with("is no GGUF file"));
    assert!(read(whole[..20].to_vec()).err().unwrap().starts_with("truncated: "));
    assert!(read(b"\x40\0\0\0\0\0\0\0{\"a\":1}".to_vec()).err().unwrap().contains("run potluck convert on its directory"));
    assert!(refusal(&Raw { magic: *b"ggjt", ..tiny() }).starts_with("is no GGUF file"));
    assert!(refusal(&Raw { version: 1, ..tiny() }).contains("GGUF version 1; this build reads 2 and 3"));
    for version in [2u32, 3] {
        let line = refusal(&Raw { version: version.swap_bytes(), ..tiny() });
        assert!(line.starts_with("is a big-endian GGUF") && line.contains("get the little-endian file"), "{line}");
    }

    let mut twice = tiny();
    twice.entries.push(twice.entries[1].clone());
    assert!(refusal(&twice).contains("metadata gemma3.context_length appears twice"));
    let mut twice = tiny();
    twice.tensors.push(twice.tensors[0].clone());
    assert!(refusal(&twice).contains("tensor token_embd.weight appears twice"));
    let mut overlap = tiny();
    overlap.tensor("blk.0.attn_k.weight").offset = Some(0);
    assert!(refusal(&overlap).contains("overlap"));
    let mut askew = tiny();
    askew.tensor("blk.0.attn_k.weight").offset = Some(33);
    assert!(refusal(&askew).contains("no multiple of 32"));
    for offset in [u64::MAX - 31, 1 << 62] {
        let mut beyond = tiny();
        beyond.tensor("blk.0.attn_k.weight").offset = Some(offset);
        assert!(refusal(&beyond).contains("beyond any file"));
    }
    for dims in [vec![], vec![1; 5]] {
        let mut ranks = tiny();
        ranks.tensor("blk.0.attn_k.weight").dims = dims;
        assert!(refusal(&ranks).contains("GGUF has 1 to 4"));
    }
    for dims in [vec![u64::MAX, 2], vec![32, 0], vec![1 << 40, 1 << 40]] {
        let mut sizes = tiny();
        sizes.tensor("blk.0.attn_k.weight").dims = dims;
        assert!(refusal(&sizes).contains("zero or beyond any file"));
    }
    let mut ragged = tiny();
    ragged.tensor("blk.0.attn_k.weight").dims = vec![33, 16];
    assert!(refusal(&ragged).contains("no multiple of the 32 of its type Q8_0"));
    for alignment in [0, 1, 24, 1 << 20] {
        assert!(refusal(&tiny().set("general.alignment", number(alignment))).contains("power of two"));
    }
    let mut missing = tiny();
    missing.tensors.retain(|tensor| tensor.name != "blk.1.attn_q_norm.weight");
    assert_eq!(refusal(&missing), "damaged: tensor blk.1.attn_q_norm.weight is missing; download it again");
}

#[test]
fn hostile_counts_and_lengths_cost_nothing_before_they_are_refused() {
    let head = |tensors: u64, entries: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend_from_slice(&tensors.to_le_bytes());
        bytes.extend_from_slice(&entries.to_le_bytes());
        bytes
    };
    assert!(read(head(u64::MAX, 0)).err().unwrap().contains("tensors; this build takes at most"));
    assert!(read(head(0, u64::MAX)).err().unwrap().contains("metadata entries; this build takes at most"));
    assert!(read(head(4_000, 0)).err().unwrap().contains("more than its 0 bytes can hold"));
    let with = |value: &[u8]| refusal(&tiny().set("some.key", value.to_vec()));
    let array = |kind: u32, count: u64| [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes()].concat();
    assert!(with(&array(4, u64::MAX)).contains("elements; this build takes at most"));
    assert!(with(&array(4, 4 << 20)).starts_with("truncated: metadata some.key"));
    assert!(with(&array(8, 4 << 20)).contains("metadata some.key"));
    assert!(with(&array(9, 1)).contains("nests arrays"));
    assert!(with(&array(77, 1)).contains("array of type 77"));
    assert!(with(&13u32.to_le_bytes()).contains("has type 13, which GGUF does not have"));
    assert!(with(&[&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat()).contains("takes at most"));
    assert!(with(&[&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[0xff, 0xfe]].concat()).contains("not UTF-8"));
    assert!(with(&[&7u32.to_le_bytes()[..], &[2]].concat()).contains("boolean of 2"));
    let mut control = tiny();
    control.entries.push(("a\nb".into(), number(1)));
    assert!(refusal(&control).contains("control characters"));
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
        .map(|(name, part)| TensorPlan::new(name, part.shape(&config), part.is_norm(), Format::F32).unwrap())
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
    for layers in [every_nth_global(3, 6), every_nth_global(12, 6), every_nth_global(5, 2), vec![Plane::Global; 3], flags] {
        let mut config = ModelConfig { layers, ..config() };
        config.rope_global.factor = 8.0;
        let plans: Vec<TensorPlan> = tensor_names(config.layers.len(), true)
            .into_iter()
            .map(|(name, part)| TensorPlan::new(name, part.shape(&config), part.is_norm(), Format::F16).unwrap())
            .collect();
        let mut writer = Writer::new(Vec::new(), &model_entries(&config, "x", 1), &plans).unwrap();
        plans.iter().for_each(|plan| writer.write(&vec![0; plan.bytes]).unwrap());
        let (gguf, read_config) = read(writer.finish()).unwrap();
        assert_eq!(read_config, config);
        assert_eq!(gguf.text("general.name").unwrap(), Some("x"));
    }
}

#[test]
fn a_vocabulary_of_another_model_is_refused() {
    let tokens = "tokenizer.ggml.tokens";
    let five = tiny().set(tokens, texts(&["a", "b", "c", "d", "e"]));
    assert_eq!(read(five.build()).unwrap().0.vocabulary().unwrap().unwrap().tokens.len(), 5);
    let four = refusal(&tiny().set(tokens, texts(&["a", "b", "c", "d"])));
    assert!(four.contains("the vocabulary has 4 tokens, the embedding 5 rows: they are of different models"));
    let refused = |key: &str, value: Vec<u8>| refusal(&five.clone().set(&format!("tokenizer.ggml.{key}"), value));
    assert!(refused("model", text("gpt2")).starts_with("tokenizer gpt2: Gemma 3's is llama"));
    assert!(refused("scores", texts(&["a"])).contains("one F32 for each of the 5 tokens"));
    assert!(refused("token_type", bools(&[1; 5])).contains("a token type (1 to 6)"));
    assert!(refused("merges", texts(&["ab"])).contains("is not pairs"));
    let long = "a ".repeat(1 << 19);
    let refused = refused("merges", texts(&vec![long.as_str(); 64]));
    assert!(
        refused.contains("metadata tokenizer.ggml.merges has 67109376 bytes; this build takes at most 67108864"),
        "{refused}"
    );
}

/// Reads whatever it can and checks that every weight has the size that the configuration says.
fn survive(bytes: Vec<u8>) {
    let length = bytes.len();
    let Ok(gguf) = Gguf::parse(Path::new("mutant"), Bytes::new(bytes)) else { return };
    for tensor in gguf.tensors().values() {
        assert!(tensor.range.end <= length);
    }
    let _ = gguf.vocabulary();
    let Ok(config) = gguf.config() else { return };
    let Ok(weights) = gguf.weights(&config) else { return };
    for (name, weight) in crate::model::load::named(&weights) {
        let expected = weight.format().bytes(weight.cols()).unwrap() * weight.rows();
        assert_eq!(weight.bytes().len(), expected, "{name}");
    }
    assert_eq!((weights.embedding.rows(), weights.embedding.cols()), (config.vocab, config.hidden));
    assert_eq!(weights.layers.len(), config.layers.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_file_panics_or_yields_a_weight_of_another_size(
        edits in prop::collection::vec((0usize..3_000, prop::sample::select(vec![0u8, 1, 2, 4, 8, 9, 0x7f, 0x80, 0xff]), any::<bool>()), 1..6),
        cut in prop::option::of(0usize..20_000),
    ) {
        let tokens = texts(&["a", "b", "c", "d", "e"]);
        let mut bytes = tiny().set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.merges", texts(&["a b"])).build();
        for (at, value, flip) in edits {
            let at = at % bytes.len();
            bytes[at] = if flip { bytes[at] ^ value } else { value };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        survive(bytes);
    }
}
