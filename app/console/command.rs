//! A line to what it means.

use thiserror::Error;

use super::log::Level;
use super::table::{TABLE, Takes};

/// A line from the console, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What is to be done.
    pub(crate) command: Command,
    /// Whether the reply is wanted in JSON.
    pub(crate) json: bool,
    /// Whether the line was taken for a prompt because it is no command.
    pub(crate) bare: bool,
}

/// What a person wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Answer this text, by itself.
    Ask(String),
    /// Let the model go on with this text as it stands.
    Raw(String),
    /// Answer as the next turn of a conversation.
    Chat(String),
    /// Tell the model this before conversations; show what it is told where there is no text.
    System(Option<String>),
    /// Forget the conversation.
    New,
    /// End the answer under way.
    Stop,
    /// Show how answers are made, or change one thing about it.
    Set {
        /// Which; all when there is none.
        name: Option<String>,
        /// To what; only shown when there is none.
        value: Option<String>,
    },
    /// This node.
    Status,
    /// The network and the board.
    Net,
    /// All that a node needs: what is wrong and what to do.
    Doctor,
    /// The nodes on the LAN.
    Peers,
    /// What this node and its peers say that they hold.
    Catalog,
    /// The memory for KV state.
    Slab,
    /// Counters.
    Stats,
    /// Measure this node.
    Bench,
    /// The settings, and where each comes from.
    Config,
    /// What is wrong with the file of settings.
    ConfigCheck,
    /// Where the file of settings is.
    ConfigPath,
    /// The log.
    Log(LogRequest),
    /// The whole swarm forgets.
    Reset {
        /// The blocks too.
        store: bool,
    },
    /// Start the board anew.
    Reboot,
    /// Switch the board off.
    Poweroff,
    /// The commands, or one of them.
    Help(Option<String>),
    /// Which build this is.
    Version,
    /// Leave.
    Quit,
}

impl Command {
    /// Whether it need not wait for the prompts before it: it ends them, or only tells something.
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

    /// Whether it must be meant by a person who typed it alone: it takes the machine or the swarm's state away.
    pub(crate) fn is_drastic(&self) -> bool {
        matches!(self, Command::Reset { .. } | Command::Reboot | Command::Poweroff | Command::Quit)
    }
}

/// What is wanted of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogRequest {
    /// So many of the last lines.
    Last(usize),
    /// Which level this console is told unasked.
    Level,
    /// From now on tell this console this level, and what matters more.
    SetLevel(Level),
}

/// Why a line is no command.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConsoleError {
    /// `ask` or `chat` without words.
    #[error("{0} what? Type {0} and then your text")]
    NoText(&'static str),
    /// Words that the command does not take.
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

/// Understands one line. A line whose first word is no command is a prompt, and so is one with more words than the command takes,
/// so that "help me write a poem" is one. Options are never taken for a prompt. None for an empty line.
///
/// # Errors
/// What the command takes, for the person who typed it.
pub fn parse(line: &str) -> Result<Option<Line>, ConsoleError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let prompt = || Ok(Some(Line { command: Command::Ask(line.to_string()), json: false, bare: true }));
    let Some(entry) = TABLE.iter().find(|entry| entry.word == word) else { return prompt() };
    let mut rest = rest.trim();
    let (command, json) = match entry.takes {
        Takes::Text(_) | Takes::TextOrNothing(_) => {
            let mut json = false;
            if let Some(text) = rest.strip_prefix(JSON).filter(|text| text.is_empty() || text.starts_with(char::is_whitespace)) {
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
            let options = words.iter().any(|word| word.starts_with('-') && word.len() > 1 && word.parse::<f64>().is_err());
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

/// What stands before a text in quotation marks that ends the line, and that text with its marks. A quotation within a sentence, or
/// without a word before it, is none.
fn quotation(rest: &str) -> (&str, Option<&str>) {
    let start = rest.find('"').filter(|at| rest.ends_with('"') && rest[..*at].ends_with(char::is_whitespace));
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
            assert_eq!(parse(line), Ok(Some(Line { command: Command::Ask(line.to_string()), json: false, bare: true })));
        }
        assert_eq!(command("  stop "), Command::Stop);
        assert_eq!(parse("ask  help"), Ok(Some(Line { command: Command::Ask("help".to_string()), json: false, bare: false })));
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
            let argument = if matches!(entry.takes, Takes::Words { .. }) { "" } else { "some text" };
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
        assert_eq!(command("set temperature -1"), Command::Set { name: text("temperature"), value: text("-1") });
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

    /// A slip of the finger must not send a half-meant command to the model as a prompt.
    #[test]
    fn an_option_or_word_that_a_command_does_not_have_is_an_error() {
        for line in ["reset --stor", "reset -s", "reset --store now", "reset now", "status -v", "log loud", "config chek"] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(" takes ") && error.contains("put ask before it"), "{line}: {error}");
        }
    }
}
