//! The consoles of the real binary, on real terminals: several at once, unplugged, stalled, with
//! noise on the line; and a board that starts whatever is wrong.

mod attached;
mod cables;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use potluck::console;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use serde_json::Value;
use tempfile::TempDir;

use crate::processes::node::until;
use terminal::{Node, Terminal, pause, plug};

static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("consoles.gguf");
    synth(Shape::Demo, 9, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    path
});

fn potluck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    // Ignores the settings of this machine.
    command.env("POTLUCK_CONFIG", "");
    command.env("TERM", "vt100");
    command
}

/// A board's boot partition, and settings that make these terminals its consoles.
struct Board {
    dir: TempDir,
}

impl Board {
    fn new(devices: &[&Path]) -> Board {
        let dir = tempfile::tempdir().unwrap();
        let devices: Vec<String> =
            devices.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
        let settings = format!(
            "[console]\ndevices = [{}]\npower = true\n[answers]\nmax_tokens = 6\n[memory]\ncontext = 4096\n",
            devices.join(", ")
        );
        fs::write(dir.path().join("board.toml"), settings).unwrap();
        Board { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.sharing();
        command.arg("--alone").args(options);
        command
    }

    /// A node with sharing on.
    fn sharing(&self) -> Command {
        let mut command = potluck();
        command
            .args(["run", "--defaults"])
            .arg(self.at("board.toml"))
            .arg("--config")
            .arg(self.at("potluck.toml"));
        command
    }

    fn start_with_model(&self) -> Node {
        fs::write(
            self.at("potluck.toml"),
            format!(
                "[node]\nname = \"kitchen\"\n[model]\nfile = {:?}\n",
                MODEL.display().to_string()
            ),
        )
        .unwrap();
        Node::start(&mut self.command(&[]))
    }
}

#[test]
fn two_consoles_of_one_node_each_have_their_own_answers_and_settings() {
    let (mut one, mut other) = (Terminal::new(), Terminal::new());
    let board = Board::new(&[&one.path, &other.path]);
    let _node = board.start_with_model();
    for terminal in [&mut one, &mut other] {
        terminal.sees("· potluck ");
        terminal.sees("> ");
        terminal.sees("kitchen (node ");
        terminal.sees("is ready");
    }
    one.types("set max-tokens 3\rHello there\r");
    one.sees("3 generated; ");
    other.types("Hello there\r");
    let said = other.sees("6 generated; ");
    assert!(!said.contains("3 generated"), "{said}");
    assert!(
        !said.contains("[6 prompt tokens: 0 own"),
        "one console reuses what the other computed: {said}"
    );
    pause(100);
    other.types("quit\r");
    other.sees("! this console belongs to the node and stays");
    // A long answer can be stopped only from the console that asked.
    one.types("set max-tokens 4000\rask tell me all\r");
    one.sees("> ask tell me all\r\n");
    other.types("stop\r");
    other.sees("! nothing is being answered");
    one.types("\x03");
    one.sees("; stopped]");
    other.types("status\r");
    other.sees("kitchen");
}

#[test]
fn a_note_while_a_line_is_typed_leaves_the_line_whole_and_an_unplugged_console_comes_back() {
    let mut terminal = Terminal::new();
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("serial");
    let mut gadget = Terminal::new();
    plug(&link, &gadget.path);
    let board = Board::new(&[&terminal.path, &link]);
    let _node = board.start_with_model();
    terminal.sees("is ready");
    gadget.sees("is ready");
    terminal.types("ver");
    terminal.sees("> ver");
    gadget.types("ask half a que");
    drop(gadget);
    let said = terminal.sees("it is opened again when it is back\r\n> ver");
    assert!(
        said.contains("\r\x1b[K· console "),
        "the line is cleared before the note is printed: {said:?}"
    );
    terminal.types("sion\r");
    terminal.sees(concat!("\r\npotluck ", env!("CARGO_PKG_VERSION"), "\r\n"));
    let mut again = Terminal::new();
    plug(&link, &again.path);
    again.sees("is ready");
    again.types("version\r");
    again.sees("version\r\npotluck ");
}

#[test]
fn a_terminal_that_takes_nothing_keeps_nobody_waiting() {
    let (mut terminal, mut stalled) = (Terminal::new(), Terminal::unread());
    let board = Board::new(&[&terminal.path, &stalled.path]);
    let _node = board.start_with_model();
    terminal.sees("is ready");
    for _ in 0..200 {
        stalled.types("help\r");
    }
    terminal.types("Hello there\r");
    terminal.sees(" generated; ");
}

#[test]
fn a_board_without_a_model_comes_up_and_says_what_to_do() {
    let mut terminal = Terminal::new();
    let board = Board::new(&[&terminal.path]);
    fs::write(board.at("potluck.toml"), "[memory]\nslab = lots\n").unwrap();
    let _node = Node::start(&mut board.command(&[]));
    terminal.sees(":2:8: this is neither a number nor text");
    terminal.sees("> ");
    terminal.sees("! no model: put a .gguf file beside ");
    terminal.types("Why is the sky blue?\r");
    terminal.sees("! no model: ");
    terminal.types("config check\r");
    terminal.sees("potluck.toml:2:8: ");
    terminal.types("config\r");
    terminal.sees("console.power = true");
    terminal.sees("board.toml:3");
    terminal.types("log\r");
    terminal.sees(" error  no model");
    terminal.types("status --json\r");
    terminal.sees("{\"event\":\"error\",\"reason\":\"no model");
    terminal.types("version\r");
    terminal.sees("\r\npotluck ");
}

#[test]
fn a_damaged_model_or_no_file_of_settings_stops_no_board() {
    let mut terminal = Terminal::new();
    let board = Board::new(&[&terminal.path]);
    fs::write(board.at("broken.gguf"), "once upon a time").unwrap();
    let _node = Node::start(&mut board.sharing());
    terminal.sees("potluck.toml: cannot be read");
    terminal.sees("! nothing is shared: ");
    terminal.sees("! no model: ");
    terminal.sees("broken.gguf: is not a GGUF file");
}

/// Every console must say why the board is not in its swarm.
#[test]
fn a_key_that_cannot_be_understood_is_told_on_every_console_and_the_board_answers() {
    let mut terminals = [Terminal::new(), Terminal::new()];
    let board = Board::new(&[&terminals[0].path, &terminals[1].path]);
    let model = MODEL.display().to_string();
    fs::write(
        board.at("potluck.toml"),
        format!("[model]\nfile = {model:?}\n[swarm]\nkey = 12345\n"),
    )
    .unwrap();
    let _node = Node::start(&mut board.sharing());
    for terminal in &mut terminals {
        terminal.sees("! nothing is shared: ");
        terminal.sees("potluck.toml:4:7: key = (hidden): a passphrase");
        terminal.sees(" is ready with ");
        terminal.types("status\r");
        terminal.sees("swarm    shut: ");
        terminal.types("hello\r");
        terminal.sees(" generated; ");
    }
}

#[test]
fn reboot_says_farewell_and_runs_the_boards_command() {
    let mut terminal = Terminal::new();
    let board = Board::new(&[&terminal.path]);
    let sbin = board.at("sbin");
    fs::create_dir(&sbin).unwrap();
    let done = board.at("done");
    let script = format!("#!/bin/sh\necho rebooted > {}\nkill -TERM $PPID\n", done.display());
    for command in ["reboot", "poweroff"] {
        fs::write(sbin.join(command), &script).unwrap();
        fs::set_permissions(sbin.join(command), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(board.at("potluck.toml"), "").unwrap();
    let path = format!("{}:/usr/bin:/bin", sbin.display());
    let mut node = Node::start(board.command(&[]).env("PATH", &path));
    terminal.sees("! no model");
    terminal.types("reboot\r");
    terminal.sees("· leaving the swarm");
    assert!(node.ended().success());
    assert_eq!(fs::read_to_string(done).unwrap(), "rebooted\n");
}

#[test]
fn every_command_replies_in_json_on_a_terminal() {
    let mut terminal = Terminal::new();
    let board = Board::new(&[&terminal.path]);
    fs::write(
        board.at("potluck.toml"),
        format!("[model]\nfile = {:?}\n[console]\npower = false\n", MODEL.display().to_string()),
    )
    .unwrap();
    let _node = Node::start(&mut board.command(&[]));
    terminal.sees("is ready");
    for word in console::words() {
        let text = if ["ask", "chat", "raw"].contains(&word) { " Hello there" } else { "" };
        terminal.types(format!("{word} --json{text}\r"));
        let last = match word {
            "ask" | "chat" | "raw" => "\"done\"",
            "set" | "system" => "\"settings\"",
            "new" => "\"ok\"",
            "reset" => "\"reset\"",
            "stop" | "reboot" | "poweroff" | "quit" => "\"error\"",
            "bench" => "\"bench\"",
            word => &format!("\"{word}\""),
        };
        let begin = format!("{{\"event\":{last}");
        terminal.sees(&begin);
        let line = begin + terminal.sees("\r\n").trim_end();
        let event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{word}: {error} in {line}"));
        assert!(event.is_object());
    }
}

#[test]
fn a_person_edits_the_line_and_noise_does_no_harm() {
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let mut node = terminal
        .stdio(potluck().args(["run", "--alone", "--max-tokens", "4", "--model"]).arg(&*MODEL));
    terminal.sees("is ready");
    terminal.sees("> ");
    assert_ne!(
        terminal.modes().local_modes,
        before.local_modes,
        "the terminal must be in raw mode"
    );
    // Backspace deletes whole characters, with accents and wide ones; then the command is completed
    // at its start.
    terminal.types("东京cafe\u{301}\x7f\x7f\x7f\x7f\x7f\x7fersion\x01v\r");
    terminal.sees("\r\npotluck ");
    // Control characters, half an escape sequence and invalid UTF-8, then a line that counts.
    terminal.types(b"\x00\x02\x1b[9999;\x1b]\x0e\xff\xc3(\x80\x15version\r\n");
    terminal.sees("\r\npotluck ");
    terminal.types(b"caf\xe9\r");
    terminal.sees("! that was not UTF-8");
    terminal.types("\x1b[A\x1b[A\x10\r");
    terminal.sees("\r\npotluck ");
    terminal.types("half a line\x03");
    terminal.sees("^C\r\n> ");
    terminal.types("\x03");
    terminal.sees("quit or Ctrl-D leaves");
    terminal.types("Helo\rhlep\r");
    terminal.sees("there is no command hlep: did you mean help?");
    terminal.types("exit\r");
    terminal.sees("there is no command exit: did you mean quit?");
    let pasted: String = (0..20).map(|_| "version\r\n").collect();
    terminal.types(pasted);
    (0..20).for_each(|_| drop(terminal.sees("\r\npotluck ")));
    terminal.types("x".repeat(3_000));
    terminal.types("\x15\x04");
    assert!(node.ended().success());
    let after = terminal.modes();
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
}

#[test]
fn a_dumb_terminal_gets_no_escape_sequence() {
    let mut terminal = Terminal::new();
    let board = Board::new(&[&terminal.path]);
    fs::write(board.at("potluck.toml"), "").unwrap();
    let _node = Node::start(board.command(&[]).env("TERM", "dumb"));
    let mut said = terminal.sees("! no model");
    terminal.types("vexx\x7f\x7frsion and more");
    terminal.types("\x17\x17\x7f\r");
    said += &terminal.sees("\r\npotluck ");
    assert!(!said.contains('\x1b'), "{said:?}");
}
