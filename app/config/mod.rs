//! `potluck.toml`: what a person may set about a board, from a file that any computer can edit.
//!
//! Promises: one table ([`TABLE`]) says every key once; the parser, the command line's options, the commented default file and
//! `docs/config.md` are made from it. A value is checked as it is read and has a type that says so. A broken file never stops a
//! board: [`Config::read`] tells all that is wrong, each with line and column, uses the defaults for what is broken, and honours
//! the rest. Where what is broken may have been the swarm's key or the radio's password, it says that too ([`Problem::hits`]), for a
//! default in their place would open a door. Secrets are shown by [`Config::wpa_supplicant`] alone.
//!
//! A file's way: bytes, lines of UTF-8 (`lines`), assignments by the crate `toml` (`document`), then checked values (here).

mod answers;
mod console;
mod cores;
mod document;
mod fault;
mod hits;
mod keys;
mod lines;
mod near;
mod print;
mod swarm;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod wifi;

use std::path::Path;

pub use answers::{Penalty, Stops, System, Temperature, TopP};
pub use console::{Device, LogLevel, Speed};
pub use cores::{Cpus, Instructions};
pub use fault::{Fault, Problem};
pub use hits::Hits;
pub use keys::{Answers, Console, Log, Memory, Model, Network, Node, Swarm, Wifi};
pub use near::nearest;
pub use print::{default_file, reference};
pub use swarm::{OldKeys, Share, SwarmKey};
pub use table::{Key, TABLE, key};
pub use value::{Count, Group, HostName, Id, Kind, Lock, Peer, Port, Precision, Secret, Setting, Size};
pub use wifi::{Country, Passphrase, RadioOff, Ssid};

use document::{Assignment, Given};
use table::KEYS;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// This line of the file under it, counted from 1: the board's own.
    Base(usize),
    /// This line of the file, counted from 1.
    Line(usize),
    /// An option of the command line.
    Option,
}

/// Every setting, checked, and where it comes from. The default is what a file without any key gives.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[swarm]`
    pub swarm: Swarm,
    /// `[wifi]`
    pub wifi: Wifi,
    /// `[network]`
    pub network: Network,
    /// `[model]`
    pub model: Model,
    /// `[memory]`
    pub memory: Memory,
    /// `[answers]`
    pub answers: Answers,
    /// `[console]`
    pub console: Console,
    /// `[log]`
    pub log: Log,
    /// One for each key of the table.
    origins: [Origin; KEYS],
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node: Node::default(),
            swarm: Swarm::default(),
            wifi: Wifi::default(),
            network: Network::default(),
            model: Model::default(),
            memory: Memory::default(),
            answers: Answers::default(),
            console: Console::default(),
            log: Log::default(),
            origins: [Origin::Default; KEYS],
        }
    }
}

impl Config {
    /// What the bytes of a file set, and all that is wrong with them in the order of the file. Relative paths are taken from
    /// `folder`, where the file lies. Never fails: what is broken has its default.
    pub fn read(bytes: &[u8], folder: &Path) -> (Config, Vec<Problem>) {
        Config::default().read_over(bytes, folder)
    }

    /// The same, but what the file does not set, or sets wrong, is as it is here.
    pub fn read_over(self, bytes: &[u8], folder: &Path) -> (Config, Vec<Problem>) {
        let mut config = self;
        for origin in &mut config.origins {
            if let Origin::Line(line) = *origin {
                *origin = Origin::Base(line);
            }
        }
        let mut problems = Vec::new();
        let lines = lines::of(bytes, &mut problems);
        for assignment in document::parse(lines, &mut problems) {
            if let Err((at, fault)) = config.assign(&assignment) {
                problems.push(Problem::at(at, fault).hitting(assignment.hits()));
            }
            problems.extend(assignment.swallowed());
        }
        let read_here = |section, name| matches!(config.origin(key(section, name)), Origin::Line(_));
        if let (Origin::Line(_), Origin::Line(line)) =
            (config.origin(key("swarm", "key")), config.origin(key("swarm", "key_file")))
        {
            problems.push(Problem::at(lines::Place { line, column: 1 }, Fault::TwoKeys).hitting(Hits::of("swarm")));
        }
        let here = [
            read_here("node", "state"),
            read_here("swarm", "key_file"),
            read_here("model", "file"),
            read_here("model", "tokenizer"),
        ];
        let paths = [&mut config.node.state, &mut config.swarm.key_file, &mut config.model.file, &mut config.model.tokenizer];
        for path in paths.into_iter().zip(here).filter_map(|(path, here)| path.as_mut().filter(|_| here)) {
            *path = folder.join(&*path);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (config, problems)
    }

    /// Sets a key of the table from the command line: `given` has the texts of all its options.
    ///
    /// # Errors
    /// The fault of the first text that cannot be meant; nothing is changed then.
    pub fn set_option(&mut self, key: &'static Key, given: &[String]) -> Result<(), Fault> {
        let texts: Vec<&str> = given.iter().map(String::as_str).collect();
        let wrong = |at: usize| {
            let text = texts.get(at).or(texts.last()).copied().unwrap_or_default();
            Fault::option(key, text)
        };
        (key.set)(self, &texts).map_err(wrong)?;
        self.mark(key, Origin::Option);
        Ok(())
    }

    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &Key) -> Origin {
        TABLE.iter().position(|known| known.same(key)).map_or(Origin::Default, |at| self.origins[at])
    }

    fn mark(&mut self, key: &Key, origin: Origin) {
        if let Some(at) = TABLE.iter().position(|known| known.same(key)) {
            self.origins[at] = origin;
        }
    }

    fn assign(&mut self, assignment: &Assignment) -> Result<(), (lines::Place, Fault)> {
        let (at, key) = (assignment.at, assignment.known().map_err(|fault| (assignment.at, fault))?);
        let wrong = |part: usize| (assignment.place_of(part), Fault::value(key, assignment.source_of(part)));
        let texts: Vec<&str> = match (&assignment.given, key.kind) {
            (Given::Text(text), _) | (Given::Number(text), Kind::Number) => vec![text],
            (Given::Switch(text), Kind::Switch) => vec![text],
            (Given::List(parts), Kind::List) => parts.iter().map(|part| part.text.as_str()).collect(),
            _ => return Err(wrong(usize::MAX)),
        };
        (key.set)(self, &texts).map_err(wrong)?;
        self.mark(key, Origin::Line(at.line));
        Ok(())
    }
}
