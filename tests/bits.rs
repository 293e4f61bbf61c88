//! The same bits on every machine: keys, values and logits of models built from integers, compared
//! with recorded digests. `make test` runs this on the local machine and `make firmware-test` on an
//! emulated board. Where both pass, they agree on every bit and may serve blocks to each other.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kernels::{Format, Isa, Team};
use potluck::kv::{Plane, Sequence};
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::model::{
    Bytes, LayerWeights, Logits, Model, ModelConfig, Precision, Rope, Weight, Weights, open,
};
use xxhash_rust::xxh3::Xxh3Default;

/// A prompt that ends in the middle of a tile and of a block, then single tokens.
const PROMPT: usize = 77;
const DECODED: usize = 3;

/// Digest of all logits and KV bytes.
fn digest(model: &Model) -> String {
    let vocab = model.config().vocab as u32;
    let tokens: Vec<TokenId> = (0..(PROMPT + DECODED) as u32)
        .map(|i| TokenId(i.wrapping_mul(2_654_435_761) % vocab))
        .collect();
    let sequence = Arc::new(Sequence::private(model.kv_shape(), tokens.len()));
    let mut hash = Xxh3Default::new();
    let mut pass = |range: core::ops::Range<usize>| {
        let logits =
            model.forward(&tokens[range.clone()], range.start, &sequence, Logits::All).unwrap();
        logits.iter().for_each(|logit| hash.update(&logit.to_le_bytes()));
    };
    pass(0..PROMPT);
    (PROMPT..PROMPT + DECODED).for_each(|position| pass(position..position + 1));
    for block in &sequence.blocks {
        Plane::ALL
            .iter()
            .filter_map(|plane| block.plane(*plane))
            .for_each(|page| hash.update(&page.read()));
    }
    format!("{:032x}", hash.digest128())
}

/// The digest, after checking that no instruction set and no number of cores changes it.
fn settled(mut model: Model, what: &str) -> String {
    let alone = digest(&model);
    for isa in Isa::all() {
        model.set_team(Team::alone().using(isa));
        assert_eq!(digest(&model), alone, "{what}: {isa:?}");
    }
    let (team, workers) = Team::new(3);
    let threads: Vec<_> =
        workers.into_iter().map(|worker| std::thread::spawn(move || worker.serve())).collect();
    model.set_team(team);
    assert_eq!(digest(&model), alone, "{what}: one core, three cores");
    drop(model);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    alone
}

#[test]
fn keys_values_and_logits_are_the_same_bits_on_every_machine_with_any_instructions_and_any_number_of_cores()
 {
    let kinds = [
        (ConvertType::Q8_0, Precision::INT8),
        (ConvertType::Q4_0, Precision::INT8),
        (ConvertType::Q8_0, Precision::FLOAT),
    ];
    let dir = tempfile::tempdir().unwrap();
    let digests = kinds.map(|(ty, precision)| {
        let path = dir.path().join("model.gguf");
        synth(Shape::Demo, 7, ty, &path, &mut |_| {}).unwrap();
        let opened = open(&path).unwrap();
        settled(
            Model::new(opened.config, opened.weights, precision).unwrap(),
            &format!("{ty:?} {precision:?}"),
        )
    });
    // Recorded on an x86-64 with AVX-512. Any change of these digests must raise NUMERICS_VERSION.
    let expected = [
        "ef304d59de276e94b2cfcb19cb2eb2d9",
        "560dda3fe3df02d7f27a9b397affba9a",
        "fc9cf1e4b5ce3d71d169460beed1bd05",
    ];
    assert_eq!(digests, expected);
}

/// Bytes from a linear congruential generator.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    /// Random codes of any format, with scales near 1/1,000 of both signs.
    fn matrix(&mut self, format: Format, rows: usize, cols: usize) -> Weight {
        let (values, unit) = format.unit();
        let mut bytes: Vec<u8> = (0..rows * cols / values * unit).map(|_| self.byte()).collect();
        let halves: &[usize] = match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[1, 3],
            Format::Q2_K => &[81, 83],
            Format::Q3_K => &[109],
            Format::Q6_K => &[209],
            Format::F32 | Format::BF16 => panic!("random bytes do not make floats of a sane size"),
            _ => &[1],
        };
        for unit in bytes.chunks_exact_mut(unit) {
            halves.iter().for_each(|at| unit[*at] = unit[*at] & 0x80 | 0x14);
        }
        let length = bytes.len();
        Weight::new(Bytes::new(bytes), 0..length, format, rows, cols).unwrap()
    }
}

fn ones(cols: usize) -> Weight {
    let bytes = 1f32.to_le_bytes().repeat(cols);
    Weight::new(Bytes::new(bytes), 0..4 * cols, Format::F32, 1, cols).unwrap()
}

/// A model whose matrices cycle through all tensor types.
fn of_every_type() -> (ModelConfig, Weights) {
    let mut formats = Format::ALL
        .into_iter()
        .filter(|format| !matches!(format, Format::F32 | Format::BF16))
        .cycle();
    let mut noise = Noise(1);
    let (hidden, ffn, vocab) = (256, 512, 300);
    let mut next = |rows: usize, cols: usize| noise.matrix(formats.next().unwrap(), rows, cols);
    let rope = |base: f32| Rope { base, factor: 1.0 };
    let config = ModelConfig {
        vocab,
        hidden,
        ffn,
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
        layers: [Plane::Sliding, Plane::Global, Plane::Sliding, Plane::Sliding].to_vec(),
        window: 32,
        context: 256,
        rms_eps: 1e-6,
        query_scale: 0.125,
        rope_global: rope(1e6),
        rope_sliding: rope(1e4),
    };
    let embedding = next(vocab, hidden);
    let layers = config.layers.iter().map(|_| LayerWeights {
        attention_norm: ones(hidden),
        query: next(256, hidden),
        key: next(64, hidden),
        value: next(64, hidden),
        query_norm: ones(64),
        key_norm: ones(64),
        attention_output: next(hidden, 256),
        post_attention_norm: ones(hidden),
        ffn_norm: ones(hidden),
        gate: next(ffn, hidden),
        up: next(ffn, hidden),
        down: next(hidden, ffn),
        post_ffn_norm: ones(hidden),
    });
    let weights =
        Weights { embedding, output: None, output_norm: ones(hidden), layers: layers.collect() };
    (config, weights)
}

#[test]
fn every_tensor_type_gives_the_same_bits_on_every_machine() {
    let digests = [Precision::INT8, Precision::FLOAT].map(|precision| {
        let (config, weights) = of_every_type();
        settled(Model::new(config, weights, precision).unwrap(), &format!("{precision:?}"))
    });
    // Recorded on an x86-64 with AVX2.
    assert_eq!(digests, ["5bbfd396136f6e149963440ef59424cd", "dc400be0170aa7b2d218ff01714fb068"]);
}
