//! Converts a GGUF, in one file or in parts, to another GGUF: matrices in the requested type,
//! everything else unchanged.
//!
//! Tensors that already have the requested type are copied byte for byte. Others pass through f32:
//! exact if they were floats; a second rounding if they were quantised, which is measured and
//! reported.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{CHUNK_VALUES, ConvertError, ConvertType, Planned, Report, plan};
use crate::kernels::{Format, dequantize_row};
use crate::model::Progress;
use crate::model::draft::Draft;
use crate::model::fault::{Fault, FileError};
use crate::model::gguf::{Entry, Gguf, Writer, kept_entries};
use crate::model::load::{named, open};
use crate::model::quantize::{Unstorable, encode};
use crate::model::weight::Weight;

/// Converts the GGUF at `path` to the GGUF `out`, with matrices stored as `ty`. `progress` counts
/// bytes of tensors.
pub(super) fn convert(
    path: &Path,
    out: &Path,
    ty: ConvertType,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    let opened = open(path)?;
    refuse_itself(&opened.gguf, out)?;
    let (planned, mut notes) = plan(&opened.config, opened.weights.output.is_none(), ty);
    let weights: BTreeMap<String, &Weight> = named(&opened.weights).into_iter().collect();
    let vocabulary = opened.gguf.vocabulary_size()?;

    let mut entries = kept_entries(&opened.gguf);
    entries.push(("general.file_type".to_owned(), Entry::U32(ty.file_type())));
    entries.push(("general.quantization_version".to_owned(), Entry::U32(2)));
    let plans: Vec<_> = planned.iter().map(|planned| planned.plan.clone()).collect();
    let total = plans.iter().map(|plan| plan.bytes as u64).sum();
    let broken = |error: io::Error| FileError::new(out, Fault::Write(error));
    let mut writer = Writer::new(Draft::create(out)?, &entries, &plans).map_err(broken)?;
    let (mut done, mut second) = (0, SecondRounding::default());
    for planned in &planned {
        let weight = weights[&planned.plan.name];
        let mut chunks = Chunks::new(weight, planned);
        while let Some(bytes) = chunks.next(&mut second).map_err(|source| ConvertError::Value {
            path: opened.gguf.path_of(&planned.plan.name).display().to_string(),
            tensor: planned.plan.name.clone(),
            source,
        })? {
            writer.write(bytes).map_err(broken)?;
            done += bytes.len() as u64;
            progress(Progress { done, total, item: &planned.plan.name });
        }
    }
    let bytes = writer.finish().keep()?;
    notes.extend(second.note(ty, &weights, &planned));
    let left_out = opened.gguf.tensors().len() - planned.len();
    if left_out > 0 {
        notes.push(format!("{left_out} tensors of the vision tower were omitted"));
    }
    if vocabulary.is_none() {
        notes
            .push(format!("{} has no vocabulary: the file is written without one", path.display()));
    }
    Ok(Report { bytes, tensors: planned.len(), vocabulary, notes })
}

/// Refuses to overwrite the source: if the conversion turned out to be a mistake, the original
/// would be lost.
fn refuse_itself(gguf: &Gguf, out: &Path) -> Result<(), FileError> {
    let Ok(target) = out.canonicalize() else { return Ok(()) };
    let is_itself = gguf
        .files()
        .iter()
        .any(|file| file.path.canonicalize().is_ok_and(|source| source == target));
    let message = "is the source file; choose another output file";
    if is_itself { Err(FileError::new(out, Fault::Unsupported(message.into()))) } else { Ok(()) }
}

/// A tensor's bytes in their new format, chunk by chunk.
struct Chunks<'a> {
    weight: &'a Weight,
    planned: &'a Planned,
    /// The first row of the next chunk.
    row: usize,
    values: Vec<f32>,
    again: Vec<f32>,
    bytes: Vec<u8>,
}

impl<'a> Chunks<'a> {
    fn new(weight: &'a Weight, planned: &'a Planned) -> Chunks<'a> {
        Chunks { weight, planned, row: 0, values: Vec::new(), again: Vec::new(), bytes: Vec::new() }
    }

    /// The next chunk of whole rows; `None` at the end.
    fn next(&mut self, second: &mut SecondRounding) -> Result<Option<&[u8]>, Unstorable> {
        let Planned { rows, cols, ref plan, .. } = *self.planned;
        let first = self.row;
        let count = (CHUNK_VALUES / cols).max(1).min(rows - first);
        if count == 0 {
            return Ok(None);
        }
        self.row += count;
        let (from, to) = (self.weight.format(), plan.format);
        let stored =
            &self.weight.bytes()[first * from.row_bytes(cols)..][..count * from.row_bytes(cols)];
        if from == to {
            return Ok(Some(stored));
        }
        let read = |bytes: &[u8], format: Format, values: &mut Vec<f32>| {
            values.resize(count * cols, 0.0);
            for (row, values) in
                bytes.chunks_exact(format.row_bytes(cols)).zip(values.chunks_exact_mut(cols))
            {
                dequantize_row(format, row, values);
            }
        };
        read(stored, from, &mut self.values);
        self.bytes.clear();
        encode(to, &self.values, &mut self.bytes).map_err(|error| error.after(first * cols))?;
        if from.is_quantized() && to.is_quantized() {
            read(&self.bytes, to, &mut self.again);
            second.add(&self.values, &self.again);
        }
        Ok(Some(&self.bytes))
    }
}

/// The error added by quantising values that had already been quantised.
#[derive(Default)]
struct SecondRounding {
    errors: f64,
    values: f64,
}

impl SecondRounding {
    fn add(&mut self, before: &[f32], after: &[f32]) {
        for (&before, &after) in before.iter().zip(after) {
            let (before, error) = (f64::from(before), f64::from(after) - f64::from(before));
            self.errors += error * error;
            self.values += before * before;
        }
    }

    /// A note for the user if already quantised tensors were converted; `None` otherwise.
    fn note(
        &self,
        ty: ConvertType,
        weights: &BTreeMap<String, &Weight>,
        planned: &[Planned],
    ) -> Option<String> {
        let is_again = |planned: &&Planned| {
            let from = weights[&planned.plan.name].format();
            from.is_quantized() && from != planned.plan.format
        };
        let again: Vec<&Planned> = planned.iter().filter(is_again).collect();
        let mut from: Vec<&str> =
            again.iter().map(|planned| weights[&planned.plan.name].format().name()).collect();
        from.sort_unstable();
        from.dedup();
        let (count, from) = (again.len(), from.join(", "));
        if count == 0 {
            return None;
        }
        if !again.iter().any(|planned| planned.plan.format.is_quantized()) {
            return Some(format!(
                "{count} tensors were quantised ({from}): as {ty} they are larger but no better"
            ));
        }
        let lost = 100.0 * (self.errors / self.values.max(f64::MIN_POSITIVE)).sqrt();
        Some(format!(
            "{count} tensors were quantised ({from}) and are rounded a second time, which loses another {lost:.2} % \
             (root mean square): convert the original, a Hugging Face directory or a file in F16 or BF16, if you can get it"
        ))
    }
}
