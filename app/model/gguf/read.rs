//! The checked view of a GGUF file: structure and offsets are checked first, values are decoded on
//! request.

use core::ops::Range;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Described};
use super::ggml::TensorType;
use super::value::{Elements, Kind, Value, float, integer};
use crate::limits::{
    MAX_GGUF_ENTRIES, MAX_GGUF_STRING_BYTES, MAX_GGUF_TENSORS, MAX_MODEL_FILE_BYTES,
};
use crate::model::fault::{Fault, FileError};
use crate::model::weight::Bytes;

const DEFAULT_ALIGNMENT: u64 = 32;
/// Above any page size; a larger alignment would only add padding.
const MAX_ALIGNMENT: u64 = 1 << 16;
/// Minimum size of a metadata entry (empty key, type, one byte) and of a tensor description (empty
/// name, one dimension): bounds the counts by the file's length.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// A GGUF, in one file or in several parts, whose whole structure has been checked.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// At least one; the first has the metadata.
    pub(super) files: Vec<GgufFile>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

/// A file of a GGUF.
#[derive(Clone, Debug)]
pub struct GgufFile {
    /// Its path, for messages.
    pub(crate) path: PathBuf,
    /// The whole file.
    pub bytes: Bytes,
}

/// The place of a tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// One to four sizes, innermost (columns) first; none is zero.
    pub dims: Vec<usize>,
    /// The storage type of its values, possibly one that no kernel here reads.
    pub ty: TensorType,
    /// Index into [`Gguf::files`] of the file that holds it.
    pub(crate) file: usize,
    /// Its bytes within that file. If the size of its type is unknown, everything up to the next
    /// tensor.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Rows and columns, if the tensor is a vector (one row) or a matrix.
    pub(crate) fn matrix(&self) -> Option<(usize, usize)> {
        match *self.dims.as_slice() {
            [cols] => Some((1, cols)),
            [cols, rows] | [cols, rows, 1] | [cols, rows, 1, 1] => Some((rows, cols)),
            _ => None,
        }
    }
}

impl Gguf {
    /// Checks `bytes` as the contents of one file; `path` is only for messages. Ignores whether the
    /// file is one part of several.
    pub(super) fn read(path: &Path, bytes: Bytes) -> Result<Gguf, FileError> {
        let (metadata, tensors) =
            parse(bytes.as_slice()).map_err(|fault| FileError::new(path, fault))?;
        Ok(Gguf { files: vec![GgufFile { path: path.to_owned(), bytes }], metadata, tensors })
    }

