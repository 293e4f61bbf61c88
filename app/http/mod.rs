//! The HTTP API for clients of language models, without sockets: requests, replies, access control
//! and metrics.
//!
//! The formats are those of OpenAI's API, as its own clients and others write and read them
//! ([docs/use/http.md](../../docs/use/http.md)). Unknown fields are ignored; known but unsupported
//! ones are refused by name rather than silently ignored.

mod fault;
mod gate;
mod history;
mod metrics;
mod reply;
mod request;

pub use fault::ApiError;
pub(crate) use fault::Kind;
pub use gate::Gate;
pub(crate) use gate::Verdict;
pub(crate) use history::Minute;
pub(crate) use metrics::{Machine, Meters, Sample};
pub(crate) use reply::{Answered, ReplyFormat, Shape, comment, failed, model_list};
pub(crate) use request::{Asked, RequestSettings};
pub use request::{Prompt, chat, completion, text_to_tokenize};

/// The page at `/`.
pub(crate) const PAGE: &str = include_str!("page.html");
/// Its style.
pub(crate) const STYLE: &str = include_str!("page.css");
/// Its script.
pub(crate) const SCRIPT: &str = include_str!("page.js");
