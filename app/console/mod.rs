//! What a person can say to a node, and how a terminal is read and written for it. No terminal is touched here.
//!
//! One table (`table`) makes the parser, the help, `docs/console.md` and the manual page, so that none can miss a command.
//! [`Screen`] is a terminal with line editing; [`Log`] is what the node had to say; [`Settings`] is how a console wants answers.

mod command;
mod editor;
mod keys;
mod log;
mod manual;
mod screen;
mod settings;
mod table;
mod words;

pub use command::{Command, ConsoleError, Line, LogRequest, parse};
pub use log::{Entry, Level, Log, Told};
pub use manual::{man_page, reference};
pub use screen::{Screen, Typed, harmless};
pub use settings::{SETTINGS, Settings, stops, system};
pub use table::{help, help_for, words};
pub use words::word;
