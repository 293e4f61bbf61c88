//! golden.safetensors: token sequences with the logits and continuations that Hugging Face
//! transformers computed for them. For every number i: `ids_i` (n), `logits_i` (n × vocab), and
//! optionally `greedy_i` (greedy tokens after `ids_i`) and `logits_q8w_i` (like `logits_i`, with
//! every matrix rounded to Q8_0).

use std::path::Path;

use crate::id::TokenId;
use crate::model::fault::{Fault, FileError};
use crate::model::safetensors::{Tensor, open};

/// One sequence and its golden results.
#[derive(Clone, Debug)]
pub(super) struct Golden {
    pub(super) ids: Vec<TokenId>,
    /// n × vocab.
    pub(super) logits: Vec<f32>,
    /// n × vocab.
    pub(super) logits_q8w: Option<Vec<f32>>,
    pub(super) greedy: Vec<TokenId>,
}

/// Every sequence in the file, for a model of `vocab` tokens.
pub(super) fn read(path: &Path, vocab: usize) -> Result<Vec<Golden>, FileError> {
    let tensors = open(path)?;
    let damaged = |what: String| FileError::new(path, Fault::Damaged(what));
    let ids = |name: &str, tensor: &Tensor| -> Result<Vec<TokenId>, FileError> {
        let numbers = tensor.integers().filter(|_| tensor.dims.len() == 1);
        let numbers =
            numbers.ok_or_else(|| damaged(format!("{name} is not a list of I32 or I64")))?;
        let id = |number: i64| {
            u32::try_from(number).ok().filter(|id| (*id as usize) < vocab).map(TokenId)
        };
        let ids = numbers.into_iter().map(id).collect::<Option<Vec<_>>>();
        ids.ok_or_else(|| damaged(format!("{name} has tokens beyond the vocabulary of {vocab}")))
    };
    let rows = |name: &str, tensor: &Tensor, count: usize| -> Result<Vec<f32>, FileError> {
        if tensor.dims != [count, vocab] || tensor.foreign_type().is_some() {
            return Err(damaged(format!("{name} is not {count} x {vocab} floats")));
        }
        let mut values = Vec::new();
        tensor.floats(0..count * vocab, &mut values);
        Ok(values)
    };
    let mut numbers: Vec<usize> =
        tensors.keys().filter_map(|name| name.strip_prefix("ids_")?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut all = Vec::with_capacity(numbers.len());
    for i in numbers {
        let Some(tensor) = tensors.get(&format!("ids_{i}")) else { continue };
        let ids_i = ids(&format!("ids_{i}"), tensor)?;
        if ids_i.is_empty() {
            return Err(damaged(format!("ids_{i} is empty")));
        }
        let name = format!("logits_{i}");
        let logits = tensors.get(&name).ok_or_else(|| damaged(format!("{name} is missing")))?;
        let logits = rows(&name, logits, ids_i.len())?;
        let name = format!("logits_q8w_{i}");
        let logits_q8w =
            tensors.get(&name).map(|tensor| rows(&name, tensor, ids_i.len())).transpose()?;
        let name = format!("greedy_{i}");
        let greedy =
            tensors.get(&name).map(|tensor| ids(&name, tensor)).transpose()?.unwrap_or_default();
        all.push(Golden { ids: ids_i, logits, logits_q8w, greedy });
    }
    if all.is_empty() { Err(damaged("it has no ids_0".into())) } else { Ok(all) }
}
