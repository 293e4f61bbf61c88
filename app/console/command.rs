//! Parses a line into a command.

use thiserror::Error;

use super::log::Level;
use super::table::{TABLE, Takes};

/// A parsed line from the console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What to do.
    pub(crate) command: Command,
    /// Whether to reply in JSON.
    pub(crate) json: bool,
    /// Whether the line was taken for a prompt because it is not a command.
    pub(crate) bare: bool,
}

/// What a person wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Answer this text, by itself.
    Ask(String),
    /// Complete this text as it stands.
    Raw(String),
    /// Answer as the next turn of a conversation.
    Chat(String),
    /// Set the system text of conversations; without a text, show it.
    System(Option<String>),
    /// Forget the conversation.
    New,
    /// Stop the running answer.
    Stop,
    /// Show or change the settings for answers.
    Set {
        /// The setting; none shows all.
        name: Option<String>,
        /// Its new value; none only shows it.
        value: Option<String>,
    },
    /// Show this node.
    Status,
    /// Show the network and the board.
    Net,
    /// Check everything a node needs: what is wrong and what to do.
    Doctor,
    /// Show the nodes on the LAN.
    Peers,
    /// Show what this node and its peers announce that they hold.
    Catalog,
    /// Show the memory for KV state.
    Slab,
    /// Show the counters.
    Stats,
    /// Measure this node.
    Bench,
    /// Show the configuration, and where each setting comes from.
    Config,
    /// Check the configuration file.
    ConfigCheck,
    /// Show the path of the configuration file.
    ConfigPath,
    /// Show the log, or set which of its lines are printed.
    Log(LogRequest),
    /// Reset the whole swarm.
    Reset {
        /// Whether blocks are dropped too.
        store: bool,
    },
    /// Reboot the board.
    Reboot,
    /// Switch the board off.
    Poweroff,
    /// Show the commands, or one of them.
    Help(Option<String>),
    /// Show which build this is.
    Version,
    /// Quit.
    Quit,
}

impl Command {
    /// Whether it runs without waiting for earlier prompts: it stops them, or only shows something.
    pub(crate) fn is_urgent(&self) -> bool {
        matches!(
            self,
            Command::Stop
                | Command::Status
                | Command::Net
                | Command::Doctor
                | Command::Peers
                | Command::Catalog
                | Command::Slab
                | Command::Stats
                | Command::Config
                | Command::ConfigCheck
                | Command::ConfigPath
                | Command::Log(LogRequest::Last(_))
                | Command::Help(_)
                | Command::Version
        )
    }

    /// Whether a person must have typed it alone: it takes down the machine or the swarm's state.
    pub(crate) fn is_drastic(&self) -> bool {
        matches!(self, Command::Reset { .. } | Command::Reboot | Command::Poweroff | Command::Quit)
    }
}

/// What `log` should do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogRequest {
    /// Show this many of the last lines.
    Last(usize),
    /// Show the level that this console prints unasked.
    Level,
    /// Print lines of this level and above on this console from now on.
    SetLevel(Level),
}

/// Why a line is not a valid command.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConsoleError {
    /// A command such as `ask` or `chat` without its text.
    #[error("{0} what? Type {0} and then your text")]
    NoText(&'static str),
    /// Arguments that the command does not take.
    #[error("{word} takes {takes}. To have the model answer the line, put ask before it")]
    Takes {
        /// The command.
        word: &'static str,
        /// What it takes.
        takes: &'static str,
    },
}

/// The word that asks for a reply in JSON.
const JSON: &str = "--json";

/// Parses one line. A line is a prompt if its first word is not a command or if it has more words
/// than the command takes: "help me write a poem" is a prompt. Lines with options are never
/// prompts. None for an empty line.
///
/// # Errors
/// What the command takes, as a message to the person who typed it.
pub fn parse(line: &str) -> Result<Option<Line>, ConsoleError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let prompt =
        || Ok(Some(Line { command: Command::Ask(line.to_string()), json: false, bare: true }));
    let Some(entry) = TABLE.iter().find(|entry| entry.word == word) else { return prompt() };
    let mut rest = rest.trim();
    let (command, json) = match entry.takes {
        Takes::Text(_) | Takes::TextOrNothing(_) => {
            let mut json = false;
            if let Some(text) = rest
                .strip_prefix(JSON)
                .filter(|text| text.is_empty() || text.starts_with(char::is_whitespace))
            {
                (rest, json) = (text.trim(), true);
            }
            let text = Some(rest.to_string()).filter(|text| !text.is_empty());
            let command = match (&entry.takes, text) {
                (Takes::TextOrNothing(make), text) => make(text),
                (Takes::Text(make), Some(text)) => make(text),
                _ => return Err(ConsoleError::NoText(entry.word)),
            };
            (command, json)
        }
        Takes::Words { most, read } => {
            let (plain, text) = quotation(rest);
            let mut words: Vec<&str> = plain.split_whitespace().collect();
            let count = words.len();
            words.retain(|word| *word != JSON);
            let json = words.len() < count;
            words.extend(text);
            let options = words.iter().any(|word| {
                word.starts_with('-') && word.len() > 1 && word.parse::<f64>().is_err()
            });
            if words.len() > most && !json && !options {
                return prompt();
            }
            let takes = ConsoleError::Takes { word: entry.word, takes: entry.takes_words };
            let command = if words.len() > most { None } else { read(&words) };
            (command.ok_or(takes)?, json)
        }
    };
    Ok(Some(Line { command, json, bare: false }))
}

