//! Prompts and jobs: what a node is asked, what it asks of its engine, and what they answer.

use core::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::id::{BlockKey, TokenId};
use crate::kv::Sequence;
use crate::limits::MAX_QUEUED_PROMPTS;
use crate::sampler::Sampling;

use super::figures::Figures;
use super::progress::Progress;

/// Names one prompt for whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AskId(pub u64);

/// Reads an answer along and says where it ends. What it says depends on nothing but the tokens that it has been shown.
pub trait Watch: fmt::Debug {
    /// Whether the answer is over with this token, which is part of it.
    fn ends_with(&mut self, token: TokenId) -> bool;
}

/// A prompt to be answered.
#[derive(Debug)]
pub struct Ask {
    /// Named by the asker.
    pub id: AskId,
    /// The prompt, beginning-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Tokens of the answer, at most.
    pub max_tokens: usize,
    /// How the answer's tokens are chosen.
    pub sampling: Sampling,
    /// Computed in memory of its own: nothing that is known is used, nothing is kept or told. For measuring; its answer does not end
    /// before `max_tokens`.
    pub private: bool,
    /// Ends the answer before that, where there is one.
    pub watch: Option<Box<dyn Watch>>,
}

/// Work for the engine: run `tokens` at positions from `first` on, on the pages of `sequence`.
#[derive(Clone, Debug)]
pub struct Job {
    /// Named by the node.
    pub id: u64,
    /// At least one.
    pub tokens: Vec<TokenId>,
    /// Position of the first of them.
    pub first: usize,
    /// Where their KV goes, and where the KV of all before them is.
    pub sequence: Arc<Sequence>,
    /// When given, tokens are to be chosen.
    pub judge: Option<Judge>,
    /// The block that is computed again, to be compared with what a peer made of it. Nobody waits for such a job.
    pub audits: Option<BlockKey>,
}

/// Which tokens a job is to choose: the one that follows each of its last `rows` tokens.
#[derive(Clone, Debug)]
pub struct Judge {
    /// How.
    pub sampling: Sampling,
    /// At least one, at most the tokens of the job.
    pub rows: usize,
    /// The latest tokens up to the first of these rows, that row's token included, as far back as the sampling looks.
    pub(crate) recent: Vec<TokenId>,
}

/// A job that has ended.
#[derive(Clone, Debug)]
pub struct JobDone {
    /// The job's name.
    pub id: u64,
    /// The chosen tokens, one for each row that was to be judged.
    pub result: Result<Vec<TokenId>, JobFault>,
    /// How long it took.
    pub micros: u64,
    /// Of that, how long choosing the tokens took.
    pub sampling_micros: u64,
}

/// Why a job has no result. What it was to write is of no use.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum JobFault {
    /// It was given up, as asked.
    #[error("the job was given up")]
    Abandoned,
    /// The model could not do it, and why.
    #[error("{0}")]
    Failed(String),
}

/// What comes back to whoever asked.
#[expect(clippy::large_enum_variant, reason = "an answer's figures stand in it; few wait at a time, and their number is bounded")]
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The first token is not here, but so much is.
    Progress(Progress),
    /// The next token of the answer.
    Token(TokenId),
    /// The answer is complete.
    Done(Figures),
    /// There is no answer, and why.
    Failed(Refusal),
}

/// Why a prompt has no answer, with what to do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// No tokens.
    #[error("the prompt is empty: type some text")]
    Empty,
    /// More tokens than the context takes.
    #[error("the prompt has {tokens} tokens, the context takes {room}: shorten it or raise --context, as far as the model goes")]
    TooLong {
        /// Of the prompt.
        tokens: usize,
        /// That fit.
        room: usize,
    },
    /// More blocks than the slab has.
    #[error("the prompt needs {needed} blocks, the slab has {slots}: shorten it or raise --slab")]
    SlabTooSmall {
        /// Of one plane.
        needed: usize,
        /// Of that plane.
        slots: usize,
    },
    /// Too many prompts wait.
    #[error("{MAX_QUEUED_PROMPTS} prompts wait already: ask again when one is answered")]
    QueueFull,
    /// All of the slab is in use by others.
    #[error("the slab is full of blocks in use: ask again in a moment, or raise --slab")]
    SlabBusy,
    /// The model failed.
    #[error("{0}")]
    Engine(String),
}
