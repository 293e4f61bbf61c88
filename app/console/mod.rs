//! What a person can say to a node: one table makes the parser and the help text, so that neither can miss a command.

use thiserror::Error;

/// A line from the console, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Answer this text as it stands.
    Ask(String),
    /// Answer as the next turn of a conversation.
    Chat(String),
    /// Forget the conversation.
    New,
    /// End the answer under way.
    Stop,
    /// This node.
    Status,
    /// The nodes on the LAN.
    Peers,
    /// Counters.
    Stats,
    /// The whole swarm forgets.
    Reset {
        /// The blocks too.
        store: bool,
    },
    /// The commands.
    Help,
    /// Which build this is.
    Version,
    /// Leave.
    Quit,
}

/// Why a line is no command.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConsoleError {
    /// `ask` or `chat` without words.
    #[error("{0} what? Type {0} and then your text")]
    NoText(&'static str),
    /// An option that the command does not have.
    #[error("{0} takes {1} or nothing")]
    Option(&'static str, &'static str),
}

enum Takes {
    Nothing(Command),
    Text(fn(String) -> Command),
    /// At most this one option.
    Option(&'static str, fn(bool) -> Command),
}

struct Entry {
    word: &'static str,
    argument: &'static str,
    help: &'static str,
    takes: Takes,
}

const TABLE: &[Entry] = &[
    Entry {
        word: "ask",
        argument: "TEXT",
        help: "answer TEXT; a line that starts with no command does the same",
        takes: Takes::Text(Command::Ask),
    },
    Entry {
        word: "chat",
        argument: "TEXT",
        help: "the next turn of a conversation, in Gemma's chat template",
        takes: Takes::Text(Command::Chat),
    },
    Entry { word: "new", argument: "", help: "begin a new conversation", takes: Takes::Nothing(Command::New) },
    Entry { word: "stop", argument: "", help: "end the answer under way", takes: Takes::Nothing(Command::Stop) },
    Entry { word: "status", argument: "", help: "this node: model, slab, prefill rate", takes: Takes::Nothing(Command::Status) },
    Entry {
        word: "peers",
        argument: "",
        help: "the nodes on the LAN, what they hold and how fast they are",
        takes: Takes::Nothing(Command::Peers),
    },
    Entry {
        word: "stats",
        argument: "",
        help: "counters: what was fetched, served, evicted, refused",
        takes: Takes::Nothing(Command::Stats),
    },
    Entry {
        word: "reset",
        argument: "[--store]",
        help: "every node forgets what its peers hold; --store: and drops its blocks",
        takes: Takes::Option("--store", |store| Command::Reset { store }),
    },
    Entry { word: "help", argument: "", help: "these lines", takes: Takes::Nothing(Command::Help) },
    Entry { word: "version", argument: "", help: "which build this is", takes: Takes::Nothing(Command::Version) },
    Entry {
        word: "quit",
        argument: "",
        help: "end all answers, leave the swarm and end; so does Ctrl-C",
        takes: Takes::Nothing(Command::Quit),
    },
];

/// Understands one line. A command that takes no words is one only when it stands alone, so that "help me write a poem" is a
/// prompt. None for an empty line.
pub fn parse(line: &str) -> Result<Option<Command>, ConsoleError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let command = match TABLE.iter().find(|entry| entry.word == word) {
        Some(Entry { takes: Takes::Nothing(command), .. }) if rest.is_empty() => command.clone(),
        Some(Entry { takes: Takes::Text(_), word, .. }) if rest.is_empty() => return Err(ConsoleError::NoText(word)),
        Some(Entry { takes: Takes::Text(make), .. }) => make(rest.to_string()),
        Some(Entry { takes: Takes::Option(option, make), .. }) if rest.is_empty() || rest == *option => make(!rest.is_empty()),
        Some(Entry { takes: Takes::Option(option, _), word, .. }) if rest.starts_with('-') => {
            return Err(ConsoleError::Option(word, option));
        }
        _ => Command::Ask(line.to_string()),
    };
    Ok(Some(command))
}

/// The commands, a line each.
pub fn help() -> String {
    let mut text = String::new();
    for entry in TABLE {
        text += &format!("{:<14}{}\n", format!("{} {}", entry.word, entry.argument), entry.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_table_is_understood_and_in_the_help() {
        for entry in TABLE {
            let line = if entry.argument.is_empty() { entry.word.to_string() } else { format!("{} some words", entry.word) };
            assert!(parse(&line).unwrap().is_some());
            assert!(help().contains(entry.help));
        }
    }

    #[test]
    fn a_line_that_only_starts_like_a_command_is_a_prompt() {
        for line in ["help me write a poem", "Status of the union", "stop the war"] {
            assert_eq!(parse(line), Ok(Some(Command::Ask(line.to_string()))));
        }
        assert_eq!(parse("  stop "), Ok(Some(Command::Stop)));
        assert_eq!(parse("ask  help"), Ok(Some(Command::Ask("help".to_string()))));
        assert_eq!(parse(" \t"), Ok(None));
        assert_eq!(parse("reset"), Ok(Some(Command::Reset { store: false })));
        assert_eq!(parse(" reset  --store"), Ok(Some(Command::Reset { store: true })));
        assert_eq!(parse("reset the clock"), Ok(Some(Command::Ask("reset the clock".to_string()))));
        assert_eq!(parse("ask"), Err(ConsoleError::NoText("ask")));
    }
    /// A slip of the finger must not send a half-meant reset to the model as a prompt.
    #[test]
    fn an_option_that_a_command_does_not_have_is_an_error() {
        for line in ["reset --stor", "reset -s", "reset --store now"] {
            assert_eq!(parse(line), Err(ConsoleError::Option("reset", "--store")));
        }
    }
}
