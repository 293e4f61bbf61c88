//! Models with random weights, for benchmarks and demos without licensed weights. Speed does not
//! depend on the values. They are drawn so that answers vary: greedy decoding does not get stuck on
//! one token.
//!
//! The same seed gives the same bytes on every machine: all arithmetic is on integers, except for
//! one final multiplication by a constant.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Progress;
use super::config::{ModelConfig, Rope};
use super::convert::{ConvertError, ConvertType, Planned, Report, plan};
use super::draft::Draft;
use super::fault::{Fault, FileError};
use super::gguf::{
    Part, Writer, every_nth_global, inverse_root, model_entries, vocabulary_entries,
};
use super::quantize::encode;
use crate::tokenizer::Vocabulary;

/// Values generated at once.
const CHUNK_VALUES: usize = 1 << 16;

/// A published shape, or the demo's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Gemma-3 270M as published: 293 MB in Q8_0, 243 MB in Q4_0.
    Gemma3_270M,
    /// Gemma-3 1B as published: 1.06 GB in Q8_0.
    Gemma3_1B,
    /// Small enough for a demo to answer at once: 6 MB in Q8_0.
    Demo,
}

impl Shape {
    /// Every shape, with the name that a user types.
    pub(crate) const ALL: [(Shape, &'static str); 3] = [
        (Shape::Gemma3_270M, "gemma3-270m"),
        (Shape::Gemma3_1B, "gemma3-1b"),
        (Shape::Demo, "demo"),
    ];

    /// The shape's sizes.
    pub(crate) fn config(self) -> ModelConfig {
        let (vocab, hidden, ffn, layers, head_dim, window, context) = match self {
            Shape::Gemma3_270M => (262_144, 640, 2_048, 18, 256, 512, 32_768),
            Shape::Gemma3_1B => (262_144, 1_152, 6_912, 26, 256, 512, 32_768),
            Shape::Demo => (4_096, 256, 1_024, 6, 64, 256, 4_096),
        };
        ModelConfig {
            vocab,
            hidden,
            ffn,
            heads: 4,
            kv_heads: 1,
            head_dim,
            layers: every_nth_global(layers, 6),
            window,
            context,
            rms_eps: 1e-6,
            query_scale: inverse_root(head_dim as f64),
            rope_global: Rope { base: 1e6, factor: 1.0 },
            rope_sliding: Rope { base: 1e4, factor: 1.0 },
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Shape::ALL.iter().find(|(shape, _)| shape == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let known = Shape::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        known
            .map(|(shape, _)| *shape)
            .ok_or_else(|| format!("shape {text}: choose gemma3-270m, gemma3-1b or demo"))
    }
}

/// Writes a model of `shape` with random weights and a made-up vocabulary. `progress` counts bytes
/// of tensors.
pub fn synth(
    shape: Shape,
    seed: u64,
    ty: ConvertType,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    synth_config(&shape.config(), seed, ty, out, progress)
}

/// Like [`synth`], for any sizes that make a loadable model.
pub(super) fn synth_config(
    config: &ModelConfig,
    seed: u64,
    ty: ConvertType,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    let broken = |error: io::Error| FileError::new(out, Fault::Write(error));
    let (planned, notes) = plan(config, true, ty);
    let plans: Vec<_> = planned.iter().map(|planned| planned.plan.clone()).collect();
    let total = plans.iter().map(|plan| plan.bytes as u64).sum();
    let vocabulary = Vocabulary::synthetic(config.vocab, seed);
    let mut entries =
        model_entries(config, &format!("random weights, seed {seed}"), ty.file_type());
    entries.extend(vocabulary_entries(&vocabulary));
    let mut writer = Writer::new(Draft::create(out)?, &entries, &plans).map_err(broken)?;
    let (mut done, mut values, mut bytes) = (0, Vec::new(), Vec::new());
    for planned in &planned {
        let mut normals = Normals::new(xxh3_64_with_seed(planned.plan.name.as_bytes(), seed));
        let (scale, shift) = spread(planned);
        let rows_a_chunk = (CHUNK_VALUES / planned.cols).max(1);
        for first in (0..planned.rows).step_by(rows_a_chunk) {
            let count = rows_a_chunk.min(planned.rows - first) * planned.cols;
            values.clear();
            values.extend((0..count).map(|_| normals.draw() * scale + shift));
            bytes.clear();
            encode(planned.plan.format, &values, &mut bytes).map_err(|source| {
                ConvertError::Value {
                    path: out.display().to_string(),
                    tensor: planned.plan.name.clone(),
                    source,
                }
            })?;
            writer.write(&bytes).map_err(broken)?;
            done += bytes.len() as u64;
            progress(Progress { done, total, item: &planned.plan.name });
        }
    }
    let bytes = writer.finish().keep()?;
    Ok(Report { bytes, tensors: planned.len(), vocabulary: Some(vocabulary.tokens.len()), notes })
}

/// Standard deviation and mean of a tensor's values, chosen so that activations keep their
/// magnitude from layer to layer. Norms hold 1 + w, and those after a block are larger, so that the
/// blocks outweigh the embedding they are added to.
fn spread(planned: &Planned) -> (f32, f32) {
    let name = &planned.plan.name;
    match planned.part {
        Part::Embedding | Part::Output => (0.125, 0.0),
        Part::HeadNorm => (0.1, 1.7),
        Part::HiddenNorm if name.contains(".post_") => (0.1, 2.5),
        Part::HiddenNorm => (0.1, 1.0),
        _ => (inverse_root(planned.cols as f64), 0.0),
    }
}

/// Nearly normal numbers: xoshiro256++, with the four 16-bit quarters of each output summed
/// (variance 1/3, within ±3.5 deviations).
struct Normals {
    state: [u64; 4],
}

impl Normals {
    fn new(mut seed: u64) -> Normals {
        // splitmix64, the seeding that xoshiro's authors use.
        let state = core::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        });
        Normals { state }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ b << 17, d2.rotate_left(45)];
        out
    }

