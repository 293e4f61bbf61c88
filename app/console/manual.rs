//! Documents generated from the table: docs/use/console.md and the manual page potluck-console(7).

use super::settings::SETTINGS;
use super::table::{TABLE, usage};

const HEAD: &str = "\
# The console

`potluck console reference` printed this page from the table that also reads the commands; a test compares them. `potluck console man`
prints the same as a manual page.

`potluck run` has a console on standard input, or on every terminal that `devices` in `[console]` of `potluck.toml` names. A board's
serial line and USB port have one each whatever stands there: 115200 bits a second, 8 data bits, no parity, UTF-8. With `socket` in `[console]`,
`potluck console` attaches more of them by a Unix socket. Several consoles at once each have their own line,
conversation and settings. Type a prompt, or one of the commands below. A line with more words than a command takes is a prompt too, so
that \"help me write a poem\" is one; `ask` before a line makes it one for certain.

Answers and the output of commands have no mark. Other lines have one: `·` is a note, `!` says what went wrong, `[...]` holds an
answer's figures. On a pipe, lines without a mark go to standard output, marked ones to standard error.

";

const TAIL: &str = "
## Several lines

`\"\"\"` begins a prompt of several lines, and `\"\"\"` ends it. This also works after `ask`, `chat`, `raw` and `system`, and on a pipe. The lines
between are never commands. Meanwhile a terminal shows `|` instead of `>`; Ctrl-C drops the prompt.

Pasted text stays one line, with its line ends shown as `\u{21b5}`, and waits for Enter: several lines are then one prompt. Most terminals mark
pasted text (xterm, PuTTY, and the terminals that picocom or screen run in). In one that does not, each pasted line is a line of its own, and `reset`,
`reboot`, `poweroff` and `quit` are obeyed only if no other line comes with them.

## Cables

A serial line has no login, and not everything that comes over it was typed by a person. The terminals of a board, and those of `devices`, ignore
the following; a line of the log says so the first, the tenth and the hundredth time:

- commands for modems alone on a line, such as `AT` and `ATE1 E0`: programs that look for a modem send them to every new serial port.
  They get no answer, because even `ERROR` would make the board look like a modem;
- lines of bytes that are not text, which a wrong speed produces; noise before a pause of half a second does not spoil the next line;
- the board's own lines when they come back within two seconds, because the other end echoes (`cat /dev/ttyACM0`).

## JSON

Every command takes `--json` behind its word (`status --json`, `ask --json TEXT`) and then replies with one JSON object a line, each
with its kind in `event`. `potluck run --json` and `potluck console --json` take requests and give such events only. A request
is one object a line. You need not wait for an answer before you send the next request:

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
| `system` | what the model is told before; in a conversation it counts when that begins. \"\" for nothing. Refused where the text is completed as it stands, for that has no place for it; so is `ask` after `--system` or the command `system` |
| `drop_oldest` | true or false, as `set` has it. With `chat` only |

The node answers prompts one after another, in the order of their requests. 64 prompts may be due at once, and 16 conversations may be open. Further
requests wait in their order, up to a megabyte of them. `stop` ends those too, and a request that only asks for information, such as
`status`, is answered at once. At the end of the input, and after `quit`, the node gives the answers that are due and ends.

| event | what it holds |
|---|---|
| `ready` | `node`, `model`, `chat`, `fingerprint`, `tcp_port`: the node takes prompts; `chat` says whether the model is a chat model |
| `progress` | `id`, `prompt_tokens`, `own`, `peers`, `computed`: how far a prompt has come and where its state is from, at most once a second while its first token takes longer than that |
| `text` | `id`, `text`: more of an answer |
| `done` | `id`, `text`, `tokens`, `figures`: a whole answer; `finish` in `figures` says why it ended |
| `failed` | `id`, `reason`: no answer |
| `status`, `peers`, `catalog`, `slab`, `stats`, `bench`, `settings`, `config`, `log`, `help`, `version` | what the command asked for, under the same name |
| `reset`, `acknowledged`, `reset_ended` | what becomes of a reset that was asked for here |
| `ok` | `command`: it was done, and has no output |
| `note` | `text`: a line of the log |
| `error` | `reason`, and `id` if the request had one: the request was not understood, or cannot be obeyed |

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
| Backspace, Delete, Ctrl-D | delete the character before or at the cursor; Ctrl-D on an empty line ends the input or detaches the console |
| Left, Right, Home, End, Ctrl-B, Ctrl-F, Ctrl-A, Ctrl-E | move the cursor; with Ctrl or Alt, Left and Right move by words |
| Up, Down, Ctrl-P, Ctrl-N | bring back earlier lines |
| Ctrl-U, Ctrl-K, Ctrl-W | delete the text before the cursor, the text from the cursor on, or the word before it |
| Tab | completes a command; pressed twice, lists what may follow |
| Ctrl-L | redraws the screen |
";

/// docs/use/console.md.
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
pub(crate) fn man_page() -> String {
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
    SETTINGS.iter().for_each(|(name, about)| {
        text += &format!(".TP\n.B {}\n{}\n", roff(name), sentence(about))
    });
    text + ".SH SEE ALSO\ndocs/use/console.md, docs/use/config.md\n"
}

/// Turns a help line into a sentence.
fn sentence(help: &str) -> String {
    let mut letters = help.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    roff(&format!("{first}{}.", letters.as_str()))
}

/// Escapes text so that roff sees no request or escape in it.
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
