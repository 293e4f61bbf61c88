//! Why a command ended without doing what was asked.

use thiserror::Error;

use crate::answers::FormError;
use crate::fronts::{self, AttachError, OutputError};
use crate::sampler::SamplingError;
use crate::start::{KeyError, NoModel, SetupError, Unread};
use crate::tokenizer::TokenizerError;

use super::bench::BenchError;
use super::config::ConfigError;
use super::eval::EvalError;
use super::file::FileError;
use super::key::DrawError;
use super::manual::ManualError;
use super::pace::PaceFileError;
use super::prompt::PromptError;
use super::reset::ResetError;
use super::swarm::SwarmError;
use super::tokenize::TokenizeError;

/// Why a command ended without doing what was asked.
#[derive(Debug, Error)]
pub(super) enum Fail {
    /// The command has already printed the reason.
    #[error("")]
    Said,
    #[error(transparent)]
    Node(#[from] fronts::Fail),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    NoModel(#[from] NoModel),
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Pace(#[from] PaceFileError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Reset(#[from] ResetError),
    #[error(transparent)]
    Manual(#[from] ManualError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl Fail {
    /// Whether there is nothing to print: the command has printed the reason, or the reader of the
    /// output has gone.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Fail::Said => true,
            Fail::Output(error)
            | Fail::Node(fronts::Fail::Output(error))
            | Fail::Bench(BenchError::Output(error))
            | Fail::File(FileError::Output(error))
            | Fail::Tokenize(TokenizeError::Output(error))
            | Fail::Swarm(SwarmError::Output(error))
            | Fail::Manual(ManualError::Output(error))
            | Fail::Attach(AttachError::Output(error))
            | Fail::Draw(DrawError::Output(error))
            | Fail::Config(ConfigError::Output(error)) => error.is_unread(),
            _ => false,
        }
    }
}
