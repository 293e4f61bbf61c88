//! Answers as whoever asks sees them: one way in for consoles, pipes and programs. No terminal, socket, file or clock here.
//!
//! A [`Desk`] takes the prompts of one asker and gives them to the node one after another, in tokens: as they stand, or in the [`Form`]
//! of the model's chats, which a [`Pattern`] was read from. A [`Conversation`] keeps the tokens of its turns. An [`Answer`] gathers the
//! tokens that the node generates and gives their text as it comes. Where texts end an answer, a [`StopWatch`] reads it along in the
//! node, so that no token is computed behind them.

mod answer;
mod conversation;
mod desk;
mod form;
mod recall;
mod stop;
mod template;
mod watch;

pub use answer::Answer;
pub use conversation::{Conversation, Room};
pub(crate) use desk::{Desk, How, Ready, Speech, Wanted};
pub use form::Form;
pub(crate) use form::FormError;
pub(crate) use recall::Recall;
pub(crate) use stop::StopMatcher;
pub use template::{Pattern, TemplateFault};
pub use watch::StopWatch;
