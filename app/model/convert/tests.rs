//! Directories as Hugging Face publishes them, complete (here) and broken (`refused`), and GGUFs
//! (`from_gguf`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use half::bf16;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::kernels::Format;
use crate::kv::Plane;
use crate::model::config::Rope;
use crate::model::load::{named, open};
use crate::model::safetensors;

mod from_gguf;
mod refused;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3-tiny")
}

/// A directory with a model of two layers that a test can modify.
struct Case {
    dir: TempDir,
    config: Value,
    tensors: Tensors,
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

impl Case {
    fn new() -> Case {
        let config = json!({
            "model_type": "gemma3_text", "vocab_size": 6, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 7, "query_pre_attn_scalar": 16,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
            "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": null, "sliding_window_pattern": 2
        });
        let mut tensors = Tensors::new();
        let mut put = |name: &str, dims: &[usize]| {
            let count = dims.iter().product::<usize>();
            let data =
                floats((0..count).map(|i| ((i * 37 + name.len()) % 101) as f32 / 50.0 - 1.0));
            tensors.insert(format!("model.{name}.weight"), (Dtype::F32, dims.to_vec(), data));
        };
        put("embed_tokens", &[6, 32]);
        put("norm", &[32]);
        for layer in 0..2 {
            for (name, dims) in [
                ("input_layernorm", &[32][..]),
                ("self_attn.q_proj", &[32, 32]),
                ("self_attn.k_proj", &[16, 32]),
                ("self_attn.v_proj", &[16, 32]),
                ("self_attn.q_norm", &[16]),
                ("self_attn.k_norm", &[16]),
                ("self_attn.o_proj", &[32, 32]),
                ("post_attention_layernorm", &[32]),
                ("pre_feedforward_layernorm", &[32]),
                ("mlp.gate_proj", &[40, 32]),
                ("mlp.up_proj", &[40, 32]),
                ("mlp.down_proj", &[32, 40]),
                ("post_feedforward_layernorm", &[32]),
            ] {
                put(&format!("layers.{layer}.{name}"), dims);
            }
        }
        Case { dir: tempfile::tempdir().unwrap(), config, tensors }
    }

