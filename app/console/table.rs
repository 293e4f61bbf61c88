//! The one table of commands.

use super::command::{Command, LogRequest};
use super::editor::Completion;
use super::log::Level;
use super::settings::SETTINGS;

/// What a command takes after its word.
pub(super) enum Takes {
    /// Any text.
    Text(fn(String) -> Command),
    /// Any text, or none.
    TextOrNothing(fn(Option<String>) -> Command),
    /// At most this many words; `read` returns none for words that it does not understand.
    Words { most: usize, read: fn(&[&str]) -> Option<Command> },
}

/// One command.
pub(super) struct Entry {
    pub word: &'static str,
    /// Its arguments, as the help shows them.
    pub argument: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// More help, for the manual.
    pub more: &'static str,
    pub takes: Takes,
    /// What it takes, for an error.
    pub takes_words: &'static str,
}

/// A command without arguments.
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

/// Lines that `log` shows by default.
const LOG_SHOWN: usize = 20;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        word: "ask",
        argument: "TEXT",
        help: "answer TEXT by itself; a line that starts with no command does so too, or is a turn of the conversation",
        more: "A model whose file has a chat template is a chat model: TEXT is put into that template, and a line without a command is the next turn of the conversation, as `chat` makes it. Other models complete TEXT as it stands, and so they do with such a line. The node says at its start which kind it has. The answer streams, and ends with a line of figures: the prompt's tokens, how many of them came from this node's own slab, how many from peers and how many were computed, then the tokens generated, the time to the first and to the last of them, tokens a second, and why it ended. Ctrl-C or `stop` ends it. Prompts typed meanwhile wait their turn.",
        takes: Takes::Text(Command::Ask),
        takes_words: "",
    },
    Entry {
        word: "raw",
        argument: "TEXT",
        help: "let the model continue TEXT as it stands, without its chat template",
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
        help: "the system text of a conversation; off: none",
        more: "Setting it begins a new conversation. `ask` uses it too, if its text is put into the chat template. Not every template has a place for it.",
        takes: Takes::TextOrNothing(Command::System),
        takes_words: "",
    },
    alone!("new", Command::New, "begin a new conversation", "`chat` forgets what was said before."),
    alone!(
        "stop",
        Command::Stop,
        "stop the answers that this console waits for",
        "The tokens so far stay, and so does the state that was computed. Ctrl-C does the same."
    ),
    Entry {
        word: "set",
        argument: "[NAME [VALUE]]",
        help: "show or change how answers are made on this console: temperature, top-k, top-p, seed, max-tokens, repeat-penalty, repeat-last-n, stop, raw, drop-oldest",
        more: "Without words it shows all settings. A change holds for this console until the node ends; the first values are those of `potluck.toml`. `set stop` takes one word, or several texts in quotation marks, in which `\\n` ends a line.",
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
    alone!(
        "net",
        Command::Net,
        "the network and the board: addresses, Wi-Fi, reachable peers, heat, power; faults and what to do about them",
        "Every interface is listed with its address, or with the reason why it is not used. Unknown values are left out. Lines that begin with `!` say what is wrong and what helps."
    ),
    alone!(
        "doctor",
        Command::Doctor,
        "all that a node needs, item by item: what is wrong, and what to do",
        "Settings, model, memory, the state directory, the swarm's key and HTTP, then what `net` shows. It works without a model, too. `potluck doctor` does the same on a computer without a node, and tries the ports and the network."
    ),
    alone!(
        "peers",
        Command::Peers,
        "the nodes on the LAN, what they hold and how fast they are",
        ""
    ),
    alone!(
        "catalog",
        Command::Catalog,
        "what this node and its peers announce that they hold",
        "A generation counts the changes of a filter; a segment is a kilobyte of one. Segments that differ from what their node announces are fetched again."
    ),
    alone!("slab", Command::Slab, "the memory for KV state, and what holds it", ""),
    alone!("stats", Command::Stats, "counters: what was fetched, served, evicted, refused", ""),
    alone!(
        "bench",
        Command::Bench,
        "measure prefill and decode here",
        "It computes a made-up prompt and decodes some tokens in memory of its own, without the slab, the catalog or the peers. It waits for the prompts before it, and later ones wait for it."
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
        help: "the last lines of the log; level: which of them this console prints as they happen (error, warn or info)",
        more: "The log keeps its last 256 lines of every level, with the seconds since the start. When much happens at once, consoles print a part of it, and how many lines they left out.",
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
        help: "make every node forget what its peers hold; --store: and drop its blocks",
        more: "It raises the swarm's epoch by one, and says which nodes have followed. A node that is off or out of reach follows when it hears the others again.",
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
        "leave the swarm and reboot the board",
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
        takes: Takes::Words {
            most: 1,
            read: |words| Some(Command::Help(words.first().map(|word| (*word).to_string()))),
        },
        takes_words: "a command or nothing",
    },
    alone!("version", Command::Version, "which build this is", ""),
    alone!(
        "quit",
        Command::Quit,
        "end the node, or detach a console that was attached",
        "On the node's own standard input it leaves the swarm and ends the node; on a console that `potluck console` attached it detaches that console, and the node goes on. Ctrl-D on an empty line does the same. Typed, it ends the answers under way; on a pipe it waits for those that are due. A board's own terminals cannot be left: see `reboot` and `poweroff`."
    ),
];

