//! `potluck.toml`: the settings of a board, in a file that any computer can edit.
//!
//! Promises: one table ([`TABLE`]) defines every key once; the parser, the command line's options,
//! the commented default file and `docs/use/config.md` are generated from it. A value is checked
//! when it is read, and its type proves that. A broken file never stops a board: [`Config::read`]
//! reports every problem with line and column, uses defaults for the broken settings, and honours
//! the rest. If a broken place may have been meant as the swarm's key or the radio's password, it
//! reports that too ([`Problem::hits`]), because a default instead of these would let strangers in.
//! Only [`Config::wpa_supplicant`] shows secrets.
//!
//! The steps: bytes, lines of UTF-8 (`lines`), assignments parsed by the crate `toml` (`document`),
//! then checked values (here).

mod answers;
mod console;
mod cores;
mod document;
mod fault;
mod hits;
mod http;
mod keys;
mod lines;
mod near;
mod network;
mod pace;
mod place;
mod print;
mod swarm;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod wifi;

use std::path::Path;

pub(crate) use console::{LogLevel, SocketGroup};
pub(crate) use cores::Instructions;
pub(crate) use fault::{Fault, Problem};
pub(crate) use hits::Hits;
pub(crate) use http::ApiKey;
pub(crate) use keys::{Answers, Console, Http, Log, Memory, Model, Network, Node, Swarm, Wifi};
pub(crate) use near::nearest;
pub(crate) use network::Peer;
pub(crate) use pace::PaceFault;
pub use place::Place;
pub use print::{default_file, reference};
pub use swarm::SwarmKey;
pub use table::TABLE;
pub(crate) use table::{Key, key};
#[cfg(test)]
pub(crate) use value::Setting;
pub(crate) use value::{Halves, Kind, Lock, Precision};
pub(crate) use wifi::RadioOff;

use document::{Assignment, Given};
use table::KEYS;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Origin {
    /// It is not set: the default.
    #[default]
    Default,
    /// This line, counted from 1, of the board's own file, which `potluck.toml` overrides.
    Base(usize),
    /// This line of the file, counted from 1.
    Line(usize),
    /// An environment variable.
    Variable,
    /// A command-line option.
    Option,
}

/// Every setting, checked, and its origin. The default is the same as a file without any key.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[node]`
    pub(crate) node: Node,
    /// `[swarm]`
    pub(crate) swarm: Swarm,
    /// `[wifi]`
    pub(crate) wifi: Wifi,
    /// `[network]`
    pub(crate) network: Network,
    /// `[model]`
    pub(crate) model: Model,
    /// `[memory]`
    pub(crate) memory: Memory,
    /// `[answers]`
    pub(crate) answers: Answers,
    /// `[console]`
    pub(crate) console: Console,
    /// `[http]`
    pub(crate) http: Http,
    /// `[log]`
    pub(crate) log: Log,
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
            http: Http::default(),
            log: Log::default(),
            origins: [Origin::Default; KEYS],
        }
    }
}

impl Config {
    /// Reads the settings in the bytes of a file, and lists every problem in the order of the file.
    /// Relative paths start at `folder`, the folder of the file. Never fails: broken settings get
    /// their defaults.
    pub fn read(bytes: &[u8], folder: &Path) -> (Config, Vec<Problem>) {
        Config::default().read_over(bytes, folder)
    }

    /// The same, but settings that the file lacks or has wrong keep their values in `self`.
    pub(crate) fn read_over(self, bytes: &[u8], folder: &Path) -> (Config, Vec<Problem>) {
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
        let read_here =
            |section, name| matches!(config.origin(key(section, name)), Origin::Line(_));
        if let (Origin::Line(_), Origin::Line(line)) =
            (config.origin(key("swarm", "key")), config.origin(key("swarm", "key_file")))
        {
            problems.push(
                Problem::at(lines::Place { line, column: 1 }, Fault::TwoKeys)
                    .hitting(Hits::of("swarm")),
            );
        }
        let here = [
            read_here("node", "state"),
            read_here("swarm", "key_file"),
            read_here("model", "file"),
            read_here("model", "tokenizer"),
            read_here("console", "socket"),
        ];
        let Config { node, swarm, model, console, .. } = &mut config;
        let paths = [
            &mut node.state,
            &mut swarm.key_file,
            &mut model.file,
            &mut model.tokenizer,
            &mut console.socket,
        ];
        for path in
            paths.into_iter().zip(here).filter_map(|(path, here)| path.as_mut().filter(|_| here))
        {
            *path = folder.join(&*path);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (config, problems)
    }

    /// Sets a key of the table from the command line: `given` has the texts of all its options.
    ///
    /// # Errors
    /// The fault of the first invalid text; nothing is changed then.
    pub(crate) fn set_option(&mut self, key: &'static Key, given: &[String]) -> Result<(), Fault> {
        let texts: Vec<&str> = given.iter().map(String::as_str).collect();
        let wrong = |at: usize| {
            let text = texts.get(at).or(texts.last()).copied().unwrap_or_default();
            Fault::option(key, text)
        };
        (key.set)(self, &texts).map_err(wrong)?;
        self.mark(key, Origin::Option);
        Ok(())
    }

    /// Sets a key of the table from its environment variable. A list is written as in the file;
    /// any other text is the only element.
    ///
    /// # Errors
    /// The fault of an invalid text; nothing is changed then.
    pub(crate) fn set_variable(&mut self, key: &'static Key, text: &str) -> Result<(), Fault> {
        let listed = if key.kind == Kind::List { document::list(text) } else { None };
        let texts = listed.unwrap_or_else(|| vec![text.to_string()]);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        (key.set)(self, &texts).map_err(|_| Fault::variable(key, text))?;
        self.mark(key, Origin::Variable);
        Ok(())
    }

    /// The origin of the value of `key`.
    pub(crate) fn origin(&self, key: &Key) -> Origin {
        TABLE
            .iter()
            .position(|known| known.same(key))
            .map_or(Origin::Default, |at| self.origins[at])
    }

    fn mark(&mut self, key: &Key, origin: Origin) {
        if let Some(at) = TABLE.iter().position(|known| known.same(key)) {
            self.origins[at] = origin;
        }
    }

    fn assign(&mut self, assignment: &Assignment) -> Result<(), (lines::Place, Fault)> {
        let (at, key) =
            (assignment.at, assignment.known().map_err(|fault| (assignment.at, fault))?);
        let wrong = |part: usize| {
            (assignment.place_of(part), Fault::value(key, assignment.source_of(part)))
        };
        let texts: Vec<&str> = match (&assignment.given, key.kind) {
            (Given::Text(text), _) | (Given::Number(text), Kind::Number) => vec![text],
            (Given::Switch(text), Kind::Switch) => vec![text],
            (Given::List(parts), Kind::List) => {
                parts.iter().map(|part| part.text.as_str()).collect()
            }
            _ => return Err(wrong(usize::MAX)),
        };
        (key.set)(self, &texts).map_err(wrong)?;
        self.mark(key, Origin::Line(at.line));
        Ok(())
    }
}
