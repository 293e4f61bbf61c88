//! A GGUF split into several files by llama-gguf-split or convert_hf_to_gguf.py:
//!
//! ```text
//! NAME-00001-of-00003.gguf     split.no 0, split.count 3, split.tensors.count N; all metadata, some tensors or none
//! NAME-00002-of-00003.gguf     split.no 1, split.count 3, split.tensors.count N; tensors
//! NAME-00003-of-00003.gguf     split.no 2, split.count 3, split.tensors.count N; tensors
//! ```
//!
//! Opening any one of them opens all. Each stays a separate, mapped file. Together they must hold N
//! tensors, none twice. This detects parts of two different models unless both were split at the
//! same tensors; even then the tensor shapes must still match the metadata.

use std::io;
use std::path::{Path, PathBuf};

use super::read::Gguf;
use crate::limits::{MAX_GGUF_TENSORS, MAX_MODEL_FILE_BYTES, MAX_SHARDS};
use crate::model::fault::{Fault, FileError};
use crate::model::map::map;
use crate::model::weight::Bytes;

/// The part that a file claims to be.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Counted from 0.
    no: usize,
    count: usize,
    /// Tensors of all parts together.
    tensors: i128,
}

impl Gguf {
    /// Maps and checks the file at `path`. If it is one part of several, also opens the other
    /// parts, which must be in the same directory.
    pub fn open(path: &Path) -> Result<Gguf, FileError> {
        let named = Gguf::read(path, map(path)?)?;
        let Some(split) = named.split()? else { return Ok(named) };
        let names = names(path, split).map_err(|fault| FileError::new(path, fault))?;
        let mut named = Some(named);
        let mut parts = Vec::with_capacity(split.count);
        for (no, path) in names.iter().enumerate() {
            let part = match named.take_if(|_| no == split.no) {
                Some(part) => part,
                None => {
                    let bytes = map(path).map_err(|error| missing(error, no, split.count))?;
                    Gguf::read(path, bytes)?
                }
            };
            parts.push(part);
        }
        Gguf::join(parts)
    }

    /// Checks `bytes` as the contents of a whole GGUF file; `path` is only for messages.
    #[cfg(test)]
    pub(crate) fn parse(path: &Path, bytes: Bytes) -> Result<Gguf, FileError> {
        Gguf::join(vec![Gguf::read(path, bytes)?])
    }

    /// Checks the contents of all parts of a model, in order; there must be at least one.
    pub fn parse_parts(parts: Vec<(PathBuf, Bytes)>) -> Result<Gguf, FileError> {
        Gguf::join(
            parts
                .into_iter()
                .map(|(path, bytes)| Gguf::read(&path, bytes))
                .collect::<Result<_, _>>()?,
        )
    }

    /// Joins parts, in order, into one model.
    fn join(parts: Vec<Gguf>) -> Result<Gguf, FileError> {
        let splits: Vec<Option<Split>> = parts.iter().map(Gguf::split).collect::<Result<_, _>>()?;
        let count = parts.len();
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else {
            return Err(FileError::new(Path::new(""), Fault::Empty));
        };
        let first = match splits[0] {
            None if count == 1 => return Ok(whole),
            Some(split) if split.count == count && split.no == 0 => split,
            split => return Err(whole.fault(Fault::Unsupported(not_the_part(split, 0, count)))),
        };
        for (no, part) in parts.enumerate().map(|(no, part)| (no + 1, part)) {
            match splits[no] {
                Some(split) if split == (Split { no, ..first }) => {}
                Some(split) if split == (Split { no, tensors: split.tensors, ..first }) => {
                    let (here, there) = (split.tensors, first.tensors);
                    return Err(part.other_model(&format!(
                        "counts {here} tensors in all, but the first part {there}"
                    )));
                }
                split => return Err(part.fault(Fault::Unsupported(not_the_part(split, no, count)))),
            }
            whole.append(part)?;
        }
        let (has, says) = (whole.tensors.len(), first.tensors);
        if has as i128 != says {
            let message =
                format!("its {count} parts hold {has} tensors, split.tensors.count says {says}");
            return Err(whole.other_model(&message));
        }
        Ok(whole)
    }

