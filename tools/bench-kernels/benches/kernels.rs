//! Each kernel alone, in the sizes of Gemma 3 270M, on one core, with every instruction set that
//! this machine has.
//!
//! Products are counted in multiply-accumulates (items per second) and in bytes of weights (bytes
//! per second): the first bounds prefill, the second decode, which memory limits. The matrix of
//! `decode` is larger than any cache, like the whole model.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use potluck::kernels::{
    Format, GROUP, Isa, Matrix, QuantizedRows, Team, accumulate, decode_int8, encode_int8, gelu_mul, matmul_int8, quantize_rows,
    rms_norm, scores, softmax,
};

const HIDDEN: usize = 640;
const FFN: usize = 2_048;
const HEAD: usize = 256;
const WINDOW: usize = 512;

fn main() {
    divan::main();
}

/// The names of this CPU's instruction sets.
fn names() -> Vec<&'static str> {
    Isa::all().map(Isa::name).collect()
}

fn isa(name: &str) -> Isa {
    Isa::all().find(|isa| isa.name() == name).unwrap_or(Isa::PORTABLE)
}

/// Bytes from a xorshift generator: the same on every machine.
fn noise(count: usize, seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    noise(count, seed).map(|byte| f32::from(byte) / 128.0 - 1.0).collect()
}

/// Random codes with scales of 0.004.
fn weights(format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let (_, unit) = format.unit();
    let mut bytes: Vec<u8> = noise(rows * cols / GROUP * unit, 1).collect();
    bytes.chunks_mut(unit).for_each(|block| block[..2].copy_from_slice(&0x1c00u16.to_le_bytes()));
    bytes
}

fn product(bencher: Bencher<'_, '_>, isa: Isa, format: Format, (rows, cols, tokens): (usize, usize, usize)) {
    let bytes = weights(format, rows, cols);
    let x: QuantizedRows = quantize_rows(isa, &values(tokens * cols, 2), cols);
    let mut y = vec![0f32; tokens * rows];
    let team = Team::alone();
    bencher
        .counter(ItemsCount::new(rows * cols * tokens))
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| matmul_int8(&team, isa, Matrix::new(&bytes, format, rows, cols), &x, &mut y));
}

/// 64 tokens: a chunk of a prompt.
#[divan::bench(args = names())]
fn prefill_gate_q8_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q8_0, (FFN, HIDDEN, 64));
}

#[divan::bench(args = names())]
fn prefill_gate_q4_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q4_0, (FFN, HIDDEN, 64));
}

#[divan::bench(args = names())]
fn prefill_down_q8_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q8_0, (HIDDEN, FFN, 64));
}

#[divan::bench(args = names())]
fn prefill_down_q4_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q4_0, (HIDDEN, FFN, 64));
}

/// One token: half of the output projection.
#[divan::bench(args = names(), max_time = 3)]
fn decode_q8_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q8_0, (131_072, HIDDEN, 1));
}

#[divan::bench(args = names(), max_time = 3)]
fn decode_q4_0(bencher: Bencher<'_, '_>, name: &str) {
    product(bencher, isa(name), Format::Q4_0, (131_072, HIDDEN, 1));
}

/// The activations of a chunk of 64 tokens.
#[divan::bench(args = names())]
fn quantize_activations(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, x) = (isa(name), values(64 * HIDDEN, 3));
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| quantize_rows(isa, &x, HIDDEN));
}

/// One query over a window of keys.
#[divan::bench(args = names())]
fn attention_scores(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, query, keys) = (isa(name), values(HEAD, 4), values(WINDOW * HEAD, 5));
    let mut out = vec![0f32; WINDOW];
    bencher.counter(ItemsCount::new(keys.len())).bench_local(|| scores(isa, &query, &keys, &mut out));
}

/// The values of a window, weighted.
#[divan::bench(args = names())]
fn attention_values(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, weights, rows) = (isa(name), values(WINDOW, 6), values(WINDOW * HEAD, 7));
    let mut out = vec![0f32; HEAD];
    bencher.counter(ItemsCount::new(rows.len())).bench_local(|| accumulate(isa, &weights, &rows, &mut out));
}

#[divan::bench(args = names())]
fn attention_softmax(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, row) = (isa(name), values(WINDOW, 8));
    let bencher = bencher.counter(ItemsCount::new(WINDOW)).with_inputs(|| row.clone());
    bencher.bench_local_values(|mut row| {
        let mut total = 0.0;
        softmax(isa, &mut row, &mut total);
        (row, total)
    });
}

/// A stored block of keys, to f32.
#[divan::bench(args = names())]
fn read_kv_block(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, x) = (isa(name), values(16 * HEAD, 9));
    let (mut codes, mut scales) = (vec![0u8; x.len()], vec![0u8; x.len() / GROUP * 2]);
    let rows = x.chunks_exact(HEAD).zip(codes.chunks_exact_mut(HEAD)).zip(scales.chunks_exact_mut(HEAD / GROUP * 2));
    rows.for_each(|((x, codes), scales)| encode_int8(x, codes, scales));
    let mut out = vec![0f32; x.len()];
    bencher.counter(ItemsCount::new(x.len())).bench_local(|| decode_int8(isa, &codes, &scales, HEAD, &mut out));
}

/// GELU and the product after it, of one token.
#[divan::bench(args = names())]
fn gelu(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, gate, up) = (isa(name), values(FFN, 10), values(FFN, 11));
    let mut out = vec![0f32; FFN];
    bencher.counter(ItemsCount::new(FFN)).bench_local(|| gelu_mul(isa, &gate, &up, &mut out));
}

#[divan::bench(args = names())]
fn norm(bencher: Bencher<'_, '_>, name: &str) {
    let (isa, x, weight) = (isa(name), values(HIDDEN, 12), values(HIDDEN, 13));
    let mut out = vec![0f32; HIDDEN];
    bencher.counter(ItemsCount::new(HIDDEN)).bench_local(|| rms_norm(isa, &x, &weight, 1e-6, None, &mut out));
}
