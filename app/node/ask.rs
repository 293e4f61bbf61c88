//! Prompts and jobs: what a node is asked, what it asks of its engine, and the replies to both.

use core::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::id::{BlockKey, TokenId};
use crate::kv::Sequence;
use crate::limits::MAX_QUEUED_PROMPTS;
use crate::sampler::Sampling;

use super::figures::Figures;
use super::progress::Progress;

/// Names one prompt for the asker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AskId(pub u64);

/// Watches an answer's tokens and decides where it ends. The decision must depend only on the
/// tokens shown.
pub trait Watch: fmt::Debug {
    /// Whether the answer ends with this token, which is part of the answer.
    fn ends_with(&mut self, token: TokenId) -> bool;
}

/// A prompt to be answered.
#[derive(Debug)]
pub struct Ask {
    /// Chosen by the asker.
    pub id: AskId,
    /// The prompt, beginning-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Maximum number of tokens in the answer.
    pub max_tokens: usize,
    /// How the answer's tokens are chosen.
    pub sampling: Sampling,
    /// Computes in separate memory: uses no cached state, stores nothing and announces nothing. For
    /// measurements; the answer never ends before `max_tokens`.
    pub private: bool,
    /// Can end the answer earlier.
    pub watch: Option<Box<dyn Watch>>,
}

/// Work for the engine: run `tokens` at positions from `first` on, on the pages of `sequence`.
#[derive(Clone, Debug)]
pub struct Job {
    /// Chosen by the node.
    pub id: u64,
    /// At least one.
    pub tokens: Vec<TokenId>,
    /// Position of the first token.
    pub first: usize,
    /// Where the tokens' KV goes, and where the KV of all tokens before them is.
    pub sequence: Arc<Sequence>,
    /// If given, the tokens to choose.
    pub judge: Option<Judge>,
    /// The block being recomputed, to compare it with a peer's bytes. Nobody waits for such a job.
    pub audits: Option<BlockKey>,
}

/// Tells a job to choose tokens: the one that follows each of its last `rows` tokens.
#[derive(Clone, Debug)]
pub struct Judge {
    /// How to choose.
    pub sampling: Sampling,
    /// At least one, at most the number of the job's tokens.
    pub rows: usize,
    /// The latest tokens up to and including the first row's, as far back as the sampling looks.
    pub(crate) recent: Vec<TokenId>,
}

/// A finished job.
#[derive(Clone, Debug)]
pub struct JobDone {
    /// The job's id.
    pub id: u64,
    /// The chosen tokens, one per judged row.
    pub result: Result<Vec<TokenId>, JobFault>,
    /// How long the job took.
    pub micros: u64,
    /// How much of that went into choosing the tokens.
    pub sampling_micros: u64,
}

/// Why a job has no result. Whatever it wrote is unusable.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum JobFault {
    /// It was cancelled, as requested.
    #[error("the job was abandoned")]
    Abandoned,
    /// The model failed, with the reason.
    #[error("{0}")]
    Failed(String),
}

/// What the node sends back to the asker.
#[expect(
    clippy::large_enum_variant,
    reason = "it holds an answer's figures; the queue of replies is short and bounded"
)]
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// How far the prompt has come while its first token is still due.
    Progress(Progress),
    /// The next token of the answer.
    Token(TokenId),
    /// The answer is complete.
    Done(Figures),
    /// The prompt cannot be answered, and why.
    Failed(Refusal),
}

/// Why a prompt has no answer, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// No tokens.
    #[error("the prompt is empty: type some text")]
    Empty,
    /// More tokens than the context takes.
    #[error(
        "the prompt has {tokens} tokens, the context takes {room}: shorten it or raise --context, as far as the model goes"
    )]
    TooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens that fit.
        room: usize,
    },
    /// More blocks than the slab has.
    #[error("the prompt needs {needed} blocks, the slab has {slots}: shorten it or raise --slab")]
    SlabTooSmall {
        /// Blocks needed in one plane.
        needed: usize,
        /// Slots in that plane.
        slots: usize,
    },
    /// Too many prompts wait.
    #[error("{MAX_QUEUED_PROMPTS} prompts wait already: ask again when one is answered")]
    QueueFull,
    /// Every slot of the slab is in use.
    #[error("the slab is full of blocks in use: ask again in a moment, or raise --slab")]
    SlabBusy,
    /// The model failed.
    #[error("{0}")]
    Engine(String),
}
