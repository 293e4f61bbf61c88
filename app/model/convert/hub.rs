//! Reads a Hugging Face config.json as a [`ModelConfig`]: old and new key names, text-only and
//! multimodal files, and the defaults of transformers' `Gemma3TextConfig` for keys that a published
//! file omits.

use std::path::Path;

use serde_json::Value;

use crate::kv::Plane;
use crate::limits::MAX_LAYERS;
use crate::model::config::{ModelConfig, Rope};
use crate::model::fault::{Fault, FileError};
use crate::model::gguf::{check, every_nth_global, inverse_root};
use crate::model::safetensors::one_line;

/// The contents of config.json.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct HubConfig {
    pub(super) model: ModelConfig,
    /// Whether the output matrix is the embedding.
    pub(super) tied: bool,
}

/// Reads `json`, the contents of the file at `path`. `rows` is the number of rows of the embedding
/// tensor, for files that do not specify the vocabulary's size.
pub(super) fn parse(path: &Path, json: &Value, rows: usize) -> Result<HubConfig, FileError> {
    Reader { path, text: json.get("text_config").unwrap_or(json), outer: json }.config(rows)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a Value,
    outer: &'a Value,
}

impl Reader<'_> {
    fn config(&self, rows: usize) -> Result<HubConfig, FileError> {
        self.refuse_foreign()?;
        let layers = self.size("num_hidden_layers", 26)?;
        if layers > MAX_LAYERS {
            return Err(self.refuse(&format!(
                "num_hidden_layers is {layers}; this build takes at most {MAX_LAYERS}"
            )));
        }
        let scalar = self.float(self.text, "query_pre_attn_scalar", 256.0)?;
        let (global, sliding) = self.ropes()?;
        let model = ModelConfig {
            vocab: self.size("vocab_size", rows)?,
            hidden: self.size("hidden_size", 2304)?,
            ffn: self.size("intermediate_size", 9216)?,
            heads: self.size("num_attention_heads", 8)?,
            kv_heads: self.size("num_key_value_heads", 4)?,
            head_dim: self.size("head_dim", 256)?,
            layers: self.planes(layers)?,
            window: self.size("sliding_window", 4096)?,
            context: self.size("max_position_embeddings", 131_072)?,
            rms_eps: self.float(self.text, "rms_norm_eps", 1e-6)? as f32,
            query_scale: inverse_root(scalar),
            rope_global: global,
            rope_sliding: sliding,
        };
        check(&model).map_err(|fault| FileError::new(self.path, fault))?;
        let tied = self
            .flag(self.text, "tie_word_embeddings")?
            .or(self.flag(self.outer, "tie_word_embeddings")?);
        Ok(HubConfig { model, tied: tied.unwrap_or(true) })
    }

    /// Refuses features that Gemma 3's text model does not have.
    fn refuse_foreign(&self) -> Result<(), FileError> {
        if !self.text.is_object() {
            return Err(self.refuse(
                "it does not describe a model; use config.json from the model's directory",
            ));
        }
        let kind = self
            .text
            .get("model_type")
            .or(self.outer.get("model_type"))
            .and_then(Value::as_str)
            .unwrap_or("missing");
        if !["gemma3_text", "gemma3"].contains(&kind) {
            return Err(self.refuse(&format!(
                "model_type is {}; potluck converts gemma3 and gemma3_text",
                one_line(kind)
            )));
        }
        for key in ["attention_bias", "use_bidirectional_attention"] {
            if self.flag(self.text, key)? == Some(true) {
                return Err(self
                    .refuse(&format!("{key} is true, which Gemma 3's text model does not have")));
            }
        }
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if self.text.get(key).is_some_and(|value| !value.is_null()) {
                return Err(self.refuse(&format!("{key} is set; Gemma 3 caps no logits")));
            }
        }
        for key in ["hidden_activation", "hidden_act"] {
            match self.text.get(key).filter(|value| !value.is_null()) {
                None => {}
                Some(value) if value.as_str() == Some("gelu_pytorch_tanh") => {}
                Some(value) => {
                    let shown = one_line(&value.to_string());
                    return Err(
                        self.refuse(&format!("{key} is {shown}; Gemma 3's is gelu_pytorch_tanh"))
                    );
                }
            }
        }
        for config in [self.text, self.outer] {
            if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
                return Err(
                    self.refuse("the weights are already quantised; use the model in bfloat16")
                );
            }
        }
        Ok(())
    }

    fn planes(&self, layers: usize) -> Result<Vec<Plane>, FileError> {
        if let Some(types) = self.text.get("layer_types").filter(|value| !value.is_null()) {
            let types = types.as_array().filter(|types| types.len() == layers);
            let types = types.ok_or_else(|| {
                self.refuse(&format!("layer_types must name each of the {layers} layers"))
            })?;
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    Some("full_attention") => Ok(Plane::Global),
                    Some("sliding_attention") => Ok(Plane::Sliding),
                    _ => Err(self.refuse("layer_types names something other than full_attention and sliding_attention")),
                })
                .collect();
        }
        let old = self.text.get("sliding_window_pattern").is_some();
        let every =
            self.size(if old { "sliding_window_pattern" } else { "_sliding_window_pattern" }, 6)?;
        if every == 0 {
            return Err(self.refuse("sliding_window_pattern is 0"));
        }
        Ok(every_nth_global(layers, every))
    }

    /// RoPE of the global layers and of the sliding ones.
    fn ropes(&self) -> Result<(Rope, Rope), FileError> {
        if let Some(new) = self.text.get("rope_parameters").filter(|value| !value.is_null()) {
            let full = new.get("full_attention").filter(|value| !value.is_null());
            let near = new.get("sliding_attention").filter(|value| !value.is_null());
            // Files of the transition period specify it once, for the global layers.
            let global = self.rope(full.unwrap_or(new), 1e6)?;
            let sliding = match near {
                Some(near) => self.rope(near, 1e4)?,
                None => Rope {
                    base: self.float(self.text, "rope_local_base_freq", 1e4)? as f32,
                    factor: 1.0,
                },
            };
            if sliding.factor != 1.0 {
                return Err(self.refuse(
                    "rope_parameters scales sliding layers, which GGUF cannot represent for a Gemma 3",
                ));
            }
            return Ok((global, sliding));
        }
        let base = self.float(self.text, "rope_theta", 1e6)? as f32;
        let factor = match self.text.get("rope_scaling").filter(|value| !value.is_null()) {
            Some(scaling) => self.rope(scaling, 1e6)?.factor,
            None => 1.0,
        };
        let sliding = self.float(self.text, "rope_local_base_freq", 1e4)? as f32;
        Ok((Rope { base, factor }, Rope { base: sliding, factor: 1.0 }))
    }

    fn rope(&self, parameters: &Value, base: f64) -> Result<Rope, FileError> {
        if !parameters.is_object() {
            return Err(self.refuse("its RoPE parameters are not an object"));
        }
        let kind =
            parameters.get("rope_type").or(parameters.get("type")).filter(|value| !value.is_null());
        let factor = match kind.map(|kind| kind.as_str().unwrap_or("no text")) {
            None | Some("default") => 1.0,
            Some("linear") => self.float(parameters, "factor", f64::NAN)?,
            Some(other) => {
                return Err(self.refuse(&format!(
                    "rope_type is {}; this build knows default and linear",
                    one_line(other)
                )));
            }
        };
        if !(factor.is_finite() && factor > 0.0) {
            return Err(self.refuse("the factor of linear RoPE scaling must be a positive number"));
        }
        Ok(Rope { base: self.float(parameters, "rope_theta", base)? as f32, factor: factor as f32 })
    }

    fn size(&self, key: &str, default: usize) -> Result<usize, FileError> {
        match self.text.get(key).filter(|value| !value.is_null()) {
            None => Ok(default),
            Some(value) => {
                value.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
                    self.refuse(&format!("{key} is {}, not a size", one_line(&value.to_string())))
                })
            }
        }
    }

    fn float(&self, from: &Value, key: &str, default: f64) -> Result<f64, FileError> {
        match from.get(key).filter(|value| !value.is_null()) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| {
                self.refuse(&format!("{key} is {}, not a number", one_line(&value.to_string())))
            }),
        }
    }

    fn flag(&self, from: &Value, key: &str) -> Result<Option<bool>, FileError> {
        match from.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match value.as_bool() {
                Some(flag) => Ok(Some(flag)),
                None => Err(self.refuse(&format!(
                    "{key} is {}, neither true nor false",
                    one_line(&value.to_string())
                ))),
            },
        }
    }

    fn refuse(&self, why: &str) -> FileError {
        FileError::new(self.path, Fault::Unsupported(why.to_owned()))
    }
}
