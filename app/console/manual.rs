//! What the table prints: docs/console.md, and the manual page potluck-console(7).

use super::settings::SETTINGS;
use super::table::{TABLE, usage};

const HEAD: &str = "\
# The console

`potluck console reference` printed this page from the table that also reads the commands; a test compares them. `potluck console man`
prints the same as a manual page.

`potluck run` has a console on standard input, or on every terminal that `devices` in `[console]` of `potluck.toml` names, such as the
board's serial lines: 115200 bits a second, 8 data bits, no parity, UTF-8. Several consoles at once each have their own line,
conversation and settings. Type a prompt, or one of the commands below. A line with more words than a command takes is a prompt too, so
that \"help me write a poem\" is one; `ask` before a line makes it one for certain.

Answers, and what a command asks for, come as they are. Other lines are marked: `·` is a note, `!` is what went wrong, `[...]` holds an
answer's figures. On a pipe the former go to standard output, the latter to standard error.

";

const TAIL: &str = "
## JSON

Every command takes `--json` behind its word (`status --json`, `ask --json TEXT`) and then replies with one JSON object a line, each
with its kind in `event`. `potluck run --json` takes requests and gives such events only. A request
is one object a line, and may come before the answers to those before it:

| request | what it is |
|---|---|
| `{\"ask\": \"text\"}` | the text is answered by itself, as `ask` does it |
| `{\"chat\": \"text\"}` | the next turn of the conversation; `conversation` names another than the usual one, so that a script may have several |
| `{\"command\": \"peers\"}` | any line of this page; `{\"command\": \"new\", \"conversation\": \"name\"}` forgets one of several conversations |

| with `ask` and `chat` | what it is |
|---|---|
| `id` | a number that the events of this answer carry; it must not be in use. One is drawn where it is left out: 4294967296 and up |
| `max_tokens`, `temperature`, `top_k`, `top_p`, `seed`, `repeat_penalty`, `repeat_last_n`, `stop` | as `set` has them, for this answer; `stop` is a list of texts |
| `raw` | true: the text as it stands; false: in the chat template, whatever the model. With `ask` only |
| `system` | what the model is told before; in a conversation it counts when that begins. \"\" for nothing |
| `drop_oldest` | true or false, as `set` has it. With `chat` only |

Prompts are answered one after another, in the order of their requests. 64 may be due at once, 16 conversations may be open; beyond the
former the node reads on when one is answered. At the end of the input, and after `quit`, it gives the answers that are due and ends.

| event | what it holds |
|---|---|
| `ready` | `node`, `model`, `chat`, `fingerprint`, `tcp_port`: the node takes prompts; `chat` says whether the model is a chat model |
| `progress` | `id`, `prompt_tokens`, `own`, `peers`, `computed`: how far a prompt has come and where its state is from, at most once a second while its first token takes longer than that |
| `text` | `id`, `text`: more of an answer |
| `done` | `id`, `text`, `tokens`, `figures`: a whole answer; `finish` in `figures` says why it ended |
| `failed` | `id`, `reason`: no answer |
| `status`, `peers`, `catalog`, `slab`, `stats`, `bench`, `settings`, `config`, `log`, `help`, `version` | what the command asked for, under the same name |
| `reset`, `acknowledged`, `reset_ended` | what becomes of a reset that was asked for here |
| `ok` | `command`: it is done, and there is nothing to say |
| `note` | `text`: a line of the log |
| `error` | `reason`, and `id` where the request had one: it was not understood, or cannot be obeyed |

| `finish` | why an answer ended |
|---|---|
| `end` | the model ended it |
| `stop` | a stop string came; `text` ends before it |
| `length` | it has as many tokens as were asked for |
| `context`, `slab` | the context, or the memory for KV state, is full |
| `stopped` | somebody said stop |

## Keys

On a terminal the line is edited in place; with `TERM=dumb`, or on a pipe, plain lines are read.

| key | |
|---|---|
| Enter | gives the line to the node |
| Ctrl-C | stops the answer, or drops the line |
| Backspace, Delete, Ctrl-D | take the character before or at the cursor away; Ctrl-D on an empty line ends the input (on standard input) |
| Left, Right, Home, End, Ctrl-B, Ctrl-F, Ctrl-A, Ctrl-E | move the cursor; with Ctrl or Alt, Left and Right move by words |
| Up, Down, Ctrl-P, Ctrl-N | bring back earlier lines |
| Ctrl-U, Ctrl-K, Ctrl-W | take away what stands before the cursor, from it on, or the word before it |
| Tab | completes a command |
| Ctrl-L | draws the screen anew |
";

/// docs/console.md.
pub fn reference() -> String {
    let mut text = HEAD.to_string();
    text += "| command | what it does |\n|---|---|\n";
    for entry in TABLE {
        text += &format!("| `{}` | {} |\n", usage(entry).replace('|', "\\|"), entry.help);
    }
    for entry in TABLE.iter().filter(|entry| !entry.more.is_empty()) {
        text += &format!("\n## {}\n\n{}\n", entry.word, entry.more);
        if entry.word == "set" {
            text += "\n| name | what it is |\n|---|---|\n";
            SETTINGS.iter().for_each(|(name, about)| text += &format!("| `{name}` | {about} |\n"));
        }
    }
    text + TAIL
}

/// The manual page, in roff's man macros.
pub fn man_page() -> String {
    let mut text = String::from(
        ".TH POTLUCK-CONSOLE 7\n.SH NAME\npotluck-console \\- what can be typed to a potluck node\n.SH DESCRIPTION\n\
         A line is a prompt, or one of these commands. Each takes\n.B \\-\\-json\nbehind its word.\n.SH COMMANDS\n",
    );
    for entry in TABLE {
        text += &format!(".TP\n.B {}\n{}\n", roff(&usage(entry)), sentence(entry.help));
        if !entry.more.is_empty() {
            text += &format!("{}\n", roff(&entry.more.replace('`', "")));
        }
    }
    text += ".SH SETTINGS\nWhat\n.B set\nknows:\n";
    SETTINGS.iter().for_each(|(name, about)| text += &format!(".TP\n.B {}\n{}\n", roff(name), sentence(about)));
    text + ".SH SEE ALSO\ndocs/console.md, docs/config.md\n"
}

/// A line of help as a sentence.
fn sentence(help: &str) -> String {
    let mut letters = help.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    roff(&format!("{first}{}.", letters.as_str()))
}

/// Text in which roff sees no request and no escape.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manuals_have_every_command() {
        for entry in TABLE {
            assert!(reference().contains(entry.help), "{}", entry.word);
            assert!(man_page().contains(&format!(".B {}", roff(&usage(entry)))), "{}", entry.word);
        }
    }
}
