//! What a start determines once, before anything runs: the effective settings, the model file and
//! its tokenizer, the memory and cores that a node may use, and what earlier starts saved to make
//! this one faster.
//!
//! Nothing here waits for a socket or a person. What cannot work is an error that says what to do.

mod apply;
mod budget;
mod cores;
mod effective;
mod environment;
mod halves;
mod kept;
mod key;
mod options;
mod random;
mod setup;
mod speed;
mod template;

pub(crate) use apply::{alone, answers, precision, size, within_memory};
pub(crate) use cores::{Cores, keep};
pub(crate) use effective::{EffectiveSettings, Sharing};
pub(crate) use environment::without_settings;
pub(crate) use halves::OutputRows;
pub(crate) use kept::Kept;
pub(crate) use key::{KeyError, keyring};
pub(crate) use options::{
    ASK, BENCH, CONSOLE, DOCTOR, NoModel, Options, RESET, RUN, TOKENIZE, Unread, in_file, model,
    read,
};
pub(crate) use random::{draw_key, entropy, random};
pub(crate) use setup::{
    Changed, Loaded, NodeSettings, SetupError, UnreadModel, load, tokenizer_of,
};
pub(crate) use template::{READ_TEMPLATE, form};
