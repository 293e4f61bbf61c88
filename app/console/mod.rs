//! The commands that a node understands, and the input and output of the terminal for them. Pure
//! logic: it never touches a terminal.
//!
//! One table (`table`) drives the parser, the help, `docs/use/console.md` and the manual page, so
//! that none can miss a command. [`Screen`] is a terminal with line editing; [`Log`] holds the
//! node's messages; [`Settings`] holds a console's settings for answers.

mod block;
mod cable;
mod command;
mod doctor;
mod editor;
mod history;
mod keys;
mod log;
mod manual;
mod net;
mod screen;
mod settings;
mod table;
mod words;

pub(crate) use block::{Begun, Block, BlockError, prompt};
pub(crate) use cable::Dropped;
pub use command::parse;
pub(crate) use command::{Command, Line, LogRequest};
#[cfg(test)]
pub(crate) use doctor::Verdict;
pub(crate) use doctor::{Check, Report};
pub(crate) use log::{Entry, Level, Log, LogOutcome};
pub(crate) use manual::man_page;
pub use manual::reference;
pub(crate) use net::{Board, NetFacts, NetPeer, Wifi, deaf_radio, no_lan};
pub use screen::{Screen, Typed, harmless};
pub(crate) use settings::{Settings, stops, system};
pub use table::words;
pub(crate) use table::{Permissions, help, help_for};
pub use words::word;
