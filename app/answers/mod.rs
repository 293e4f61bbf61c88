//! Answers as whoever asks sees them: one way in for consoles, pipes and programs. No terminal, socket, file or clock here.
//!
//! An [`Answer`] gathers the tokens that the node generates and gives their text as it comes. Where texts end an answer, a [`StopWatch`]
//! reads it along in the node, so that no token is computed behind them.

mod answer;
mod stop;
mod watch;

pub use answer::Answer;
pub use stop::StopMatcher;
pub use watch::StopWatch;
