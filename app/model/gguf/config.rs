//! Maps metadata to [`ModelConfig`]: llama.cpp's keys for Gemma 3, its defaults for keys that a
//! published file lacks, and the names that Ollama's converter gives some of them. Every value is
//! checked; features that Gemma 3's text model does not have are refused, not ignored.

use super::read::Gguf;
use super::value::{Elements, Kind, Value};
use super::{ARCHITECTURE, layer_tensors};
use crate::kv::{KvFormat, KvShape, Plane};
use crate::limits::{MAX_LAYERS, MAX_VOCABULARY_TOKENS, MAX_WIDTH};
use crate::model::config::{ModelConfig, Rope};
use crate::model::fault::{Fault, FileError};

/// llama.cpp's default if the file specifies none: Gemma 3 has five sliding layers per global one.
const DEFAULT_PATTERN: usize = 6;
/// llama.cpp's default if the file specifies none: the base that Gemma 3's sliding layers were
/// trained with.
const DEFAULT_SLIDING_BASE: f32 = 10_000.0;
/// The value that Ollama's converter writes for the 1B as `final_logit_softcapping`; Gemma 2 had
/// it. Gemma 3 as published caps no logits, so this value is ignored. Any other value is refused.
const OLLAMAS_CAP: f64 = 30.0;
/// Only Gemma 3 27B scales queries by hidden/heads. Its early files do not say so, and llama.cpp
/// recognizes it by its number of layers.
const LAYERS_OF_27B: usize = 62;

