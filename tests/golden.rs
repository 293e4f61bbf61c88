//! Correct answers: potluck must compute what Hugging Face computes on `tests/data/gemma3-tiny`.
//! See the README there.

use std::path::PathBuf;
use std::sync::Arc;

use half::f16;
use potluck::id::TokenId;
use potluck::kernels::Format;
use potluck::kv::{Plane, Sequence};
use potluck::model::{
    Bytes, LayerWeights, Logits, Model, ModelConfig, Precision, Rope, Weight, Weights,
};
use safetensors::SafeTensors;

const LAYERS: usize = 6;
const VOCAB: usize = 512;
const SEQUENCES: usize = 7;

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3-tiny").join(name);
    std::fs::read(path).unwrap()
}

fn config() -> ModelConfig {
    ModelConfig {
        vocab: VOCAB,
        hidden: 64,
        ffn: 128,
        heads: 4,
        kv_heads: 1,
        head_dim: 32,
        layers: (0..LAYERS).map(|i| if i == 5 { Plane::Global } else { Plane::Sliding }).collect(),
        window: 32,
        context: 32_768,
        rms_eps: 1e-6,
        query_scale: 1.0 / 32f32.sqrt(),
        rope_global: Rope { base: 1e6, factor: 1.0 },
        rope_sliding: Rope { base: 1e4, factor: 1.0 },
    }
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    file.tensor(name)
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn tokens(file: &SafeTensors<'_>, name: &str) -> Vec<TokenId> {
    file.tensor(name)
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|b| TokenId(u32::from_le_bytes(b.try_into().unwrap())))
        .collect()
}

/// GGUF's Q8_0: the scale is rounded to f16, the codes are computed with the scale before rounding,
/// halves round away from zero.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let block = |block: &[f32]| {
        let d = block.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
        let code =
            |v: &f32| if d > 0.0 { (v / d + 0.5 * v.signum()).trunc() as i8 as u8 } else { 0 };
        f16::from_f32(d)
            .to_le_bytes()
            .into_iter()
            .chain(block.iter().map(code))
            .collect::<Vec<u8>>()
    };
    values.chunks(32).flat_map(block).collect()
}

fn weights(format: Format) -> Weights {
    let bytes = read("model.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |name: &str| {
        let shape = file.tensor(name).unwrap().shape().to_vec();
        let values = f32s(&file, name);
        let bytes = match format {
            Format::Q8_0 => q8_0(&values),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let len = bytes.len();
        Weight::new(Bytes::new(bytes), 0..len, format, shape[0], shape[1]).unwrap()
    };
    let norm = |name: &str| {
        let bytes: Vec<u8> =
            f32s(&file, name).iter().flat_map(|w| (1.0 + w).to_le_bytes()).collect();
        let len = bytes.len();
        Weight::new(Bytes::new(bytes), 0..len, Format::F32, 1, len / 4).unwrap()
    };
    let layer = |i: usize| {
        let name = |part: &str| format!("model.layers.{i}.{part}.weight");
        LayerWeights {
            attention_norm: norm(&name("input_layernorm")),
            query: matrix(&name("self_attn.q_proj")),
            key: matrix(&name("self_attn.k_proj")),
            value: matrix(&name("self_attn.v_proj")),
            query_norm: norm(&name("self_attn.q_norm")),
            key_norm: norm(&name("self_attn.k_norm")),
            attention_output: matrix(&name("self_attn.o_proj")),
            post_attention_norm: norm(&name("post_attention_layernorm")),
            ffn_norm: norm(&name("pre_feedforward_layernorm")),
            gate: matrix(&name("mlp.gate_proj")),
            up: matrix(&name("mlp.up_proj")),
            down: matrix(&name("mlp.down_proj")),
            post_ffn_norm: norm(&name("post_feedforward_layernorm")),
        }
    };
    Weights {
        embedding: matrix("model.embed_tokens.weight"),
        output: None,
        output_norm: norm("model.norm.weight"),
        layers: (0..LAYERS).map(layer).collect(),
    }
}

fn model(format: Format, precision: Precision) -> Model {
    Model::new(config(), weights(format), precision).unwrap()
}

fn all_logits(model: &Model, ids: &[TokenId]) -> Vec<f32> {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), ids.len()));
    model.forward(ids, 0, &sequence, Logits::All).unwrap()
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// The largest difference over all sequences.
fn worst(model: &Model, logits: &str) -> f32 {
    let bytes = read("golden.safetensors");
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst = 0f32;
    for i in 0..SEQUENCES {
        let expected = f32s(&golden, &format!("{logits}_{i}"));
        let got = all_logits(model, &tokens(&golden, &format!("ids_{i}")));
        assert_eq!(got.len(), expected.len());
        worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn f32_logits_are_hugging_faces_within_2e_4() {
    let worst = worst(&model(Format::F32, Precision::FLOAT), "logits");
    println!("f32: largest logit error {worst:e}");
    assert!(worst <= 2e-4, "{worst:e}");
}

#[test]
fn f32_greedy_continuations_are_hugging_faces_exactly() {
    let model = model(Format::F32, Precision::FLOAT);
    let bytes = read("golden.safetensors");
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for i in 0..SEQUENCES {
        let ids = tokens(&golden, &format!("ids_{i}"));
        let expected = tokens(&golden, &format!("greedy_{i}"));
        let sequence = Arc::new(Sequence::private(model.kv_shape(), ids.len() + expected.len()));
        let mut logits = model.forward(&ids, 0, &sequence, Logits::Last(1)).unwrap();
        let mut answer = Vec::new();
        while answer.len() < expected.len() {
            let next = TokenId(argmax(&logits) as u32);
            answer.push(next);
            logits = model
                .forward(&[next], ids.len() + answer.len() - 1, &sequence, Logits::Last(1))
                .unwrap();
        }
        assert_eq!(answer, expected, "sequence {i}");
    }
}

#[test]
fn q8_0_weights_with_float_activations_are_the_simulated_ones_within_2e_4() {
    let worst = worst(&model(Format::Q8_0, Precision::FLOAT), "logits_q8w");
    println!("Q8_0 weights, float activations: largest logit error {worst:e}");
    assert!(worst <= 2e-4, "{worst:e}");
}

/// Log softmax of a row, in f64.
#[expect(clippy::disallowed_methods, reason = "an error measure; no state depends on it")]
fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = f64::from(row[argmax(row)]);
    let total: f64 = row.iter().map(|v| (f64::from(*v) - top).exp()).sum();
    row.iter().map(|v| f64::from(*v) - top - total.ln()).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an error measure; no state depends on it")]
fn int8_activations_and_kv_stay_near_the_f32_distribution() {
    let model = model(Format::Q8_0, Precision::INT8);
    let bytes = read("golden.safetensors");
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let (mut divergence, mut agree, mut positions) = (0f64, 0usize, 0usize);
    for i in 0..SEQUENCES {
        let expected = f32s(&golden, &format!("logits_{i}"));
        let got = all_logits(&model, &tokens(&golden, &format!("ids_{i}")));
        for (p, q) in expected.chunks_exact(VOCAB).zip(got.chunks_exact(VOCAB)) {
            let pairs = log_softmax(p).into_iter().zip(log_softmax(q));
            divergence += pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            agree += usize::from(argmax(p) == argmax(q));
            positions += 1;
        }
    }
    let (mean, share) = (divergence / positions as f64, agree as f64 / positions as f64);
    println!("int8: mean KL {mean:.2e}, argmax agreement {share:.3} over {positions} positions");
    assert!(mean <= 1.2e-2 && share >= 0.78, "mean KL {mean:.2e}, agreement {share:.3}");
}
