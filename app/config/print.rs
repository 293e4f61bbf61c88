//! The documents that are generated from the table: the commented default file, and the reference
//! in docs/use/config.md.

use super::Config;
use super::table::{Key, TABLE};

/// Columns of a comment in the default file: narrow enough for any editor's window.
const COMMENT_COLUMNS: usize = 78;

const FILE_HEAD: &str = "\
# potluck.toml: the settings of one board.
#
# Everything after # is a comment. To set something, remove the # before its
# name and change its value. Settings that are not set keep their defaults.
# Nothing here can keep the board from starting or mute its serial line and USB
# port: problems are reported there. If a problem may concern the swarm's key,
# nothing is shared; if the radio's password, the radio stays off. Relative
# paths start at the folder of this file.
";

const REFERENCE_HEAD: &str = "\
# The settings in potluck.toml

`potluck config reference` generated this page from the table that also parses the file; a test compares them.

`potluck.toml` is on the board's boot partition and can be edited on any computer. On a PC, `--config FILE` or the variable
`POTLUCK_CONFIG` names it; otherwise it is `$XDG_CONFIG_HOME/potluck/potluck.toml` (`~/.config/potluck/potluck.toml`), or `/etc/potluck.toml` if
there is no such file, and the command says which one it read. An empty `POTLUCK_CONFIG` means no file. The file
is TOML: sections in brackets, then `key = value`, and comments after `#`. It is UTF-8, with either kind of line end. Every key is
optional. `potluck config default` prints a file with every key and its default as a comment.

The console reports each fault with its line and column. A faulty key has its default; all others count. If the fault may concern the swarm's key,
the node shares nothing until it is fixed; if it may concern the radio's network or password, the radio stays off ([security.md](security.md)).
`potluck config check FILE` reports the same on a PC, or what differs from the defaults. A board has settings of its own beneath the file
(`potluck run --defaults FILE`), such as its consoles; they count for keys that the file does not set. In the file, a relative path starts at the file's folder.

Every key outside `[wifi]` can also be set by an environment variable: `POTLUCK_`, the section and the key, in capitals. A command-line option
overrides a variable, a variable overrides the file, and the file overrides the default. An empty variable sets nothing, except
`POTLUCK_SWARM_KEY` and `POTLUCK_SWARM_KEY_FILE`, which must give a key ([security.md](security.md)). A variable that begins with `POTLUCK_SWARM_` and belongs
to no key is an error. A list is written as in the file (`[\"a\", \"b\"]`); any other text is its only
element. An invalid variable is an error, and the command ends.

| command | what it prints |
|---|---|
| `potluck config default` | a commented file |
| `potluck config check FILE` | every problem (and ends with status 1), or what differs from the defaults |
| `potluck config get SECTION.KEY FILE` | one effective value, for scripts; nothing if it has none; no secrets |
| `potluck config wifi FILE` | `[wifi]` as wpa_supplicant.conf: the network's name in hexadecimal, and its key instead of the password |
| `potluck config reference` | this page |
";

fn about_section(section: &str) -> &'static str {
    match section {
        "node" => "This board.",
        "swarm" => "Which nodes share with each other.",
        "wifi" => {
            "The board's radio. Only the scripts that start a board read this; on a PC it does nothing."
        }
        "network" => "How nodes find and reach each other.",
        "model" => "The model that answers, and how it computes.",
        "memory" => "The memory that is reserved at start.",
        "console" => "Where people talk to the node.",
        "http" => {
            "The API for programs and the page for browsers ([http.md](http.md)). For TLS, use a proxy."
        }
        "log" => "The log lines that consoles print as they happen.",
        "answers" => "How answers are generated unless a request says otherwise.",
        _ => "",
    }
}

/// The keys, section by section.
fn sections() -> impl Iterator<Item = (&'static str, &'static [Key])> {
    TABLE.chunk_by(|one, next| one.section == next.section).map(|keys| (keys[0].section, keys))
}

/// A file that sets nothing, with every key and its default in comments.
pub fn default_file() -> String {
    let defaults = Config::default();
    let mut text = FILE_HEAD.to_string();
    for (section, keys) in sections() {
        text += &format!("\n[{section}]\n");
        for key in keys {
            let default = key.toml(&defaults);
            let unset =
                if default.is_none() { format!(" Not set: {}.", key.why) } else { String::new() };
            text += &comment(&format!("{}.{unset}", key.about));
            text += &format!("#{} = {}\n\n", key.key, default.as_deref().unwrap_or(key.example));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Wraps text into comment lines.
fn comment(text: &str) -> String {
    let mut out = String::from("#");
    let mut column = 1;
    for word in text.split(' ') {
        if column + 1 + word.chars().count() > COMMENT_COLUMNS {
            out.push_str("\n#");
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.chars().count();
    }
    out + "\n"
}

/// docs/use/config.md.
pub fn reference() -> String {
    let defaults = Config::default();
    let mut text = REFERENCE_HEAD.to_string();
    for (section, keys) in sections() {
        text += &format!("\n## [{section}]\n\n{}\n\n", about_section(section));
        text += "| key | what it is | value | example | default, and why | option, variable |\n|---|---|---|---|---|---|\n";
        for key in keys {
            let default =
                key.toml(&defaults).map_or("not set".to_string(), |toml| format!("`{toml}`"));
            let short = key.short().map_or(String::new(), |letter| format!("`-{letter}`, "));
            let option = key
                .option
                .map(|option| format!("{short}`--{option} {}`", key.value.replace('|', "\\|")));
            let variable = key.variable().map(|variable| format!("`{variable}`"));
            let option = option.into_iter().chain(variable).collect::<Vec<_>>().join(", ");
            let (name, needs, Key { about, example, why, .. }) = (key.key, (key.needs)(), key);
            text += &format!(
                "| `{name}` | {about} | {needs} | `{example}` | {default}: {why} | {option} |\n"
            );
        }
    }
    text
}
