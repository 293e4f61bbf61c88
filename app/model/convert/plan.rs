//! Decides which tensor is written under which name and in which type, for both `convert` and
//! `synth`.

use std::fmt;
use std::str::FromStr;

use crate::kernels::Format;
use crate::model::config::ModelConfig;
use crate::model::gguf::{Part, TensorPlan, tensor_names};

/// The storage type of matrices. Norms are always F32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConvertType {
    /// 4 bytes per value: the exact reference.
    F32,
    /// 2 bytes per value.
    F16,
    /// 1.0625 bytes per value.
    Q8_0,
    /// 0.5625 bytes per value, with the embedding (and an untied output) in Q8_0: the way Google
    /// publishes Gemma 3.
    Q4_0,
}

impl ConvertType {
    /// Every type, with the name that a user types.
    pub(crate) const ALL: [(ConvertType, &'static str); 4] = [
        (ConvertType::Q8_0, "q8_0"),
        (ConvertType::Q4_0, "q4_0"),
        (ConvertType::F16, "f16"),
        (ConvertType::F32, "f32"),
    ];

    /// llama.cpp's number for a file that is mostly of this type.
    pub(in crate::model) fn file_type(self) -> u32 {
        match self {
            ConvertType::F32 => 0,
            ConvertType::F16 => 1,
            ConvertType::Q4_0 => 2,
            ConvertType::Q8_0 => 7,
        }
    }

    /// The format of `part` if the columns fill whole blocks.
    fn format(self, part: Part) -> Format {
        match self {
            _ if part.is_norm() => Format::F32,
            ConvertType::F32 => Format::F32,
            ConvertType::F16 => Format::F16,
            ConvertType::Q4_0 if !matches!(part, Part::Embedding | Part::Output) => Format::Q4_0,
            ConvertType::Q8_0 | ConvertType::Q4_0 => Format::Q8_0,
        }
    }
}

impl fmt::Display for ConvertType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ConvertType::ALL.iter().find(|(ty, _)| ty == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for ConvertType {
    type Err = String;

    fn from_str(text: &str) -> Result<ConvertType, String> {
        let known = ConvertType::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        known
            .map(|(ty, _)| *ty)
            .ok_or_else(|| format!("type {text}: choose q8_0, q4_0, f16 or f32"))
    }
}

/// One tensor to be written.
#[derive(Clone, Debug)]
pub(in crate::model) struct Planned {
    pub(in crate::model) plan: TensorPlan,
    pub(in crate::model) part: Part,
    pub(in crate::model) rows: usize,
    pub(in crate::model) cols: usize,
}

/// The tensors of a model in writing order, and a note for each that could not be stored in the
/// requested type.
pub(in crate::model) fn plan(
    config: &ModelConfig,
    tied: bool,
    ty: ConvertType,
) -> (Vec<Planned>, Vec<String>) {
    let mut fallbacks = Vec::new();
    let planned = tensor_names(config.layers.len(), tied).into_iter().filter_map(|(name, part)| {
        let (rows, cols) = part.shape(config);
        let wanted = ty.format(part);
        let format = if cols % wanted.unit().0 == 0 { wanted } else { Format::F16 };
        if format != wanted {
            let names = (format.name(), wanted.name());
            fallbacks.push(format!(
                "{name} is {}: its {cols} columns do not fill blocks of {}",
                names.0, names.1
            ));
        }
        let plan = TensorPlan::new(name, (rows, cols), part.is_norm(), format)?;
        Some(Planned { plan, part, rows, cols })
    });
    (planned.collect(), fallbacks)
}