    fn draw(&mut self) -> f32 {
        let bits = self.next();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Mean 2 × 65,535, deviation 65,536 / √3; the sum is an exact f32, and the single
        // multiplication rounds once.
        (sum as i32 - 131_070) as f32 * (1.732_050_8 / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::load::open;

    #[test]
    fn numbers_are_nearly_normal_and_the_same_everywhere() {
        let mut normals = Normals::new(7);
        assert_eq!(
            [normals.next(), normals.next(), normals.next()],
            [1021219803524665661, 3174977118032272916, 13236943193235544178],
            "a different generator gives different models for the same seed"
        );
        let draws: Vec<f64> = (0..100_000).map(|_| f64::from(normals.draw())).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn the_demo_model_loads_and_its_seed_decides_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, seed, ty| {
            let path = dir.path().join(name);
            let report = synth(Shape::Demo, seed, ty, &path, &mut |_| {}).unwrap();
            assert_eq!(
                std::fs::read_dir(dir.path())
                    .unwrap()
                    .filter(|f| f.as_ref().unwrap().path() == path)
                    .count(),
                1
            );
            (std::fs::read(&path).unwrap(), open(&path).unwrap(), report)
        };
        let (first, opened, report) = make("a", 1, ConvertType::Q8_0);
        let (again, ..) = make("b", 1, ConvertType::Q8_0);
        let (other, ..) = make("c", 2, ConvertType::Q8_0);
        assert!(first == again && first != other);
        assert_eq!(opened.config, Shape::Demo.config());
        assert_eq!(opened.gguf.vocabulary().unwrap().unwrap().tokens.len(), 4_096);
        assert!(report.notes.is_empty() && report.bytes < 8 << 20);
        let (.., small) = make("d", 1, ConvertType::Q4_0);
        assert!(small.bytes < report.bytes);
    }

    #[test]
    fn the_published_shapes_have_the_published_sizes() {
        let bytes = |shape: Shape, ty| -> usize {
            plan(&shape.config(), true, ty).0.iter().map(|p| p.plan.bytes).sum()
        };
        assert_eq!(bytes(Shape::Gemma3_270M, ConvertType::Q8_0) / 1_000_000, 285);
        assert_eq!(bytes(Shape::Gemma3_270M, ConvertType::Q4_0) / 1_000_000, 234);
        assert_eq!(bytes(Shape::Gemma3_1B, ConvertType::Q8_0) / 1_000_000, 1_062);
    }
}