impl Gguf {
    /// The model that the metadata describes, checked for consistency; [`Gguf::weights`] checks the
    /// tensors against it.
    pub fn config(&self) -> Result<ModelConfig, FileError> {
        self.only_gemma3()?;
        let layers = self.size("block_count", MAX_LAYERS)?;
        let hidden = self.size("embedding_length", MAX_WIDTH)?;
        let heads = self.size("attention.head_count", MAX_WIDTH)?;
        let kv_heads = self.size_or("attention.head_count_kv", MAX_WIDTH, heads)?;
        let head_dim = self.size_or("attention.key_length", MAX_WIDTH, hidden / heads)?;
        let value_length = self.size_or("attention.value_length", MAX_WIDTH, head_dim)?;
        let turned = self.size_or("rope.dimension_count", MAX_WIDTH, head_dim)?;
        let context = self.size("context_length", u32::MAX as usize)?;
        let rms_eps = self.number("attention.layer_norm_rms_epsilon")?;
        let base = self.number(if self.has("rope.global.freq_base") {
            "rope.global.freq_base"
        } else {
            "rope.freq_base"
        })?;
        let factor = self.rope_factor()?;
        let local = if self.has("rope.local.freq_base") {
            "rope.local.freq_base"
        } else {
            "rope.freq_base_swa"
        };
        let sliding_base = self.number_or(local, DEFAULT_SLIDING_BASE)?;
        let scaled_by = if layers == LAYERS_OF_27B { hidden / heads } else { head_dim };
        let query_scale = self.number_or("attention.scale", inverse_root(scaled_by as f64))?;
        let (planes, window) = self.planes(layers, context)?;
        let config = ModelConfig {
            vocab: self.vocab()?,
            hidden,
            ffn: self.size("feed_forward_length", MAX_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            layers: planes,
            window,
            context,
            rms_eps,
            query_scale,
            rope_global: Rope { base, factor },
            rope_sliding: Rope { base: sliding_base, factor: 1.0 },
        };
        if value_length != head_dim || turned != head_dim {
            let key =
                if turned != head_dim { "rope.dimension_count" } else { "attention.value_length" };
            return Err(self.refuse(key, &format!("differs from the key length {head_dim}")));
        }
        check(&config).map_err(|fault| self.fault(fault))?;
        Ok(config)
    }

    fn only_gemma3(&self) -> Result<(), FileError> {
        let Some(architecture) = self.text("general.architecture")? else {
            return Err(
                self.fault(Fault::Damaged("metadata general.architecture is missing".into()))
            );
        };
        if architecture != ARCHITECTURE {
            let shown: String = architecture.chars().filter(|c| !c.is_control()).take(40).collect();
            let message =
                format!("architecture {shown}: potluck runs {ARCHITECTURE}; get a Gemma 3");
            return Err(self.fault(Fault::Unsupported(message)));
        }
        for (cap, harmless) in
            [("final_logit_softcapping", OLLAMAS_CAP), ("attn_logit_softcapping", 0.0)]
        {
            if self.float(&key(cap))?.is_some_and(|cap| cap != 0.0 && cap != harmless) {
                return Err(self.refuse(cap, "is set; Gemma 3 caps no logits"));
            }
        }
        if self.boolean(&key("attention.causal"))? == Some(false) {
            return Err(
                self.refuse("attention.causal", "is false; potluck runs models that generate text")
            );
        }
        Ok(())
    }

    /// The planes of all layers, and the window; a model without a window has global layers only.
    fn planes(&self, layers: usize, context: usize) -> Result<(Vec<Plane>, usize), FileError> {
        let window = match self.integer(&key("attention.sliding_window"))? {
            None | Some(0) => return Ok((vec![Plane::Global; layers], context)),
            Some(_) => self.size("attention.sliding_window", u32::MAX as usize)?,
        };
        const PATTERN: &str = "attention.sliding_window_pattern";
        let full = key(PATTERN);
        let Some(Value::Array { .. }) = self.metadata().get(&full) else {
            let every = self.size_or(PATTERN, u32::MAX as usize, DEFAULT_PATTERN)?;
            return Ok((every_nth_global(layers, every), window));
        };
        let Some(Elements { kind, count, bytes }) = self.array(&full)? else {
            return Err(self.wrong_type(&full, "an array"));
        };
        let step = match kind {
            Kind::F32 | Kind::F64 => None,
            kind => kind.fixed_bytes(),
        };
        let Some(step) = step.filter(|_| count == layers) else {
            return Err(self.refuse(
                PATTERN,
                &format!("must name true or false for each of the {layers} layers"),
            ));
        };
        let planes = bytes.chunks_exact(step).map(|flag| {
            if flag.iter().any(|&byte| byte != 0) { Plane::Sliding } else { Plane::Global }
        });
        Ok((planes.collect(), window))
    }

    /// Linear scaling of positions on global layers. Every other kind is refused, because it would
    /// silently give wrong answers.
    fn rope_factor(&self) -> Result<f32, FileError> {
        let kind = self.text(&key("rope.scaling.type"))?;
        let factor = self.float(&key("rope.scaling.factor"))?;
        let factor = match factor {
            Some(factor) => Some(factor),
            None => self.float(&key("rope.scale_linear"))?,
        };
        match kind {
            Some("none") => return Ok(1.0),
            None | Some("linear") => {}
            Some(other) => {
                let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(self.refuse(
                    "rope.scaling.type",
                    &format!("is {shown}; this build knows linear and none"),
                ));
            }
        }
        let Some(factor) = factor else { return Ok(1.0) };
        // llama.cpp writes 0 for "none".
        let factor = if factor == 0.0 { 1.0 } else { factor as f32 };
        if !(factor.is_finite() && factor > 0.0) {
            return Err(self.refuse("rope.scaling.factor", "must be a positive number"));
        }
        Ok(factor)
    }

    fn vocab(&self) -> Result<usize, FileError> {
        let tensor = self.tensors().get("token_embd.weight");
        let Some((rows, _)) = tensor.and_then(|tensor| tensor.matrix()) else {
            let first = layer_tensors(0).first().map(|(name, _)| name.clone()).unwrap_or_default();
            let rest = if self.tensors().contains_key(&first) {
                "it has only layers"
            } else {
                "it holds no model"
            };
            return Err(self.fault(Fault::Damaged(format!(
                "tensor token_embd.weight is missing or not a matrix ({rest})"
            ))));
        };
        Ok(rows)
    }

    fn size(&self, name: &str, most: usize) -> Result<usize, FileError> {
        match self.integer(&key(name))? {
            None => Err(self.fault(Fault::Damaged(format!("metadata {} is missing", key(name))))),
            Some(number) => match usize::try_from(number) {
                Ok(size) if (1..=most).contains(&size) => Ok(size),
                _ => Err(self.refuse(name, &format!("is {number}; this build takes 1 to {most}"))),
            },
        }
    }

    fn size_or(&self, name: &str, most: usize, default: usize) -> Result<usize, FileError> {
        if self.has(name) { self.size(name, most) } else { Ok(default) }
    }

    fn has(&self, name: &str) -> bool {
        self.metadata().contains_key(&key(name))
    }

    fn number(&self, name: &str) -> Result<f32, FileError> {
        let Some(number) = self.float(&key(name))? else {
            return Err(self.fault(Fault::Damaged(format!("metadata {} is missing", key(name)))));
        };
        Ok(number as f32)
    }

    fn number_or(&self, name: &str, default: f32) -> Result<f32, FileError> {
        Ok(self.float(&key(name))?.map_or(default, |number| number as f32))
    }

    fn refuse(&self, name: &str, why: &str) -> FileError {
        self.fault(Fault::Unsupported(format!("metadata {} {why}", key(name))))
    }
}

fn key(name: &str) -> String {
    format!("{ARCHITECTURE}.{name}")
}

/// 1/√value, rounded once.
pub(in crate::model) fn inverse_root(value: f64) -> f32 {
    (1.0 / value.sqrt()) as f32
}

/// Every `every`-th layer is global, the others are sliding, like llama.cpp's `set_swa_pattern`.
pub(in crate::model) fn every_nth_global(layers: usize, every: usize) -> Vec<Plane> {
    (0..layers)
        .map(|layer| if layer % every == every - 1 { Plane::Global } else { Plane::Sliding })
        .collect()
}

/// Invariants of any Gemma 3, whatever the source of its description.
pub(in crate::model) fn check(config: &ModelConfig) -> Result<(), Fault> {
    let refuse = |message: String| Err(Fault::Unsupported(message));
    let ModelConfig { vocab, hidden, ffn, heads, kv_heads, head_dim, context, window, .. } =
        *config;
    for (what, size, most) in [
        ("vocabulary", vocab, MAX_VOCABULARY_TOKENS),
        ("hidden size", hidden, MAX_WIDTH),
        ("feed-forward size", ffn, MAX_WIDTH),
        ("number of heads", heads, MAX_WIDTH),
        ("number of KV heads", kv_heads, heads),
        ("head size", head_dim, MAX_WIDTH),
        ("context", context, u32::MAX as usize),
        ("window", window, u32::MAX as usize),
    ] {
        if size == 0 || size > most {
            return refuse(format!("the model's {what} is {size}; this build takes 1 to {most}"));
        }
    }
    if head_dim % 2 != 0 {
        return refuse(format!(
            "the model's head size is {head_dim}, an odd number; RoPE rotates pairs"
        ));
    }
    if heads % kv_heads != 0 {
        return refuse(format!(
            "the model's {heads} heads are not a multiple of its {kv_heads} KV heads"
        ));
    }
    if heads * head_dim > MAX_WIDTH {
        return refuse(format!(
            "the model's {heads} heads of {head_dim} are wider than {MAX_WIDTH}"
        ));
    }
    for (what, value) in [
        ("norm epsilon", config.rms_eps),
        ("query scale", config.query_scale),
        ("RoPE base", config.rope_global.base),
        ("RoPE factor", config.rope_global.factor),
        ("sliding RoPE base", config.rope_sliding.base),
        ("sliding RoPE factor", config.rope_sliding.factor),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return refuse(format!("the model's {what} is {value}; it must be a positive number"));
        }
    }
    KvShape::new(&config.layers, kv_heads, head_dim, window, KvFormat::Int8)?;
    Ok(())
}