    /// The first file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.files[0].path
    }

    /// The file that holds the tensor `name`; the first file if there is no such tensor.
    pub(crate) fn path_of(&self, name: &str) -> &Path {
        &self.files[self.tensors.get(name).map_or(0, |tensor| tensor.file)].path
    }

    /// The files of the model, in order.
    pub fn files(&self) -> &[GgufFile] {
        &self.files
    }

    /// Bytes of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.as_slice().len() as u64).sum()
    }

    /// Everything before the tensors of the first file: the metadata, including the vocabulary.
    pub(crate) fn head(&self) -> &[u8] {
        let bytes = self.head_bytes();
        let tensors = self.tensors.values().filter(|tensor| tensor.file == 0);
        &bytes[..tensors.map(|tensor| tensor.range.start).min().unwrap_or(bytes.len())]
    }

    /// Bytes of the file that has the metadata.
    pub(super) fn head_bytes(&self) -> &[u8] {
        self.files[0].bytes.as_slice()
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Every metadata entry by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The integer of any width at `key`; an error if the value has another type.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i128>, FileError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Scalar { kind, at }) => {
                match integer(*kind, &self.head_bytes()[at.clone()]) {
                    Some(number) => Ok(Some(number)),
                    None => Err(self.wrong_type(key, "a whole number")),
                }
            }
            Some(_) => Err(self.wrong_type(key, "a whole number")),
        }
    }

    /// The number at `key`; an error if the value has another type.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, FileError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Scalar { kind, at }) => {
                match float(*kind, &self.head_bytes()[at.clone()]) {
                    Some(number) => Ok(Some(number)),
                    None => Err(self.wrong_type(key, "a number")),
                }
            }
            Some(_) => Err(self.wrong_type(key, "a number")),
        }
    }

    /// The boolean at `key`; an error if the value has another type.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, FileError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Scalar { kind: Kind::Bool, at }) => {
                Ok(Some(self.head_bytes()[at.start] == 1))
            }
            Some(_) => Err(self.wrong_type(key, "true or false")),
        }
    }

    /// The text at `key`; an error if the value has another type.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, FileError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(at)) => match core::str::from_utf8(&self.head_bytes()[at.clone()]) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.wrong_type(key, "text")),
            },
            Some(_) => Err(self.wrong_type(key, "text")),
        }
    }

    /// The array at `key`; an error if the value has another type.
    pub(crate) fn array(&self, key: &str) -> Result<Option<Elements<'_>>, FileError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array { kind, count, at }) => Ok(Some(Elements {
                kind: *kind,
                count: *count,
                bytes: &self.head_bytes()[at.clone()],
            })),
            Some(_) => Err(self.wrong_type(key, "an array")),
        }
    }

    /// The strings of the array at `key`, in order and in place; an error if the value has another
    /// type.
    pub(crate) fn strings<'a>(
        &'a self,
        key: &str,
    ) -> Result<Option<impl Iterator<Item = &'a str> + use<'a>>, FileError> {
        let Some(Elements { kind, count, bytes }) = self.array(key)? else { return Ok(None) };
        if kind != Kind::String {
            return Err(self.wrong_type(key, "an array of text"));
        }
        let mut cursor = Cursor::new(bytes);
        Ok(Some((0..count).map_while(move |_| {
            let at = cursor.string("", MAX_GGUF_STRING_BYTES).ok()?;
            core::str::from_utf8(&bytes[at]).ok()
        })))
    }

    pub(super) fn fault(&self, fault: Fault) -> FileError {
        FileError::new(self.path(), fault)
    }

    /// A fault of `tensor`, reported for the file that holds it.
    pub(super) fn tensor_fault(&self, tensor: &TensorInfo, fault: Fault) -> FileError {
        FileError::new(&self.files[tensor.file].path, fault)
    }

    pub(super) fn wrong_type(&self, key: &str, wanted: &str) -> FileError {
        self.fault(Fault::Damaged(format!("metadata {key} is not {wanted}")))
    }
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

fn parse(bytes: &[u8]) -> Result<Parsed, Fault> {
    let mut cursor = Cursor::new(bytes);
    let (tensor_count, entry_count) = header(&mut cursor)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entry_count {
        let key = cursor.name("a metadata key")?;
        let number = cursor.u32(&format!("the type of metadata {key}"))?;
        let kind = Kind::from_number(number).ok_or_else(|| {
            Fault::Damaged(format!("metadata {key} has type {number}, which GGUF does not have"))
        })?;
        let value = cursor.value(&key, kind)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(Fault::Damaged(format!("metadata {key} appears twice")));
        }
    }
    let alignment = alignment(bytes, &metadata)?;
    let mut described = Vec::new();
    for _ in 0..tensor_count {
        described.push(cursor.tensor()?);
    }
    let data = (cursor.at as u64).next_multiple_of(alignment);
    Ok((metadata, place(described, data, alignment, bytes.len() as u64)?))
}

