//! The HTTP API that clients of language models speak, without sockets: what a request asks for, what it is answered with, who may
//! ask, and what is measured.
//!
//! The forms are those of OpenAI's API, as its own clients and others write and read them ([docs/use/http.md](../../docs/use/http.md)): unknown
//! fields are ignored, and what cannot be done here is refused by name rather than left out of the answer.

mod fault;
mod gate;
mod hour;
mod metrics;
mod reply;
mod request;

pub use fault::ApiError;
pub(crate) use fault::Kind;
pub use gate::Gate;
pub(crate) use gate::Verdict;
pub(crate) use hour::Minute;
pub(crate) use metrics::{Machine, Meters, Sample};
pub(crate) use reply::{Answered, Shape, Voice, comment, failed, model_list};
pub(crate) use request::{Asked, Wish};
pub use request::{Prompt, chat, completion, text_to_tokenize};

/// The page at `/`.
pub(crate) const PAGE: &str = include_str!("page.html");
/// Its style.
pub(crate) const STYLE: &str = include_str!("page.css");
/// Its script.
pub(crate) const SCRIPT: &str = include_str!("page.js");
