//! A sequential reader of a GGUF's head. Every length in it is untrusted until it has been checked
//! against the file's length.

use core::ops::Range;

use super::ggml::TensorType;
use super::value::{Kind, Value};
use crate::limits::{
    MAX_GGUF_ARRAY, MAX_GGUF_NAME_BYTES, MAX_GGUF_STRING_BYTES, MAX_MODEL_FILE_BYTES,
};
use crate::model::fault::Fault;

/// A tensor's description as the file gives it.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) ty: TensorType,
    /// `None` if the type's size is unknown.
    pub(super) bytes: Option<u64>,
    pub(super) offset: u64,
}

/// Walks the file's head. Checks every step against the end of the file.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    fn take(&mut self, count: u64, what: &str) -> Result<Range<usize>, Fault> {
        let has = self.bytes.len() as u64;
        let needs = (self.at as u64).saturating_add(count);
        if needs > has {
            return Err(Fault::Truncated { what: what.to_owned(), needs, has });
        }
        let range = self.at..needs as usize;
        self.at = range.end;
        Ok(range)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        let at = self.take(4, what)?.start;
        Ok(u32::from_le_bytes([
            self.bytes[at],
            self.bytes[at + 1],
            self.bytes[at + 2],
            self.bytes[at + 3],
        ]))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        let low = self.u32(what)?;
        let high = self.u32(what)?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    pub(super) fn string(&mut self, what: &str, limit: u64) -> Result<Range<usize>, Fault> {
        let length = self.u64(what)?;
        if length > limit {
            return Err(Fault::Damaged(format!(
                "{what} announces {length} bytes; this build takes at most {limit}"
            )));
        }
        let at = self.take(length, what)?;
        match core::str::from_utf8(&self.bytes[at.clone()]) {
            Ok(_) => Ok(at),
            Err(_) => Err(Fault::Damaged(format!("{what} is not UTF-8"))),
        }
    }

    pub(super) fn name(&mut self, what: &str) -> Result<String, Fault> {
        let at = self.string(what, MAX_GGUF_NAME_BYTES)?;
        let name = String::from_utf8_lossy(&self.bytes[at]).into_owned();
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Fault::Damaged(format!("{what} is empty or holds control characters")));
        }
        Ok(name)
    }

    pub(super) fn value(&mut self, key: &str, kind: Kind) -> Result<Value, Fault> {
        let what = format!("metadata {key}");
        match kind {
            Kind::String => Ok(Value::Text(self.string(&what, MAX_GGUF_STRING_BYTES)?)),
            Kind::Array => self.array(key, &what),
            _ => {
                let at = self.take(kind.fixed_bytes().unwrap_or(0) as u64, &what)?;
                if kind == Kind::Bool && self.bytes[at.start] > 1 {
                    return Err(Fault::Damaged(format!(
                        "{what} is a boolean of {}",
                        self.bytes[at.start]
                    )));
                }
                Ok(Value::Scalar { kind, at })
            }
        }
    }

    fn array(&mut self, key: &str, what: &str) -> Result<Value, Fault> {
        let number = self.u32(what)?;
        let kind = Kind::from_number(number).ok_or_else(|| {
            Fault::Damaged(format!("{what} is an array of type {number}, which GGUF does not have"))
        })?;
        if kind == Kind::Array {
            return Err(Fault::Unsupported(format!(
                "metadata {key} nests arrays; no Gemma 3 has nested arrays: convert the model again"
            )));
        }
        let count = self.u64(what)?;
        if count > MAX_GGUF_ARRAY {
            return Err(Fault::Damaged(format!(
                "{what} announces {count} elements; this build takes at most {MAX_GGUF_ARRAY}"
            )));
        }
        let start = self.at;
        match kind.fixed_bytes() {
            Some(bytes) => {
                self.take(count * bytes as u64, what)?;
            }
            None => {
                for _ in 0..count {
                    self.string(what, MAX_GGUF_STRING_BYTES)?;
                }
            }
        }
        Ok(Value::Array { kind, count: count as usize, at: start..self.at })
    }

    pub(super) fn tensor(&mut self) -> Result<Described, Fault> {
        let name = self.name("a tensor's name")?;
        let what = format!("the description of tensor {name}");
        let rank = self.u32(&what)?;
        if !(1..=4).contains(&rank) {
            return Err(Fault::Damaged(format!(
                "tensor {name} has {rank} dimensions; GGUF has 1 to 4"
            )));
        }
        let mut dims = Vec::with_capacity(4);
        let mut values = 1u64;
        for _ in 0..rank {
            let dim = self.u64(&what)?;
            let product = values
                .checked_mul(dim)
                .filter(|&product| dim > 0 && product <= MAX_MODEL_FILE_BYTES * 8);
            let Some(product) = product else {
                return Err(Fault::Damaged(format!(
                    "tensor {name} has a dimension of {dim}: its size is zero or beyond any file"
                )));
            };
            values = product;
            dims.push(usize::try_from(dim).map_err(|_| {
                Fault::Damaged(format!("tensor {name} exceeds this machine's memory"))
            })?);
        }
        let ty = TensorType::from_number(self.u32(&what)?);
        let bytes = match ty {
            TensorType::Known(ty) if dims[0] % ty.unit != 0 => {
                let (cols, unit, ty) = (dims[0], ty.unit, ty.name);
                let message = format!(
                    "tensor {name} has rows of {cols}, no multiple of the {unit} of its type {ty}"
                );
                return Err(Fault::Damaged(message));
            }
            TensorType::Known(ty) => Some(values / ty.unit as u64 * ty.unit_bytes as u64),
            TensorType::Unknown(_) => None,
        };
        let offset = self.u64(&what)?;
        Ok(Described { name, dims, ty, bytes, offset })
    }
}
