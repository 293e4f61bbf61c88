//! The one table of commands.

use super::command::{Command, LogRequest};
use super::log::Level;

/// What follows a command's word.
pub(super) enum Takes {
    /// Any text.
    Text(fn(String) -> Command),
    /// Any text, or none.
    TextOrNothing(fn(Option<String>) -> Command),
    /// So many words at most, which may not be understood.
    Words { most: usize, read: fn(&[&str]) -> Option<Command> },
}

/// One command.
pub(super) struct Entry {
    pub word: &'static str,
    /// What follows, as the help shows it.
    pub argument: &'static str,
    /// A line about it.
    pub help: &'static str,
    /// More, for the manual.
    pub more: &'static str,
    pub takes: Takes,
    /// What it takes, for an error.
    pub takes_words: &'static str,
}

/// A command that takes nothing.
macro_rules! alone {
    ($word:expr, $command:expr, $help:expr, $more:expr) => {
        Entry {
            word: $word,
            argument: "",
            help: $help,
            more: $more,
            takes: Takes::Words { most: 0, read: |words| words.is_empty().then_some($command) },
            takes_words: "no more words",
        }
    };
}

/// Lines that `log` shows unless it is told how many.
const LOG_SHOWN: usize = 20;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        word: "ask",
        argument: "TEXT",
        help: "answer TEXT by itself; a line that starts with no command does so too, or is a turn of the conversation",
        more: "A model whose file has a chat template is a chat model: TEXT is put into that template, and a line without a command is the next turn of the conversation, as `chat` makes it. Other models complete TEXT as it stands, and so they do with such a line. What is said when the node comes up tells which it is. The answer streams, and ends with a line of figures: the prompt's tokens, how many of them came from this node's own slab, how many from peers and how many were computed, then the tokens generated, the time to the first and to the last of them, tokens a second, and why it ended. Ctrl-C or `stop` ends it. Prompts typed meanwhile wait their turn.",
        takes: Takes::Text(Command::Ask),
        takes_words: "",
    },
    Entry {
        word: "raw",
        argument: "TEXT",
        help: "let the model go on with TEXT as it stands, whatever its chat template says",
        more: "",
        takes: Takes::Text(Command::Raw),
        takes_words: "",
    },
    Entry {
        word: "chat",
        argument: "TEXT",
        help: "the next turn of a conversation, in the model's chat template",
        more: "Where the file has none, or one that cannot be followed, Gemma's is used. Each console has a conversation of its own. What was said before is kept as the tokens that the model has seen and chosen, so it is worked through once and then found in the slab, to the last token. A turn that was stopped or failed is forgotten. A conversation that fills the context says so; with `set drop-oldest on` it goes on without its oldest turns.",
        takes: Takes::Text(Command::Chat),
        takes_words: "",
    },
    Entry {
        word: "system",
        argument: "[TEXT|off]",
        help: "what the model is told before a conversation; off: nothing",
        more: "It begins a new conversation, and is told before each answer to `ask` too where that is put into the chat template. Not every template has a place for it.",
        takes: Takes::TextOrNothing(Command::System),
        takes_words: "",
    },
    alone!("new", Command::New, "begin a new conversation", "`chat` forgets what was said before."),
    alone!(
        "stop",
        Command::Stop,
        "end the answers that this console waits for",
        "The tokens so far stay, and so does the state that was computed. Ctrl-C does the same."
    ),
    Entry {
        word: "set",
        argument: "[NAME [VALUE]]",
        help: "how answers are made on this console: temperature, top-k, top-p, seed, max-tokens, repeat-penalty, repeat-last-n, stop, raw, drop-oldest",
        more: "Without words it shows all of them. What is set holds for this console until the node ends; `potluck.toml` says what it begins with. `set stop` takes one word, or several texts in quotation marks, in which `\\n` ends a line.",
        takes: Takes::Words {
            most: 2,
            read: |words| {
                let name = words.first().map(|name| name.replace('_', "-"));
                Some(Command::Set { name, value: words.get(1).map(|value| (*value).to_string()) })
            },
        },
        takes_words: "a name and a value, such as set temperature 0.7",
    },
    alone!("status", Command::Status, "this node: model, slab, prefill rate", ""),
    alone!("peers", Command::Peers, "the nodes on the LAN, what they hold and how fast they are", ""),
    alone!(
        "catalog",
        Command::Catalog,
        "what this node and its peers say that they hold",
        "A generation counts the changes of a filter; a segment is a kilobyte of one. Segments that differ from what their node announces are fetched again."
    ),
    alone!("slab", Command::Slab, "the memory for KV state, and what holds it", ""),
    alone!("stats", Command::Stats, "counters: what was fetched, served, evicted, refused", ""),
    alone!(
        "bench",
        Command::Bench,
        "measure prefill and decode here",
        "A made-up prompt is computed and some tokens decoded, in memory of its own: the slab, the catalog and the peers are not touched. It waits for the prompts before it, and others wait for it."
    ),
    Entry {
        word: "config",
        argument: "[check|path]",
        help: "the settings, and where each comes from; check: what is wrong with the file; path: where it is",
        more: "Secrets are not shown. The file is read when the node starts; `config check` reads it again.",
        takes: Takes::Words {
            most: 1,
            read: |words| match words {
                [] => Some(Command::Config),
                ["check"] => Some(Command::ConfigCheck),
                ["path"] => Some(Command::ConfigPath),
                _ => None,
            },
        },
        takes_words: "check, path or nothing",
    },
    Entry {
        word: "log",
        argument: "[N|level [LEVEL]]",
        help: "the last lines of the log; level: what this console is told unasked (error, warn or info)",
        more: "The log keeps its last 256 lines of every level, with the seconds since the start. When much happens at once, consoles are told a part of it, and how much was left out.",
        takes: Takes::Words {
            most: 2,
            read: |words| {
                match words {
                    [] => Some(LogRequest::Last(LOG_SHOWN)),
                    ["level"] => Some(LogRequest::Level),
                    ["level", name] => Level::named(name).map(LogRequest::SetLevel),
                    [count] => count.parse().ok().map(LogRequest::Last),
                    _ => None,
                }
                .map(Command::Log)
            },
        },
        takes_words: "a number of lines, or level and then error, warn or info",
    },
    Entry {
        word: "reset",
        argument: "[--store]",
        help: "every node forgets what its peers hold; --store: and drops its blocks",
        more: "The swarm's epoch goes up by one; who follows is told. A node that is off or out of reach follows when it hears the others again.",
        takes: Takes::Words {
            most: 1,
            read: |words| match words {
                [] => Some(Command::Reset { store: false }),
                ["--store"] => Some(Command::Reset { store: true }),
                _ => None,
            },
        },
        takes_words: "--store or nothing",
    },
    alone!(
        "reboot",
        Command::Reboot,
        "leave the swarm and start the board anew",
        "Only where `power = true` stands in `[console]`, as on the board."
    ),
    alone!(
        "poweroff",
        Command::Poweroff,
        "leave the swarm and switch the board off",
        "Only where `power = true` stands in `[console]`, as on the board. Pull the plug when the board's light has gone out."
    ),
    Entry {
        word: "help",
        argument: "[COMMAND]",
        help: "these lines, or more about one command",
        more: "",
        takes: Takes::Words { most: 1, read: |words| Some(Command::Help(words.first().map(|word| (*word).to_string()))) },
        takes_words: "a command or nothing",
    },
    alone!("version", Command::Version, "which build this is", ""),
    alone!(
        "quit",
        Command::Quit,
        "leave the swarm and end",
        "Only on standard input; so does Ctrl-D on an empty line. Typed, it ends the answers under way; on a pipe it waits for those that are due. On a board, see `reboot` and `poweroff`."
    ),
];

