//! The engine's own promises, on random models of many shapes: the modules compute the same as the
//! plain reference, and a prefix taken over from another sequence is as good as a computed one.

use std::sync::Arc;

use half::f16;

use super::{
    Bytes, LayerWeights, Logits, Model, ModelConfig, ModelError, Precision, Rope, Weight, Weights,
    reference,
};
use crate::id::TokenId;
use crate::kernels::{Format, Team};
use crate::kv::{BlockPages, KvShape, Page, Plane, Sequence, copy_tokens};
use crate::limits::BLOCK_TOKENS;

/// Random numbers that are the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Roughly normal, variance 1.
    fn value(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 3f32.sqrt()
    }
}

fn encode(values: &[f32], format: Format) -> Vec<u8> {
    match format {
        Format::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Format::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Format::BF16 => {
            values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()
        }
        Format::Q8_0 => values.chunks(32).flat_map(|block| encode_block(block, 127.0)).collect(),
        Format::Q4_0 => {
            let pack = |bytes: Vec<u8>| -> Vec<u8> {
                let nibble = |i: usize| (bytes[2 + i] as i8 + 8) as u8;
                bytes[..2]
                    .iter()
                    .copied()
                    .chain((0..16).map(|i| nibble(i) | nibble(i + 16) << 4))
                    .collect()
            };
            values.chunks(32).flat_map(|block| pack(encode_block(block, 7.0))).collect()
        }
        read_only => panic!("{} is not written here", read_only.name()),
    }
}

fn encode_block(block: &[f32], top: f32) -> Vec<u8> {
    let scale = block.iter().fold(0f32, |m, v| m.max(v.abs())) / top;
    let codes = block.iter().map(|v| if scale > 0.0 { (v / scale).round() as i8 as u8 } else { 0 });
    f16::from_f32(scale).to_le_bytes().into_iter().chain(codes).collect()
}

fn matrix(noise: &mut Noise, format: Format, rows: usize, cols: usize, size: f32) -> Weight {
    let values: Vec<f32> = (0..rows * cols).map(|_| noise.value() * size).collect();
    let bytes = encode(&values, format);
    let len = bytes.len();
    Weight::new(Bytes::new(bytes), 0..len, format, rows, cols).unwrap()
}

fn norm(noise: &mut Noise, n: usize) -> Weight {
    let bytes = encode(&(0..n).map(|_| 1.0 + 0.3 * noise.value()).collect::<Vec<_>>(), Format::F32);
    Weight::new(Bytes::new(bytes), 0..n * 4, Format::F32, 1, n).unwrap()
}

fn weights(config: &ModelConfig, dtypes: &[Format], tied: bool, seed: u64) -> Weights {
    let noise = &mut Noise(seed);
    let (hidden, ffn) = (config.hidden, config.ffn);
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut turn = 0;
    let mut dense = |noise: &mut Noise, rows: usize, cols: usize| {
        turn += 1;
        matrix(noise, dtypes[turn % dtypes.len()], rows, cols, 1.0 / (cols as f32).sqrt())
    };
    Weights {
        embedding: dense(noise, config.vocab, hidden),
        output: (!tied).then(|| dense(noise, config.vocab, hidden)),
        output_norm: norm(noise, hidden),
        layers: (0..config.layers.len())
            .map(|_| LayerWeights {
                attention_norm: norm(noise, hidden),
                query: dense(noise, queries, hidden),
                key: dense(noise, keys, hidden),
                value: dense(noise, keys, hidden),
                query_norm: norm(noise, config.head_dim),
                key_norm: norm(noise, config.head_dim),
                attention_output: dense(noise, hidden, queries),
                post_attention_norm: norm(noise, hidden),
                ffn_norm: norm(noise, hidden),
                gate: dense(noise, ffn, hidden),
                up: dense(noise, ffn, hidden),
                down: dense(noise, hidden, ffn),
                post_ffn_norm: norm(noise, hidden),
            })
            .collect(),
    }
}