    fn with(mut self, key: &str, value: Value) -> Case {
        self.config[key] = value;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_shard(&self, name: &str, keep: impl Fn(&str) -> bool) {
        let chosen = self.tensors.iter().filter(|(name, _)| keep(name));
        let views = chosen.map(|(name, (ty, dims, data))| {
            (name.clone(), TensorView::new(*ty, dims.clone(), data).unwrap())
        });
        serialize_to_file(views, None, &self.path(name)).unwrap();
    }

    fn write(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
        self.write_shard("model.safetensors", |_| true);
    }

    fn run(&self, ty: ConvertType) -> Result<(crate::model::Opened, Report), String> {
        let out = self.path("out.gguf");
        let report = convert(self.dir.path(), &out, ty, &mut |_| {});
        let left: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(
            !left.iter().any(|name| name.to_string_lossy().contains("partial")),
            "a draft was left behind: {left:?}"
        );
        let report = report.map_err(|error| {
            assert!(!out.exists(), "a failed conversion left a file");
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        })?;
        Ok((open(&out).unwrap(), report))
    }

    fn refusal(&self) -> String {
        self.write();
        self.run(ConvertType::F32).expect_err("it was accepted")
    }
}

#[test]
fn the_golden_model_converts_to_every_type() {
    let dir = tempfile::tempdir().unwrap();
    for (ty, embedding, query) in [
        (ConvertType::F32, Format::F32, Format::F32),
        (ConvertType::F16, Format::F16, Format::F16),
        (ConvertType::Q8_0, Format::Q8_0, Format::Q8_0),
        (ConvertType::Q4_0, Format::Q8_0, Format::Q4_0),
    ] {
        let out = dir.path().join(format!("{ty}.gguf"));
        let mut last = (0, 1);
        let report = convert(&golden(), &out, ty, &mut |at| last = (at.done, at.total)).unwrap();
        assert_eq!((last.0, report.tensors), (last.1, 6 * 13 + 2), "progress ends at its total");
        assert_eq!(report.vocabulary, None);
        assert_eq!(
            report.notes,
            ["the directory has no tokenizer.json: the file is written without a vocabulary"]
        );
        let opened = open(&out).unwrap();
        assert_eq!(
            (opened.config.vocab, opened.config.window, opened.config.rope_global.base),
            (512, 32, 1e6)
        );
        assert_eq!(
            (opened.weights.embedding.format(), opened.weights.layers[5].query.format()),
            (embedding, query)
        );
        assert_eq!(opened.config.layers[5], Plane::Global);
    }
}

#[test]
fn float_weights_arrive_unchanged_and_norms_as_one_plus_w() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f32.gguf");
    convert(&golden(), &out, ConvertType::F32, &mut |_| {}).unwrap();
    let opened = open(&out).unwrap();
    let source = safetensors::open(&golden().join("model.safetensors")).unwrap();
    let mut values = Vec::new();
    for (name, weight) in named(&opened.weights) {
        let hub = if name == "token_embd.weight" {
            "embed_tokens.weight".to_owned()
        } else {
            inner_name(&name)
        };
        source[&format!("model.{hub}")].floats(0..weight.rows() * weight.cols(), &mut values);
        let add = if weight.rows() == 1 { 1.0 } else { 0.0 };
        assert_eq!(weight.bytes(), floats(values.iter().map(|value| value + add)), "{name}");
    }
}

#[test]
fn shards_are_read_with_their_index_and_without() {
    let case = Case::new();
    case.write();
    let (whole, _) = case.run(ConvertType::F32).unwrap();
    fs::remove_file(case.path("model.safetensors")).unwrap();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let first = |name: &str| name.contains("layers.0");
    case.write_shard(names[0], first);
    case.write_shard(names[1], |name| !first(name));
    let (numbered, _) = case.run(ConvertType::F32).unwrap();
    let map: BTreeMap<&str, &str> =
        case.tensors.keys().map(|name| (name.as_str(), names[usize::from(!first(name))])).collect();
    fs::write(case.path("model.safetensors.index.json"), json!({"weight_map": map}).to_string())
        .unwrap();
    let (indexed, _) = case.run(ConvertType::F32).unwrap();
    assert_eq!((whole.content(), whole.content()), (numbered.content(), indexed.content()));

    fs::remove_file(case.path("out.gguf")).unwrap();
    fs::remove_file(case.path(names[1])).unwrap();
    assert!(
        case.run(ConvertType::F32)
            .err()
            .unwrap()
            .contains("model-00002-of-00002.safetensors: cannot be read")
    );
    fs::remove_file(case.path("model.safetensors.index.json")).unwrap();
    assert!(
        case.run(ConvertType::F32)
            .err()
            .unwrap()
            .ends_with("lacks shard model-00002-of-00002.safetensors; download it")
    );
    let outside = json!({"weight_map": {"a": "../../etc/passwd"}}).to_string();
    fs::write(case.path("model.safetensors.index.json"), outside).unwrap();
    assert!(
        case.run(ConvertType::F32).err().unwrap().contains("names a file outside the directory")
    );
}

#[test]
fn every_published_naming_of_the_same_model_gives_the_same_file() {
    let case = Case::new();
    case.write();
    let (plain, _) = case.run(ConvertType::Q8_0).unwrap();
    for prefix in ["language_model.model.", "model.language_model.", ""] {
        let mut other = Case::new();
        let text = other.config.clone();
        other.config = json!({"model_type": "gemma3", "text_config": text, "vision_config": {}});
        other.tensors = other
            .tensors
            .into_iter()
            .map(|(name, t)| (name.replacen("model.", prefix, 1), t))
            .collect();
        other.tensors.insert("vision_tower.x.bias".into(), (Dtype::F32, vec![1], floats([1.0])));
        other.write();
        let (converted, report) = other.run(ConvertType::Q8_0).unwrap();
        assert_eq!(converted.content(), plain.content(), "{prefix}");
        assert!(report.notes.contains(&"1 tensors of the vision tower were omitted".to_owned()));
    }
}

#[test]
fn old_and_new_configurations_say_the_same() {
    let planes = |types: [&str; 2]| json!(types);
    let old = Case::new();
    old.write();
    let (old, _) = old.run(ConvertType::F32).unwrap();
    let mut new = Case::new();
    for key in ["rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern"] {
        new.config.as_object_mut().unwrap().remove(key);
    }
    let rope = json!({"full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}});
    let new = new
        .with("rope_parameters", rope)
        .with("layer_types", planes(["sliding_attention", "full_attention"]));
    new.write();
    assert_eq!(new.run(ConvertType::F32).unwrap().0.content(), old.content());

    let scaled = Case::new().with("rope_scaling", json!({"factor": 8.0, "rope_type": "linear"}));
    scaled.write();
    let config = scaled.run(ConvertType::F32).unwrap().0.config;
    assert_eq!(
        (config.rope_global, config.rope_sliding),
        (Rope { base: 1e6, factor: 8.0 }, Rope { base: 1e4, factor: 1.0 })
    );
    let swapped = Case::new().with("layer_types", planes(["full_attention", "sliding_attention"]));
    swapped.write();
    assert_eq!(
        swapped.run(ConvertType::F32).unwrap().0.config.layers,
        [Plane::Global, Plane::Sliding]
    );
}

#[test]
fn halves_are_widened_exactly_and_columns_that_fill_no_block_fall_back() {
    let mut case = Case::new();
    let values: Vec<bf16> = (0..32 * 40).map(|i| bf16::from_f32(i as f32 / 999.0 - 0.5)).collect();
    let name = "model.layers.0.mlp.down_proj.weight";
    let stored = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    case.tensors.insert(name.into(), (Dtype::BF16, vec![32, 40], stored));
    case.write();
    let (opened, _) = case.run(ConvertType::F32).unwrap();
    assert_eq!(
        opened.weights.layers[0].down.bytes(),
        floats(values.iter().map(|value| value.to_f32()))
    );
    for ty in [ConvertType::Q8_0, ConvertType::Q4_0] {
        let (opened, report) = case.run(ty).unwrap();
        assert_eq!(opened.weights.layers[0].down.format(), Format::F16);
        let wanted = if ty == ConvertType::Q8_0 { "Q8_0" } else { "Q4_0" };
        let line =
            format!("blk.0.ffn_down.weight is F16: its 40 columns do not fill blocks of {wanted}");
        assert!(report.notes.contains(&line), "{:?}", report.notes);
    }
}

#[test]
fn an_untied_output_is_written_and_a_tied_one_is_not() {
    let head = (Dtype::F32, vec![6, 32], floats((0..6 * 32).map(|i| i as f32)));
    let mut case = Case::new().with("tie_word_embeddings", json!(false));
    assert!(case.refusal().contains("tensor lm_head.weight is missing"));
    case.tensors.insert("lm_head.weight".into(), head.clone());
    case.write();
    let output = case.run(ConvertType::F32).unwrap().0.weights.output.unwrap();
    assert_eq!(output.bytes(), head.2);
    let tied = case.with("tie_word_embeddings", json!(true));
    tied.write();
    assert!(tied.run(ConvertType::F32).unwrap().0.weights.output.is_none());
}

/// A tokenizer.json in Gemma's form, made of the pieces of `vocabulary` and a token beyond its end.
fn tokenizer_json(vocabulary: &Vocabulary) -> String {
    let unmark = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let added: Vec<Value> = ["<pad>", "<eos>", "<bos>", "<unk>", "<image_soft_token>"]
        .iter()
        .map(|text| {
            (*text, vocabulary.find(text).map_or(vocabulary.tokens.len() as u32, |id| id.0))
        })
        .map(|(text, id)| json!({"id": id, "content": text, "special": true}))
        .collect();
    let pieces: BTreeMap<&String, usize> =
        vocabulary.tokens.iter().enumerate().map(|(id, text)| (text, id)).collect();
    json!({
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "decoder": {"type": "Sequence", "decoders": [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": pieces, "merges": []},
    })
    .to_string()
}

#[test]
fn the_chat_template_comes_along_from_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden().join(file), dir.path().join(file)).unwrap();
    }
    let out = dir.path().join("out.gguf");
    let carried = || {
        let report = convert(dir.path(), &out, ConvertType::F32, &mut |_| {}).unwrap();
        let template =
            open(&out).unwrap().gguf.text("tokenizer.chat_template").unwrap().map(str::to_owned);
        (template, report.notes.into_iter().skip(1).collect::<Vec<_>>())
    };
    let shared = |value: Value| {
        fs::write(dir.path().join("tokenizer_config.json"), value.to_string()).unwrap()
    };
    assert_eq!(carried(), (None, vec![]));
    shared(json!({"bos_token": "<bos>"}));
    assert_eq!(carried(), (None, vec![]));
    shared(json!({"chat_template": "{{ old }}"}));
    assert_eq!(carried(), (Some("{{ old }}".to_owned()), vec![]));
    shared(
        json!({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ yes }}"}]}),
    );
    assert_eq!(carried(), (Some("{{ yes }}".to_owned()), vec![]));
    let own = dir.path().join("chat_template.jinja");
    fs::write(&own, "{{ own }}\n").unwrap();
    assert_eq!(carried(), (Some("{{ own }}\n".to_owned()), vec![]));
    fs::write(&own, " ".repeat(70_000)).unwrap();
    let note =
        "the chat template of chat_template.jinja has 70000 bytes, over 65536: it was omitted";
    assert_eq!(carried(), (None, vec![note.to_owned()]));
    fs::write(&own, b"\xff").unwrap();
    let line = convert(dir.path(), &out, ConvertType::F32, &mut |_| {}).unwrap_err().to_string();
    assert!(
        line.ends_with("chat_template.jinja: damaged: it is not UTF-8 text; download it again"),
        "{line}"
    );
}

#[test]
fn the_vocabulary_comes_along_fitted_to_the_embedding() {
    let made_up = Vocabulary::synthetic(512, 1);
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden().join(file), dir.path().join(file)).unwrap();
    }
    fs::write(dir.path().join("tokenizer.json"), tokenizer_json(&made_up)).unwrap();
    let out = dir.path().join("out.gguf");
    let report = convert(dir.path(), &out, ConvertType::Q8_0, &mut |_| {}).unwrap();
    assert_eq!(report.vocabulary, Some(512));
    assert_eq!(
        report.notes,
        ["tokenizer.json has 513 tokens, but the embedding 512 rows: the vocabulary was fitted"]
    );
    let vocabulary = open(&out).unwrap().gguf.vocabulary().unwrap().unwrap();
    assert_eq!((vocabulary.tokens.len(), vocabulary.bos), (512, made_up.find("<bos>")));
    assert_eq!(vocabulary.tokens, made_up.tokens);

    fs::remove_file(&out).unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer_json(&Vocabulary::synthetic(700, 1)))
        .unwrap();
    let line = convert(dir.path(), &out, ConvertType::Q8_0, &mut |_| {}).unwrap_err().to_string();
    assert!(
        line.contains("tokenizer.json: ") && line.contains("does not belong to this model"),
        "{line}"
    );
    assert!(!out.exists());
}
