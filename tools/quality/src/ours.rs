//! potluck's side: a model in some arithmetic, on some cores.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use potluck::id::TokenId;
use potluck::kernels::Team;
use potluck::kv::Sequence;
use potluck::model::{Logits, Model, Opened, Precision, open};
use potluck::tokenizer::Tokenizer;

use crate::Failure;

/// The model in `file` in that arithmetic, computing on `threads` cores.
pub fn model(file: &Path, precision: Precision, threads: usize) -> Result<Model, Failure> {
    let Opened { config, weights, .. } = open(file)?;
    let mut model = Model::new(config, weights, precision)?;
    let (team, workers) = Team::new(threads.max(1));
    for worker in workers {
        thread::spawn(move || worker.serve());
    }
    model.set_team(team);
    Ok(model)
}

/// The vocabulary in `file`.
pub fn tokenizer(file: &Path) -> Result<Tokenizer, Failure> {
    let vocabulary = open(file)?.gguf.vocabulary()?.ok_or_else(|| format!("{}: no vocabulary inside", file.display()))?;
    Ok(Tokenizer::from_vocabulary(&vocabulary)?)
}

/// A model with the pages of one text, parts of which may be replaced.
pub struct Reader {
    model: Model,
    pages: Arc<Sequence>,
}

impl Reader {
    pub fn new(model: Model, context: usize) -> Reader {
        let pages = Arc::new(Sequence::private(model.kv_shape(), context));
        Reader { model, pages }
    }

    /// The logits after the last of `tokens`, which are at the positions `first ..`.
    pub fn last(&mut self, tokens: &[TokenId], first: usize) -> Result<Vec<f32>, Failure> {
        Ok(self.model.forward(tokens, first, &self.pages, Logits::Last(1))?)
    }

    /// The logits after each of `tokens`, which are at the positions `first ..`: tokens ×
    /// vocabulary.
    pub fn all(&mut self, tokens: &[TokenId], first: usize) -> Result<Vec<f32>, Failure> {
        Ok(self.model.forward(tokens, first, &self.pages, Logits::All)?)
    }
}