fn config(
    hidden: usize,
    heads: (usize, usize),
    head_dim: usize,
    window: usize,
    layers: usize,
) -> ModelConfig {
    ModelConfig {
        vocab: 97,
        hidden,
        ffn: hidden * 2,
        heads: heads.0,
        kv_heads: heads.1,
        head_dim,
        layers: (0..layers)
            .map(|i| if i % 3 == 2 { Plane::Global } else { Plane::Sliding })
            .collect(),
        window,
        context: 4096,
        rms_eps: 1e-6,
        query_scale: 1.0 / (head_dim as f32).sqrt(),
        rope_global: Rope { base: 1e6, factor: 8.0 },
        rope_sliding: Rope { base: 1e4, factor: 1.0 },
    }
}

fn prompt(n: usize, seed: u64) -> Vec<TokenId> {
    let mut noise = Noise(seed);
    (0..n).map(|_| TokenId((noise.next() % 97) as u32)).collect()
}

fn run(model: &Model, tokens: &[TokenId]) -> (Vec<f32>, Arc<Sequence>) {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), tokens.len()));
    (model.forward(tokens, 0, &sequence, Logits::All).unwrap(), sequence)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const FLOATS: [Format; 3] = [Format::F32, Format::F16, Format::BF16];
const QUANTIZED: [Format; 2] = [Format::Q8_0, Format::Q4_0];
const MIXED: [Format; 5] = [Format::Q8_0, Format::F32, Format::Q4_0, Format::BF16, Format::F16];

#[test]
fn the_modules_compute_what_the_plain_reference_computes() {
    let shapes = [
        (config(36, (6, 2), 20, 21, 4), &FLOATS[..]),
        (config(64, (4, 1), 48, 16, 3), &MIXED[..]),
        (config(32, (2, 2), 16, 1, 3), &QUANTIZED[..]),
        (config(96, (3, 3), 32, 500, 6), &MIXED[..]),
        (config(10, (5, 1), 2, 7, 2), &[Format::F32][..]),
    ];
    for (seed, (config, dtypes)) in shapes.into_iter().enumerate() {
        let weights = weights(&config, dtypes, seed % 2 == 0, seed as u64 + 11);
        let tokens = prompt(75, seed as u64 + 5);
        let expected = reference::logits(&config, &weights, &tokens);
        let model = Model::new(config, weights, Precision::FLOAT).unwrap();
        let (got, _) = run(&model, &tokens);
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        println!("shape {seed}: largest difference {worst:e} of logits up to {size}");
        assert!(worst < 1e-4 && size > 0.5, "shape {seed}: {worst:e} of {size}");
    }
}

/// Does what a node does on a hit: takes the planes of the blocks that are needed to resume at
/// `resume`, packed as they are stored, and unpacks them into its own pages. Other pages of the
/// prefix are absent, other bytes of the pages are junk.
fn hand_over(shape: &Arc<KvShape>, from: &Sequence, resume: usize, total: usize) -> Arc<Sequence> {
    let mut sequence = Sequence::private(shape, total);
    for (i, block) in sequence.blocks.iter_mut().enumerate() {
        let count = resume.saturating_sub(i * BLOCK_TOKENS).min(BLOCK_TOKENS);
        for plane in Plane::ALL {
            let page = block.plane(plane).unwrap().clone();
            page.write().fill(0xa5);
            let mut packed = vec![0; shape.plane_bytes(plane, count)];
            copy_tokens(
                shape,
                plane,
                count,
                (&from.blocks[i].plane(plane).unwrap().read(), 16),
                (&mut packed, count),
            );
            copy_tokens(shape, plane, count, (&packed, count), (&mut page.write(), 16));
        }
        if (i + 1) * BLOCK_TOKENS <= shape.first_sliding(resume) {
            block.sliding = None;
        }
    }
    Arc::new(sequence)
}