/// The words of all commands.
pub fn words() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.word)
}

/// The rest of the only command that begins with this, and a space where words may follow.
pub(super) fn completion(begun: &str) -> Option<String> {
    let mut found = TABLE.iter().filter(|entry| !begun.is_empty() && entry.word.starts_with(begun));
    let entry = found.next().filter(|_| found.next().is_none())?;
    let space = if entry.argument.is_empty() { "" } else { " " };
    Some(format!("{}{space}", &entry.word[begun.len()..]))
}

/// A command as it is typed.
pub(super) fn usage(entry: &Entry) -> String {
    format!("{} {}", entry.word, entry.argument).trim_end().to_string()
}

/// The commands, a line each.
pub fn help() -> String {
    let mut text: String = TABLE.iter().map(|entry| format!("{:<22}{}\n", usage(entry), entry.help)).collect();
    text +=
        "Any command takes --json behind its word. help COMMAND says more. Ctrl-C stops an answer; Tab completes a command.\n";
    text
}

/// One command, at length; none where there is no such command.
pub fn help_for(word: &str) -> Option<String> {
    let entry = TABLE.iter().find(|entry| entry.word == word)?;
    let more = entry.more.replace('`', "");
    Some(format!("{}\n{}\n{more}", usage(entry), entry.help).trim_end().to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::command::parse;
    use super::*;

    #[test]
    fn every_command_of_the_table_is_understood_and_in_the_help() {
        for entry in TABLE {
            let line =
                if matches!(entry.takes, Takes::Words { .. }) { entry.word.into() } else { format!("{} some words", entry.word) };
            assert!(parse(&line).unwrap().is_some_and(|line| !line.bare));
            assert!(help().contains(entry.help));
            assert!(help_for(entry.word).unwrap().contains(entry.help));
        }
    }

    #[test]
    fn a_word_is_completed_where_only_one_command_is_meant() {
        assert_eq!(completion("ver").as_deref(), Some("sion"));
        assert_eq!(completion("as").as_deref(), Some("k "));
        assert_eq!(completion("st"), None);
        assert_eq!(completion(""), None);
        assert_eq!(completion("what"), None);
    }
}
