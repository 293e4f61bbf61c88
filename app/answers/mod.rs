//! Prompts and answers from the client's point of view: one path for consoles, pipes and programs.
//! Pure logic: no terminal, socket, file or clock.
//!
//! A [`PromptQueue`] queues the prompts of one client and hands them to the node one at a time, as
//! tokens: as they stand, or in the model's chat template ([`Form`], with the [`Pattern`] read from
//! the file). A [`Conversation`] keeps the tokens of its turns. An [`Answer`] collects the tokens
//! that the node generates and returns their text as it streams. If there are stop strings, a
//! [`StopWatch`] follows the answer in the node, so that no token is computed after them.

mod answer;
mod conversation;
mod form;
mod queue;
mod recall;
mod stop;
mod template;
mod watch;

pub use answer::Answer;
pub use conversation::{ContextLimits, Conversation};
pub use form::Form;
pub(crate) use form::FormError;
pub(crate) use queue::{AnswerSettings, PromptEncoding, PromptQueue, Ready, Wanted};
pub(crate) use recall::Recall;
pub(crate) use stop::StopMatcher;
pub use template::{Pattern, TemplateFault};
pub use watch::StopWatch;
