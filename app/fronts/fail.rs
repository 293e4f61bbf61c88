//! Why a node ended or never started.

use std::io;

use thiserror::Error;

use crate::drive::NetError;
use crate::node::NodeError;
use crate::start::{Changed, KeyError, NoModel, SetupError};

use super::http::HttpError;
use super::power::PowerError;
use super::socket::SocketError;
use super::terminal::OutputError;

/// Why a node ended or never started. Each message says what to do.
#[derive(Debug, Error)]
pub(crate) enum Fail {
    #[error(transparent)]
    NoModel(#[from] NoModel),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Power(#[from] PowerError),
    #[error("the console or engine cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error(
        "the model file is not what it was when its content was last hashed, and nothing more is shared: start again"
    )]
    ModelChanged,
    #[error(
        "the saved halves of the model's output rows were damaged, and are deleted: start again, and they are made anew"
    )]
    OutputRowsDamaged,
    #[error(
        "the engine has failed and nothing more can be answered: start again, and report the lines before this one"
    )]
    Engine,
}

impl From<Changed> for Fail {
    fn from(changed: Changed) -> Fail {
        match changed {
            Changed::Model => Fail::ModelChanged,
            Changed::OutputRows => Fail::OutputRowsDamaged,
        }
    }
}
