//! Reads safetensors files, one or several shards: mapped, with checked heads; tensors are read
//! chunk by chunk.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::Dtype;
use safetensors::{SafeTensorError, SafeTensors};

use super::fault::{Fault, FileError};
use super::map::{map, regular};
use super::weight::Bytes;
use crate::limits::{MAX_JSON_FILE_BYTES, MAX_SHARDS};

/// A tensor, in place in its shard.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The shard, for messages.
    pub(super) path: PathBuf,
    /// Sizes, outermost first; empty for a scalar.
    pub(super) dims: Vec<usize>,
    dtype: Dtype,
    bytes: Bytes,
    range: Range<usize>,
}

impl Tensor {
    /// Rows and columns, if the tensor is a vector (one row) or a matrix.
    pub(super) fn matrix(&self) -> Option<(usize, usize)> {
        match *self.dims.as_slice() {
            [cols] => Some((1, cols)),
            [rows, cols] => Some((rows, cols)),
            _ => None,
        }
    }

    /// The stored type's name if [`Tensor::floats`] cannot read it.
    pub(super) fn foreign_type(&self) -> Option<String> {
        let readable = matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        (!readable).then(|| self.dtype.to_string())
    }

    /// Decodes the values in `range`, counted row-major from the first, into `out`. The type must
    /// be F32, F16 or BF16.
    pub(super) fn floats(&self, range: Range<usize>, out: &mut Vec<f32>) {
        let bytes = &self.bytes.as_slice()[self.range.clone()];
        let width = self.dtype.bitsize() / 8;
        let bytes = &bytes[range.start * width..range.end * width];
        out.clear();
        match self.dtype {
            Dtype::F32 => {
                out.extend(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)))
            }
            Dtype::F16 => {
                out.extend(bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()))
            }
            Dtype::BF16 => out
                .extend(bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32())),
            _ => {}
        }
    }

    /// The values of an integer tensor (I32 or I64), for the token ids of golden files; `None` for
    /// other types.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let bytes = &self.bytes.as_slice()[self.range.clone()];
        match self.dtype {
            Dtype::I32 => Some(
                bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
            ),
            Dtype::I64 => {
                Some(bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
            }
            _ => None,
        }
    }
}

/// The tensors of one file by name.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Tensor>, FileError> {
    let bytes = map(path)?;
    let at = |fault| FileError::new(path, fault);
    let (head, metadata) = SafeTensors::read_metadata(bytes.as_slice())
        .map_err(|error| at(explain(&error, bytes.as_slice())))?;
    let data = 8 + head;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let range = data + info.data_offsets.0..data + info.data_offsets.1;
        let tensor = Tensor {
            path: path.to_owned(),
            dims: info.shape.clone(),
            dtype: info.dtype,
            bytes: bytes.clone(),
            range,
        };
        (name, tensor)
    });
    Ok(tensors.collect())
}

fn explain(error: &SafeTensorError, bytes: &[u8]) -> Fault {
    if bytes.starts_with(b"GGUF") {
        return Fault::Foreign("is a GGUF file; it needs no conversion".into());
    }
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            Fault::Damaged("its tensors do not fill it exactly, it may be truncated".into())
        }
        SafeTensorError::InvalidHeaderLength
        | SafeTensorError::HeaderTooLarge
        | SafeTensorError::HeaderTooSmall => Fault::Foreign(
            "is not a safetensors file, or a truncated one: download it again".into(),
        ),
        other => Fault::Damaged(format!("not safetensors ({})", one_line(&other.to_string()))),
    }
}

/// Text from another program, made to fit on one line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// The tensors of a Hugging Face directory: model.safetensors, or the shards that an index names,
/// or the numbered shards if the index is missing.
pub(super) fn open_directory(dir: &Path) -> Result<BTreeMap<String, Tensor>, FileError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return open(&single);
    }
    let index = dir.join("model.safetensors.index.json");
    let shards = if index.exists() { indexed(&index)? } else { numbered(dir)? };
    let mut all = BTreeMap::new();
    for shard in shards {
        let path = dir.join(shard);
        for (name, tensor) in open(&path)? {
            if all.insert(name.clone(), tensor).is_some() {
                let message = format!("tensor {} is also in another shard", one_line(&name));
                return Err(FileError::new(&path, Fault::Damaged(message)));
            }
        }
    }
    Ok(all)
}

fn indexed(index: &Path) -> Result<BTreeSet<String>, FileError> {
    let damaged = |what: &str| FileError::new(index, Fault::Damaged(what.to_owned()));
    let json = read_json(index)?;
    let map = json
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| damaged("it has no weight_map"))?;
    let mut shards = BTreeSet::new();
    for file in map.values() {
        let file = file
            .as_str()
            .ok_or_else(|| damaged("its weight_map names something that is not a file"))?;
        let plain = !file.is_empty() && !file.contains(['/', '\\', '\0']) && !file.starts_with('.');
        if !plain {
            return Err(damaged("its weight_map names a file outside the directory"));
        }
        shards.insert(file.to_owned());
        if shards.len() > MAX_SHARDS {
            return Err(damaged(&format!("it names more than {MAX_SHARDS} shards")));
        }
    }
    if shards.is_empty() { Err(damaged("it names no shards")) } else { Ok(shards) }
}

/// All shards with names like model-00001-of-00003.safetensors.
fn numbered(dir: &Path) -> Result<BTreeSet<String>, FileError> {
    let at = |fault| FileError::new(dir, fault);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(|error| at(Fault::Open(error)))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("model-") && name.ends_with(".safetensors") && found.len() < MAX_SHARDS
        {
            found.insert(name);
        }
    }
    let count = found.first().and_then(|first| {
        first.strip_suffix(".safetensors")?.rsplit_once("-of-")?.1.parse::<usize>().ok()
    });
    let Some(count) = count.filter(|count| (1..=MAX_SHARDS).contains(count)) else {
        let message =
            "has neither model.safetensors nor its shards; download the model as safetensors";
        return Err(at(Fault::Foreign(message.into())));
    };
    let wanted: BTreeSet<String> =
        (1..=count).map(|i| format!("model-{i:05}-of-{count:05}.safetensors")).collect();
    match wanted.difference(&found).next() {
        Some(missing) => Err(at(Fault::Foreign(format!("lacks shard {missing}; download it")))),
        None => Ok(wanted),
    }
}

/// Reads a small JSON file completely.
pub(super) fn read_json(path: &Path) -> Result<serde_json::Value, FileError> {
    let at = |fault| FileError::new(path, fault);
    let meta = regular(path)?;
    if meta.len() > MAX_JSON_FILE_BYTES {
        return Err(at(Fault::TooLarge(meta.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| at(Fault::Open(error)))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| at(Fault::Damaged(format!("not JSON ({})", one_line(&error.to_string())))))
}