/// The bytes of the tokens `from..to`, plane by plane, head by head.
fn state(sequence: &Sequence, plane: Plane, tokens: core::ops::Range<usize>) -> Vec<u8> {
    let shape = &sequence.shape;
    let mut bytes = Vec::new();
    for token in tokens {
        let page = sequence.blocks[token / BLOCK_TOKENS].plane(plane).unwrap().read();
        for layer in (0..shape.layers().len()).filter(|&l| shape.layers()[l] == plane) {
            for head in 0..shape.kv_heads() {
                let span = shape.head_span(layer, head, BLOCK_TOKENS);
                for array in [span.keys, span.key_scales, span.values, span.value_scales] {
                    let row = array.len() / BLOCK_TOKENS;
                    let at = array.start + token % BLOCK_TOKENS * row;
                    bytes.extend_from_slice(&page[at..at + row]);
                }
            }
        }
    }
    bytes
}

fn splits(total: usize, window: usize) -> Vec<usize> {
    let blocks = (0..=total / 16).flat_map(|b| [(b * 16).wrapping_sub(1), b * 16, b * 16 + 1]);
    let windows = [window - 1, window, window + 1, total - window, total - 1, 1];
    let mut all: Vec<usize> = blocks.chain(windows).filter(|s| (1..total).contains(s)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn a_hit_is_a_miss_bit_for_bit_at_every_split() {
    for (config, dtypes) in [
        (config(64, (8, 1), 20, 21, 3), &QUANTIZED[..]),
        (config(32, (4, 2), 48, 32, 3), &MIXED[..]),
        (config(36, (2, 1), 32, 1, 3), &FLOATS[..]),
    ] {
        let weights = weights(&config, dtypes, true, 3);
        for precision in [Precision::INT8, Precision::FLOAT] {
            let model = Model::new(config.clone(), weights.clone(), precision).unwrap();
            for total in [75, 96] {
                let tokens = prompt(total, total as u64);
                let (whole, all) = run(&model, &tokens);
                for split in splits(total, config.window) {
                    let sequence = hand_over(model.kv_shape(), &all, split, total);
                    let rest =
                        model.forward(&tokens[split..], split, &sequence, Logits::All).unwrap();
                    assert_eq!(
                        bits(&rest),
                        bits(&whole[split * 97..]),
                        "split at {split} of {total}"
                    );
                    let last =
                        model.forward(&tokens[split..], split, &sequence, Logits::Last(1)).unwrap();
                    assert_eq!(
                        bits(&last),
                        bits(&whole[(total - 1) * 97..]),
                        "split at {split} of {total}"
                    );
                    assert!(
                        state(&sequence, Plane::Global, 0..total)
                            == state(&all, Plane::Global, 0..total)
                    );
                    let seen = model.kv_shape().first_sliding(split)..total;
                    assert!(
                        state(&sequence, Plane::Sliding, seen.clone())
                            == state(&all, Plane::Sliding, seen)
                    );
                }
            }
        }
    }
}

/// Two KV heads and three cores: the heads of a single token are distributed so that one core has
/// some of both.
#[test]
fn a_prompt_cut_into_any_pieces_gives_the_same_bits_on_any_number_of_cores() {
    let config = config(64, (8, 2), 20, 21, 3);
    let weights = weights(&config, &MIXED, false, 8);
    for precision in [Precision::INT8, Precision::FLOAT] {
        let mut model = Model::new(config.clone(), weights.clone(), precision).unwrap();
        let tokens = prompt(150, 4);
        let (whole, all) = run(&model, &tokens);
        let (team, workers) = Team::new(3);
        let threads: Vec<_> =
            workers.into_iter().map(|worker| std::thread::spawn(move || worker.serve())).collect();
        for team in [Team::alone(), team] {
            let cores = team.cores();
            model.set_team(team);
            for step in [1, 3, 16, 63, 64, 65, 150] {
                let sequence = Arc::new(Sequence::private(model.kv_shape(), 150));
                let mut pieces = Vec::new();
                for (i, piece) in tokens.chunks(step).enumerate() {
                    pieces.extend(model.forward(piece, i * step, &sequence, Logits::All).unwrap());
                }
                assert!(bits(&pieces) == bits(&whole), "pieces of {step}, {cores} cores");
                for plane in Plane::ALL {
                    assert!(
                        state(&sequence, plane, 0..150) == state(&all, plane, 0..150),
                        "pieces of {step}, {cores} cores"
                    );
                }
            }
        }
        drop(model);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The engine's thread owns the model.
const _: fn() = || {
    fn sent<T: Send + 'static>() {}
    sent::<Model>();
};

fn small() -> (ModelConfig, Weights) {
    let config = config(32, (2, 1), 16, 20, 3);
    let weights = weights(&config, &QUANTIZED, true, 1);
    (config, weights)
}

#[test]
fn what_a_call_cannot_do_is_refused_before_anything_is_written() {
    let (config, weights) = small();
    let model = Model::new(config.clone(), weights.clone(), Precision::INT8).unwrap();
    let sequence = Arc::new(Sequence::private(model.kv_shape(), 32));
    let forward = |tokens: &[TokenId], first, sequence: &Arc<Sequence>| {
        model.forward(tokens, first, sequence, Logits::Last(1))
    };

    let foreign = [TokenId(1), TokenId(97)];
    assert_eq!(forward(&foreign, 0, &sequence), Err(ModelError::Token { token: 97, vocab: 97 }));
    assert_eq!(
        forward(&[TokenId(1)], 4096, &sequence),
        Err(ModelError::Context { needed: 4097, limit: 4096 })
    );
    assert_eq!(
        forward(&[TokenId(1)], usize::MAX, &sequence),
        Err(ModelError::Context { needed: usize::MAX, limit: 4096 })
    );
    assert_eq!(
        forward(&[TokenId(1)], 32, &sequence),
        Err(ModelError::Page { plane: Plane::Global, position: 32 })
    );
    assert_eq!(forward(&[], 0, &sequence), Ok(vec![]));

    let mut holes = (*sequence).clone();
    holes.blocks[0].sliding = None;
    let holes = Arc::new(holes);
    let missing = ModelError::Page { plane: Plane::Sliding, position: 0 };
    assert_eq!(
        forward(&[TokenId(1)], 31, &holes),
        Err(missing),
        "the window of 20 reaches back to token 12"
    );
    let mut short = (*sequence).clone();
    short.blocks[1] = BlockPages { global: Some(Page::new(8)), sliding: None };
    let missing = ModelError::Page { plane: Plane::Global, position: 16 };
    assert_eq!(forward(&[TokenId(1)], 20, &Arc::new(short)), Err(missing));

    let other = Model::new(config, weights, Precision::FLOAT).unwrap();
    let sequence = Arc::new(Sequence::private(other.kv_shape(), 32));
    assert_eq!(forward(&[TokenId(1)], 0, &sequence), Err(ModelError::ForeignSequence));
}

#[test]
fn a_file_that_does_not_fit_its_configuration_is_refused_by_the_tensors_name() {
    let (config, weights) = small();
    let mut bad = weights.clone();
    bad.layers[1].gate = bad.layers[1].down.clone();
    let error = Model::new(config.clone(), bad, Precision::INT8).unwrap_err().to_string();
    assert!(
        error.contains("blk.1.ffn_gate.weight is 32 × 64") && error.contains("64 × 32"),
        "{error}"
    );

    let mut bad = weights.clone();
    bad.layers.pop();
    assert_eq!(
        Model::new(config.clone(), bad, Precision::INT8).unwrap_err(),
        ModelError::Layers { found: 2, expected: 3 }
    );

    let unusable: [fn(&mut ModelConfig); 6] = [
        |c| c.heads = 0,
        |c| (c.heads, c.kv_heads) = (3, 2),
        |c| c.head_dim = 15,
        |c| c.rope_global.factor = 0.0,
        |c| c.query_scale = f32::NAN,
        |c| c.ffn = usize::MAX,
    ];
    for spoil in unusable {
        let mut config = config.clone();
        spoil(&mut config);
        assert!(matches!(
            Model::new(config, weights.clone(), Precision::INT8),
            Err(ModelError::Config(_))
        ));
    }
}

/// A copy of `weight` with the bytes from `at` on replaced.
fn spoilt(weight: &Weight, at: usize, bytes: &[u8]) -> Weight {
    let mut all = weight.bytes().to_vec();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    let len = all.len();
    Weight::new(Bytes::new(all), 0..len, weight.format(), weight.rows(), weight.cols()).unwrap()
}

/// The results of two models, one for each precision, on five tokens.
fn outcomes(
    config: &ModelConfig,
    weights: &Weights,
    logits: Logits,
) -> [Result<Vec<f32>, ModelError>; 2] {
    [Precision::INT8, Precision::FLOAT].map(|precision| {
        let model = Model::new(config.clone(), weights.clone(), precision).unwrap();
        let sequence = Arc::new(Sequence::private(model.kv_shape(), 5));
        model.forward(&prompt(5, 1), 0, &sequence, logits)
    })
}

#[test]
fn damaged_numbers_end_in_an_error_not_in_an_answer() {
    let (config, sound) = small();
    let infinite = f16::INFINITY.to_le_bytes();
    let off = |position| Err(ModelError::NotFinite { position });
    let tokens = prompt(5, 1);

    let mut weights = sound.clone();
    weights.layers[1].up = spoilt(&sound.layers[1].up, 0, &infinite);
    assert_eq!(outcomes(&config, &weights, Logits::None), [off(0), off(0)]);

    // The row of the prompt's fourth token, where the damage enters.
    let row = |token: TokenId| token.0 as usize * sound.embedding.bytes().len() / 97;
    assert!(!tokens[..3].contains(&tokens[3]));
    weights = sound.clone();
    weights.embedding = spoilt(&sound.embedding, row(tokens[3]), &infinite);
    assert_eq!(outcomes(&config, &weights, Logits::None), [off(3), off(3)]);

    // Damage that only affects logits: the row of a token that the prompt does not contain, a
    // separate output matrix, and the norm before it.
    let other = (0..97).map(TokenId).find(|token| !tokens.contains(token)).unwrap();
    let mut embedding = sound.clone();
    embedding.embedding = spoilt(&sound.embedding, row(other), &infinite);
    let mut output = sound.clone();
    output.output = Some(spoilt(&sound.embedding, row(other), &infinite));
    let mut norm = sound.clone();
    norm.output_norm = spoilt(&sound.output_norm, 4, &f32::NAN.to_le_bytes());
    for weights in [embedding, output, norm] {
        assert!(outcomes(&config, &weights, Logits::None).iter().all(Result::is_ok));
        assert_eq!(outcomes(&config, &weights, Logits::Last(1)), [off(4), off(4)]);
        assert_eq!(outcomes(&config, &weights, Logits::All), [off(0), off(0)]);
    }
}

/// Squares of such numbers overflow, and a norm turns their row into zeros: all later layers, and
/// the logits, are valid numbers.
#[test]
fn numbers_that_a_norm_would_hide_end_in_an_error_too() {
    let config = config(32, (2, 1), 16, 20, 3);
    let sound = weights(&config, &[Format::F32], false, 1);
    let row = |token: TokenId| token.0 as usize * 32 * 4;
    let tokens = prompt(5, 1);
    for value in [1e16f32, 1e25, -3e37] {
        let mut weights = sound.clone();
        weights.embedding = spoilt(&sound.embedding, row(tokens[3]) + 20, &value.to_le_bytes());
        let off = Err(ModelError::NotFinite { position: 3 });
        assert_eq!(outcomes(&config, &weights, Logits::All), [off.clone(), off]);
    }
}
