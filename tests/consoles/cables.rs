//! Cables that echo: a board's own terminals answer regardless of the settings, and input that no
//! person typed is not a prompt.

use super::*;

/// Starts the board with its own terminals `own`, regardless of its settings.
fn with_own(board: &Board, own: &[&Terminal]) -> Node {
    let mut command = board.command(&[]);
    for terminal in own {
        command.arg("--board-console").arg(&terminal.path);
    }
    Node::start(&mut command)
}

/// A board whose settings name `devices`, with a model that answers.
fn board(devices: &[&Path]) -> Board {
    let board = Board::new(&[]);
    let list: Vec<String> =
        devices.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    let model = MODEL.display().to_string();
    fs::write(
        board.at("potluck.toml"),
        format!("[model]\nfile = {model:?}\n[console]\ndevices = [{}]\n", list.join(", ")),
    )
    .unwrap();
    board
}

/// Uncommenting the example in the settings file once muted the board.
#[test]
fn a_boards_own_terminals_answer_whatever_devices_says() {
    let (mut own, mut usb, mut late) = (Terminal::new(), Terminal::new(), Terminal::new());
    let links = tempfile::tempdir().unwrap();
    let (absent, alias) = (links.path().join("ttyS0"), links.path().join("serial0"));
    plug(&alias, &own.path);
    let board = board(&[&absent, &usb.path, &alias]);
    let _node = with_own(&board, &[&own, &usb]);
    let said = own.sees("is ready");
    assert!(
        said.contains(&format!(
            "console {} is not there: it is opened as soon as it is",
            absent.display()
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "console {}: it is a terminal that has a console already",
            alias.display()
        )),
        "{said}"
    );
    usb.sees("is ready");
    // Two consoles on one terminal would each get half of the input.
    for _ in 0..20 {
        own.types("version\r");
        own.sees("> version\r\npotluck ");
    }
    own.types("help quit\r");
    own.sees("! this console belongs to the node and stays");
    own.types("exit\r");
    own.sees("! this console belongs to the node and stays");
    own.types("help\r");
    let help = own.sees("Tab completes a command");
    assert!(help.contains("reboot") && !help.contains("quit"), "{help}");
    plug(&absent, &late.path);
    late.sees("is ready");
    late.types("version\r");
    late.sees("\r\npotluck ");
}

#[test]
fn a_terminal_that_echoes_asks_nothing_and_another_console_says_so() {
    let (mut terminal, echo) = (Terminal::new(), Terminal::echoing());
    let board = board(&[]);
    let _node = with_own(&board, &[&terminal, &echo]);
    let note = format!("console {}: 1 line of the board's own came back", echo.path.display());
    if !terminal.sees("is ready").contains(&note) {
        terminal.sees(&note);
    }
    for round in 0..3 {
        terminal.types(format!("set seed {round}\r"));
        terminal.sees(&format!("seed {round}\r\n"));
    }
    terminal.types("stats\r");
    terminal.sees("prompts  0 answered, 0 refused");
}

#[test]
fn a_program_that_looks_for_modems_asks_nothing_and_noise_spoils_no_line() {
    let (mut terminal, mut usb) = (Terminal::new(), Terminal::new());
    let board = board(&[]);
    let _node = with_own(&board, &[&terminal, &usb]);
    usb.sees("is ready");
    terminal.sees("is ready");
    for command in ["AT\r", "ATE1 E0\r\n", "AT+GCAP\r", "AT S7=45 S0=0 L1 V1 X4 &c1 E1 Q0\r"] {
        usb.types(command);
    }
    terminal.sees(&format!(
        "console {}: a program at the other end looks for a modem",
        usb.path.display()
    ));
    usb.types(b"~\x00x\xf0~");
    pause(700);
    usb.types("set seed 77\r");
    usb.sees("\r\nseed 77\r\n");
    terminal.sees("1 line of bytes that are not text ignored");
    terminal.types("stats\r");
    terminal.sees("prompts  0 answered, 0 refused");
}

/// Each of these inputs once became three prompts, or shut the board down.
#[test]
fn pasted_lines_are_one_prompt_where_that_can_be_known_and_never_take_the_board_down() {
    let mut terminal = Terminal::new();
    let board = board(&[]);
    let mut node = with_own(&board, &[&terminal]);
    terminal.sees("is ready");
    terminal.types("\x1b[200~Hello there\rreboot\rpoweroff\r\x1b[201~");
    terminal.sees("Hello there\u{21b5}reboot\u{21b5}poweroff");
    terminal.types("\r");
    terminal.sees(" generated; ");
    // A terminal without bracketed paste.
    terminal.types("set seed 5\rreboot\r");
    terminal.sees("! that came together with other lines, as pasted text does, and is not obeyed");
    terminal.types("reset --store\rset seed 6\r");
    terminal.sees("! that came together with other lines");
    terminal.sees("seed 6\r\n");
    terminal.types("\"\"\"\rHello\r\rpoweroff\r");
    terminal.sees("| poweroff");
    terminal.types("\"\"\"\r");
    terminal.sees(" generated; ");
    terminal.types("\"\"\"\rone\r");
    terminal.sees("| one");
    terminal.types("\x03");
    terminal.sees("· the unfinished prompt was dropped");
    terminal.types("stats\r");
    terminal.sees("prompts  2 answered, 0 refused");
    assert!(node.0.try_wait().unwrap().is_none());
    terminal.types("st\t\t");
    terminal.sees("stop  status  stats\r\n");
}

#[test]
fn messages_name_the_setting_on_a_board_and_the_option_on_a_computer() {
    let mut terminal = Terminal::new();
    let board = board(&[]);
    let settings = fs::read_to_string(board.at("potluck.toml")).unwrap();
    fs::write(board.at("potluck.toml"), settings + "[memory]\ncontext = 32\n").unwrap();
    let _node = with_own(&board, &[&terminal]);
    terminal.sees("is ready");
    let long = "one two three four five ".repeat(20);
    terminal.types(format!("{long}\r"));
    let said = terminal.sees("raise context under [memory] in potluck.toml");
    assert!(!said.contains("--context"), "{said}");
    let mut computer = Terminal::new();
    let _node = computer
        .stdio(potluck().args(["run", "--alone", "--context", "32", "--model"]).arg(&*MODEL));
    computer.sees("is ready");
    computer.types(format!("{long}\r"));
    computer.sees("raise --context");
}