/// Which of the restricted commands a console allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permissions {
    /// `quit`, where the console can be left.
    pub quit: bool,
    /// `reboot` and `poweroff`.
    pub power: bool,
}

impl Permissions {
    /// Every command.
    pub(crate) const ALL: Permissions = Permissions { quit: true, power: true };

    fn has(self, entry: &Entry) -> bool {
        match entry.word {
            "quit" => self.quit,
            "reboot" | "poweroff" => self.power,
            _ => true,
        }
    }
}

/// The words of all commands.
pub fn words() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.word)
}

/// The words that can complete the line: commands, or the arguments of `help`, `set`, `log`
/// and `config`.
pub(super) fn candidates(line: &str, permissions: Permissions) -> Vec<&'static str> {
    let begun = line.rsplit(' ').next().unwrap_or_default();
    let commands = || {
        TABLE
            .iter()
            .filter(|entry| permissions.has(entry))
            .map(|entry| entry.word)
            .collect::<Vec<_>>()
    };
    let mut words = match line.split(' ').collect::<Vec<_>>()[..] {
        [_] | ["help", _] => commands(),
        ["set", _] => SETTINGS.iter().map(|(name, _)| *name).collect(),
        ["log", _] => vec!["level"],
        ["log", "level", _] => [Level::Error, Level::Warn, Level::Info].map(Level::name).to_vec(),
        ["config", _] => vec!["check", "path"],
        _ => Vec::new(),
    };
    words.retain(|word| word.starts_with(begun));
    words
}

/// Completes the line with the common prefix of its candidates. A single candidate that takes
/// arguments also gets a space.
pub(super) fn completion(line: &str, permissions: Permissions) -> Completion {
    let begun = line.rsplit(' ').next().unwrap_or_default();
    let candidates = candidates(line, permissions);
    let Some(first) = candidates.first() else { return Completion::Unknown };
    let common = candidates.iter().fold(first.len(), |common, word| {
        first.bytes().zip(word.bytes()).take(common).take_while(|(one, other)| one == other).count()
    });
    let follows = TABLE.iter().any(|entry| {
        entry.word == line[..line.len() - begun.len()].to_string() + first
            && !entry.argument.is_empty()
    });
    match (&first[begun.len()..common], candidates.len()) {
        ("", 2..) => Completion::Several,
        (rest, 1) => Completion::Rest(format!("{rest}{}", if follows { " " } else { "" })),
        (rest, _) => Completion::Rest(rest.to_string()),
    }
}

/// A command as it is typed.
pub(super) fn usage(entry: &Entry) -> String {
    format!("{} {}", entry.word, entry.argument).trim_end().to_string()
}

/// The allowed commands, one per line.
pub(crate) fn help(permissions: Permissions) -> String {
    let entries = TABLE.iter().filter(|entry| permissions.has(entry));
    let mut text: String =
        entries.map(|entry| format!("{:<22}{}\n", usage(entry), entry.help)).collect();
    text += "Any command takes --json behind its word. help COMMAND says more. Ctrl-C stops an answer; Tab completes a command.\n\
             \"\"\" begins a prompt of several lines and ends it.\n";
    text
}

/// The full help for one command; none if there is no such command.
pub(crate) fn help_for(word: &str) -> Option<String> {
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
            let line = if matches!(entry.takes, Takes::Words { .. }) {
                entry.word.into()
            } else {
                format!("{} some words", entry.word)
            };
            assert!(parse(&line).unwrap().is_some_and(|line| !line.bare));
            assert!(help(Permissions::ALL).contains(entry.help));
            assert!(help_for(entry.word).unwrap().contains(entry.help));
        }
    }

    #[test]
    fn a_word_is_completed_where_only_one_command_is_meant() {
        let rest = |rest: &str| Completion::Rest(rest.to_string());
        for (line, meant) in [
            ("ver", rest("sion")),
            ("as", rest("k ")),
            ("st", Completion::Several),
            ("sta", rest("t")),
            ("stat", Completion::Several),
            ("", Completion::Several),
            ("what", Completion::Unknown),
            ("what is", Completion::Unknown),
            ("help ver", rest("sion")),
            ("set temp", rest("erature")),
            ("set t", Completion::Several),
            ("set top", rest("-")),
            ("log level w", rest("arn")),
            ("help", rest(" ")),
        ] {
            assert_eq!(completion(line, Permissions::ALL), meant, "{line}");
        }
        assert_eq!(candidates("set top", Permissions::ALL), ["top-k", "top-p"]);
    }

    #[test]
    fn what_may_not_be_done_is_neither_listed_nor_completed() {
        let board = Permissions { quit: false, power: true };
        assert!(!help(board).contains("quit") && help(board).contains("reboot"));
        let computer = Permissions { quit: true, power: false };
        assert!(help(computer).contains("quit") && !help(computer).contains("reboot"));
        assert_eq!(
            (completion("qu", board), completion("qu", computer)),
            (Completion::Unknown, Completion::Rest("it".to_string()))
        );
        assert!(!candidates("", computer).contains(&"poweroff"));
    }
}