fn header(cursor: &mut Cursor<'_>) -> Result<(u64, u64), Fault> {
    if cursor.bytes.len() < 4 || &cursor.bytes[..4] != b"GGUF" {
        let hint = if is_safetensors(cursor.bytes) {
            "it looks like safetensors: run potluck convert on its directory"
        } else {
            "give potluck a Gemma 3 as GGUF"
        };
        return Err(Fault::Foreign(format!("is not a GGUF file; {hint}")));
    }
    cursor.at = 4;
    let version = cursor.u32("the version")?;
    if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
        let message = "is a big-endian GGUF, made for another kind of computer: \
                       get the little-endian file, or convert this one with gguf-convert-endian (of the Python package gguf)";
        return Err(Fault::Unsupported(message.into()));
    }
    if version != 2 && version != 3 {
        return Err(Fault::Unsupported(format!(
            "is GGUF version {version}; this build reads 2 and 3: convert the model again"
        )));
    }
    let tensors = cursor.u64("the tensor count")?;
    let entries = cursor.u64("the metadata count")?;
    let left = (cursor.bytes.len() - cursor.at) as u64;
    for (what, count, limit, least) in [
        ("tensors", tensors, MAX_GGUF_TENSORS, MIN_TENSOR_BYTES),
        ("metadata entries", entries, MAX_GGUF_ENTRIES, MIN_ENTRY_BYTES),
    ] {
        if count > limit {
            return Err(Fault::Damaged(format!(
                "it announces {count} {what}; this build takes at most {limit}"
            )));
        }
        if count * least > left {
            return Err(Fault::Damaged(format!(
                "it announces {count} {what}, more than its {left} bytes can hold"
            )));
        }
    }
    Ok((tensors, entries))
}

fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.len() > 9 && bytes[8] == b'{'
}

fn alignment(bytes: &[u8], metadata: &BTreeMap<String, Value>) -> Result<u64, Fault> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    let number = match value {
        Value::Scalar { kind, at } => integer(*kind, &bytes[at.clone()]),
        _ => None,
    };
    let alignment = number
        .and_then(|number| u64::try_from(number).ok())
        .filter(|a| (8..=MAX_ALIGNMENT).contains(a));
    alignment.filter(|a| a.is_power_of_two()).ok_or_else(|| {
        Fault::Damaged(format!(
            "general.alignment must be a power of two between 8 and {MAX_ALIGNMENT}"
        ))
    })
}

/// Checks the range of every tensor, and that no two share a byte.
fn place(
    described: Vec<Described>,
    data: u64,
    alignment: u64,
    has: u64,
) -> Result<BTreeMap<String, TensorInfo>, Fault> {
    let mut order: Vec<(u64, u64, usize)> = Vec::with_capacity(described.len());
    for (index, tensor) in described.iter().enumerate() {
        let name = &tensor.name;
        if tensor.offset % alignment != 0 {
            let offset = tensor.offset;
            return Err(Fault::Damaged(format!(
                "tensor {name} lies at offset {offset}, no multiple of {alignment}"
            )));
        }
        let start = tensor.offset.checked_add(data).filter(|&start| start <= MAX_MODEL_FILE_BYTES);
        let Some(start) = start else {
            return Err(Fault::Damaged(format!(
                "tensor {name} lies at offset {}, beyond any file",
                tensor.offset
            )));
        };
        let needs = start + tensor.bytes.unwrap_or(0);
        if needs > has {
            return Err(Fault::Truncated { what: format!("tensor {name}"), needs, has });
        }
        order.push((start, needs, index));
    }
    order.sort_unstable();
    for place in 0..order.len() {
        if described[order[place].2].bytes.is_none() {
            order[place].1 = order.get(place + 1).map_or(has, |next| next.0);
        }
    }
    for pair in order.windows(2) {
        if pair[1].0 < pair[0].1 {
            let (first, second) = (&described[pair[0].2].name, &described[pair[1].2].name);
            return Err(Fault::Damaged(format!("tensors {first} and {second} overlap")));
        }
    }
    let mut ranges = vec![0..0; described.len()];
    for (start, end, index) in order {
        ranges[index] = start as usize..end as usize;
    }
    let mut tensors = BTreeMap::new();
    for (tensor, range) in described.into_iter().zip(ranges) {
        let info = TensorInfo { dims: tensor.dims, ty: tensor.ty, file: 0, range };
        if tensors.insert(tensor.name.clone(), info).is_some() {
            return Err(Fault::Damaged(format!("tensor {} appears twice", tensor.name)));
        }
    }
    Ok(tensors)
}