    /// Takes over the tensors and the file of another part.
    fn append(&mut self, part: Gguf) -> Result<(), FileError> {
        let bytes = self.file_bytes() + part.file_bytes();
        if bytes > MAX_MODEL_FILE_BYTES {
            return Err(part.fault(Fault::TooLarge(bytes)));
        }
        if let Some(key) = part.metadata.keys().find(|key| self.contradicts(&part, key)) {
            return Err(part.other_model(&format!("has a different {key} than the first part")));
        }
        let (file, path) = (self.files.len(), part.path().to_owned());
        for (name, tensor) in part.tensors {
            if let Some(known) = self.tensors.get(&name) {
                let other = self.files[known.file]
                    .path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let message = format!(
                    "tensor {name} is also in {other}: they are parts of two models, get all from one place"
                );
                return Err(FileError::new(&path, Fault::Unsupported(message)));
            }
            self.tensors.insert(name, super::TensorInfo { file, ..tensor });
        }
        self.files.extend(part.files);
        if self.tensors.len() as u64 > MAX_GGUF_TENSORS {
            let message = format!(
                "its parts hold over {MAX_GGUF_TENSORS} tensors, the most that this build takes"
            );
            return Err(self.fault(Fault::Unsupported(message)));
        }
        Ok(())
    }

    /// Whether `part` repeats the metadata `key` with a different value.
    fn contradicts(&self, part: &Gguf, key: &str) -> bool {
        let own_to_each = key.starts_with("split.") || key == "general.alignment";
        let (Some(here), Some(there)) = (self.metadata.get(key), part.metadata.get(key)) else {
            return false;
        };
        !own_to_each && !here.equals(self.head_bytes(), there, part.head_bytes())
    }

    /// The part that the file claims to be; `None` if it is a whole model.
    fn split(&self) -> Result<Option<Split>, FileError> {
        let Some(count) = self.integer("split.count")?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        let wrong = |message: String| Err(self.fault(Fault::Damaged(message)));
        let Some(count) = usize::try_from(count).ok().filter(|&count| count <= MAX_SHARDS) else {
            return wrong(format!(
                "it is one of {count} parts; this build takes at most {MAX_SHARDS}"
            ));
        };
        let number = self.integer("split.no")?;
        let Some(no) = number.and_then(|no| usize::try_from(no).ok()).filter(|&no| no < count)
        else {
            let shown = number.map_or("missing".to_owned(), |no| no.to_string());
            return wrong(format!("metadata split.no is {shown}, of {count} parts"));
        };
        let Some(tensors) = self.integer("split.tensors.count")? else {
            return wrong("metadata split.tensors.count is missing".to_owned());
        };
        Ok(Some(Split { no, count, tensors }))
    }

    fn other_model(&self, why: &str) -> FileError {
        self.fault(Fault::Unsupported(format!(
            "{why}: a part is of another model or conversion, get all parts from one source"
        )))
    }
}

/// The paths of all parts, in order, derived from the path of one.
fn names(path: &Path, split: Split) -> Result<Vec<PathBuf>, Fault> {
    let Split { no, count, .. } = split;
    let ending = |no: usize| format!("-{:05}-of-{count:05}.gguf", no + 1);
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(stem) = name.and_then(|name| name.strip_suffix(&ending(no))) else {
        let (part, wanted) = (no + 1, ending(no));
        let message = format!(
            "is part {part} of {count} of a model, but its name does not end in {wanted}, which is needed to find the others: \
             give the parts their published names"
        );
        return Err(Fault::Unsupported(message));
    };
    Ok((0..count).map(|no| path.with_file_name(format!("{stem}{}", ending(no)))).collect())
}

fn missing(error: FileError, no: usize, count: usize) -> FileError {
    match error.fault {
        Fault::Open(ref reason) if reason.kind() == io::ErrorKind::NotFound => {
            FileError { fault: Fault::MissingPart { part: no + 1, of: count }, ..error }
        }
        _ => error,
    }
}

/// The message for a file that is not part `no` of `count`, although that part is expected.
fn not_the_part(split: Option<Split>, no: usize, count: usize) -> String {
    let is = match split {
        None => "is a whole model".to_owned(),
        Some(split) => format!("is part {} of {}", split.no + 1, split.count),
    };
    format!(
        "{is}, but part {} of {count} is expected here: get that part again, under its published name",
        no + 1
    )
}