/// Splits off a quoted text that ends the line, quotation marks included. A quotation inside a
/// sentence, or without a word before it, does not count.
fn quotation(rest: &str) -> (&str, Option<&str>) {
    let start = rest
        .find('"')
        .filter(|at| rest.ends_with('"') && rest[..*at].ends_with(char::is_whitespace));
    start.map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        parse(line).unwrap().unwrap().command
    }

    #[test]
    fn a_line_that_only_starts_like_a_command_is_a_prompt() {
        for line in [
            "help me write a poem",
            "Status of the union",
            "stop the war",
            "reset the clock",
            "set the table for four",
            "log in to the portal",
            "new shoes",
            "config files are what",
            "help \"me\" please",
            "help \"me please\"",
            "set the stage for \"the end\"",
        ] {
            assert_eq!(
                parse(line),
                Ok(Some(Line { command: Command::Ask(line.to_string()), json: false, bare: true }))
            );
        }
        assert_eq!(command("  stop "), Command::Stop);
        assert_eq!(
            parse("ask  help"),
            Ok(Some(Line { command: Command::Ask("help".to_string()), json: false, bare: false }))
        );
        assert_eq!(parse(" \t"), Ok(None));
        assert_eq!(command("reset"), Command::Reset { store: false });
        assert_eq!(command(" reset  --store"), Command::Reset { store: true });
        assert_eq!(parse("ask"), Err(ConsoleError::NoText("ask")));
        assert_eq!(parse("ask --json"), Err(ConsoleError::NoText("ask")));
        assert_eq!(command("system"), Command::System(None));
        assert_eq!(command("system --json"), Command::System(None));
        assert_eq!(command("system Be  brief. "), Command::System(Some("Be  brief.".to_string())));
        assert_eq!(command("raw Once upon"), Command::Raw("Once upon".to_string()));
    }

    #[test]
    fn every_command_takes_json() {
        for entry in TABLE {
            let argument =
                if matches!(entry.takes, Takes::Words { .. }) { "" } else { "some text" };
            let line = parse(&format!("{} --json {argument}", entry.word)).unwrap().unwrap();
            let plain = parse(&format!("{} {argument}", entry.word)).unwrap().unwrap();
            assert!(line.json && !plain.json && line.command == plain.command, "{}", entry.word);
        }
        assert_eq!(command("ask --jsonish"), Command::Ask("--jsonish".to_string()));
        assert!(parse("reset --store --json").unwrap().unwrap().json);
        assert!(parse("help me --json please").is_err());
    }

    #[test]
    fn words_of_commands_are_understood() {
        let text = |text: &str| Some(text.to_string());
        assert_eq!(command("set"), Command::Set { name: None, value: None });
        assert_eq!(command("set top_k 3"), Command::Set { name: text("top-k"), value: text("3") });
        assert_eq!(
            command("set temperature -1"),
            Command::Set { name: text("temperature"), value: text("-1") }
        );
        assert_eq!(
            command("set stop \"two words\"  \"\\n\""),
            Command::Set { name: text("stop"), value: text("\"two words\"  \"\\n\"") }
        );
        assert_eq!(command("set stop \""), Command::Set { name: text("stop"), value: text("\"") });
        assert!(parse("set --json stop \"a b\"").unwrap().unwrap().json);
        assert_eq!(command("log 5"), Command::Log(LogRequest::Last(5)));
        assert_eq!(command("log level"), Command::Log(LogRequest::Level));
        assert_eq!(command("log level warn"), Command::Log(LogRequest::SetLevel(Level::Warn)));
        assert_eq!(command("config path"), Command::ConfigPath);
        assert_eq!(command("help stop"), Command::Help(text("stop")));
    }

    /// A typing mistake in a command must not send the line to the model as a prompt.
    #[test]
    fn an_option_or_word_that_a_command_does_not_have_is_an_error() {
        for line in [
            "reset --stor",
            "reset -s",
            "reset --store now",
            "reset now",
            "status -v",
            "log loud",
            "config chek",
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(
                error.contains(" takes ") && error.contains("put ask before it"),
                "{line}: {error}"
            );
        }
    }
}
