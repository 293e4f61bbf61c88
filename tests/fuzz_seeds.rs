//! The seeds of the fuzz target `gguf`: a model of one layer for each tensor type, and one in three
//! parts. They hold only the headers and the first bytes of the tensors, because the target pads
//! them with zeros.
//!
//! `POTLUCK_WRITE_SEEDS=1 cargo test fuzz_seeds` writes them; without the variable this test checks
//! them. A seed that no longer parses as a model would give the fuzzer nothing to start from.

use std::fs;
use std::path::{Path, PathBuf};

use potluck::kernels::Format;
use potluck::kv::Plane;
use potluck::model::gguf::{Entry, Gguf, Part, TensorPlan, Writer, model_entries, tensor_names};
use potluck::model::{Bytes, ModelConfig, Rope};

/// Bytes of tensor data in a seed.
const DATA_BYTES: usize = 512;
/// Zeros that the target appends.
const ZEROS: usize = 1 << 20;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/gguf")
}

/// The smallest model with rows of 256, a length that fits every type.
fn config() -> ModelConfig {
    ModelConfig {
        vocab: 5,
        hidden: 32,
        ffn: 256,
        heads: 1,
        kv_heads: 1,
        head_dim: 32,
        layers: vec![Plane::Global],
        window: 16,
        context: 64,
        rms_eps: 1e-6,
        query_scale: 0.25,
        rope_global: Rope { base: 1e6, factor: 1.0 },
        rope_sliding: Rope { base: 1e4, factor: 1.0 },
    }
}

/// The model's tensors, with the one in `ty` first, so that the seed contains bytes of it.
fn tensors(ty: Format) -> Vec<TensorPlan> {
    let mut plans: Vec<TensorPlan> = tensor_names(1, true)
        .into_iter()
        .map(|(name, part)| {
            let format = match part {
                Part::Narrow => ty,
                part if part.is_norm() => Format::F32,
                _ => Format::Q8_0,
            };
            TensorPlan::new(name, part.shape(&config()), part.is_norm(), format).unwrap()
        })
        .collect();
    plans.sort_by_key(|plan| !plan.name.contains("ffn_down"));
    plans
}

/// Rows of this type with all extreme values, from `tests/data/gguf-types`.
fn rows(ty: Format) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf-types");
    match ty {
        Format::F32 => [1.5f32, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        _ => fs::read(data.join(format!("{}.bytes", ty.name().to_lowercase()))).unwrap(),
    }
}

/// A file with these tensors, cut where the target's zeros begin. The tensor data begins
/// with `data`.
fn file(entries: &[(String, Entry<'_>)], plans: &[TensorPlan], data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), entries, plans).unwrap();
    for (number, plan) in plans.iter().enumerate() {
        let mut bytes =
            if number == 0 { data[..data.len().min(plan.bytes)].to_vec() } else { Vec::new() };
        bytes.resize(plan.bytes, 0);
        writer.write(&bytes).unwrap();
    }
    let mut file = writer.finish();
    let all: usize = plans.iter().map(|plan| plan.bytes.next_multiple_of(32)).sum();
    file.truncate(file.len() - all + all.min(DATA_BYTES));
    file
}

fn of_type(ty: Format) -> Vec<u8> {
    let file = file(&model_entries(&config(), "seed", 0), &tensors(ty), &rows(ty));
    [&[0][..], &file].concat()
}

fn in_parts() -> Vec<u8> {
    let plans = tensors(Format::Q5_0);
    let (near, far) = plans.split_at(5);
    let mut seed = vec![2];
    for (no, plans) in [&[], near, far].into_iter().enumerate() {
        let mut entries = if no == 0 { model_entries(&config(), "seed", 0) } else { Vec::new() };
        for (key, number) in [("no", no), ("count", 3), ("tensors.count", near.len() + far.len())] {
            entries.push((format!("split.{key}"), Entry::U32(number as u32)));
        }
        let part = file(&entries, plans, &rows(Format::Q5_0));
        if no < 2 {
            seed.extend_from_slice(&(part.len() as u16).to_le_bytes());
        }
        seed.extend_from_slice(&part);
    }
    seed
}

/// A part of a seed, padded as the target does.
fn whole(bytes: &[u8]) -> (PathBuf, Bytes) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len() + ZEROS, 0);
    ("seed.gguf".into(), Bytes::new(bytes))
}

fn parts_of(mut seed: &[u8]) -> Vec<(PathBuf, Bytes)> {
    let count = seed[0] + 1;
    seed = &seed[1..];
    let mut parts = Vec::new();
    for _ in 1..count {
        let (part, rest) = seed[2..].split_at(usize::from(u16::from_le_bytes([seed[0], seed[1]])));
        parts.push(whole(part));
        seed = rest;
    }
    parts.push(whole(seed));
    parts
}

#[test]
fn every_tensor_type_and_a_model_in_parts_have_a_seed_that_is_read() {
    let mut wanted: Vec<(String, Vec<u8>)> =
        Format::ALL.map(|ty| (ty.name().to_lowercase(), of_type(ty))).into();
    wanted.push(("parts".to_owned(), in_parts()));
    for (name, bytes) in &wanted {
        let path = seeds().join(name);
        if std::env::var_os("POTLUCK_WRITE_SEEDS").is_some() {
            fs::create_dir_all(seeds()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(
            fs::read(&path).unwrap() == *bytes,
            "{name} is outdated: POTLUCK_WRITE_SEEDS=1 cargo test fuzz_seeds"
        );
        let gguf = Gguf::parse_parts(parts_of(bytes)).unwrap();
        let weights = gguf.weights(&gguf.config().unwrap()).unwrap();
        let down = &weights.layers[0].down;
        let ty = if name == "parts" { "q5_0" } else { name };
        assert_eq!(down.format().name().to_lowercase(), ty);
        assert!(down.row(0).iter().any(|value| *value != 0.0), "{name} has no data of its type");
    }
    assert_eq!(fs::read_dir(seeds()).unwrap().count(), wanted.len(), "unknown seed in the folder");
}
