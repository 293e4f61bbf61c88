//! The screen on a small terminal that obeys VT100 sequences: a person must always see a whole
//! line, with any input and output.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use unicode_segmentation::UnicodeSegmentation;

use super::draw::width;
use super::*;

/// A terminal of endless length: rows of cells, and a cursor.
struct Terminal {
    rows: Vec<Vec<String>>,
    column: usize,
    bells: usize,
}

impl Terminal {
    fn new() -> Terminal {
        Terminal { rows: vec![Vec::new()], column: 0, bells: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = str::from_utf8(bytes).expect("a screen sends UTF-8");
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end =
                    sequence.find(|c: char| c.is_ascii_alphabetic()).expect("a sequence ends");
                let count = sequence[..end].parse().unwrap_or(1);
                match &sequence[end..=end] {
                    "K" => self.row().truncate_at(),
                    "C" => self.column += count,
                    "D" => {
                        self.column =
                            self.column.checked_sub(count).expect("the cursor stays on its row")
                    }
                    "H" => {}
                    "h" | "l" => assert_eq!(&sequence[..end], "?2004", "pasted text is marked"),
                    "J" => self.rows = vec![Vec::new()],
                    other => panic!("terminals need not know {other}"),
                }
                if &sequence[end..=end] == "J" {
                    self.column = 0;
                }
                rest = &sequence[end + 1..];
                continue;
            }
            let grapheme =
                if c.is_control() { &rest[..c.len_utf8()] } else { first_grapheme(rest) };
            match grapheme {
                "\r" => self.column = 0,
                "\n" => self.rows.push(Vec::new()),
                "\x08" => {
                    self.column = self.column.checked_sub(1).expect("the cursor stays on its row")
                }
                "\x07" => self.bells += 1,
                other => self.put(other),
            }
            rest = &rest[grapheme.len()..];
        }
    }

    fn row(&mut self) -> RowAt<'_> {
        let column = self.column;
        RowAt { row: self.rows.last_mut().expect("a row"), column }
    }

    fn put(&mut self, grapheme: &str) {
        let (column, width) = (self.column, width(grapheme));
        let row = self.rows.last_mut().expect("a row");
        if width == 0 {
            if let Some(cell) = column.checked_sub(1).and_then(|at| row.get_mut(at)) {
                cell.push_str(grapheme);
            }
            return;
        }
        while row.len() < column + width {
            row.push(" ".to_string());
        }
        row[column] = grapheme.to_string();
        row[column + 1..column + width].iter_mut().for_each(String::clear);
        self.column += width;
    }

    fn last(&self) -> String {
        self.rows.last().expect("a row").concat().trim_end().to_string()
    }

    fn text(&self) -> String {
        self.rows.iter().map(|row| row.concat().trim_end().to_string() + "\n").collect()
    }
}

struct RowAt<'a> {
    row: &'a mut Vec<String>,
    column: usize,
}

impl RowAt<'_> {
    fn truncate_at(self) {
        self.row.truncate(self.column);
    }
}

fn first_grapheme(text: &str) -> &str {
    text.graphemes(true).next().unwrap_or_default()
}

/// A screen and what its terminal shows.
struct Desk {
    screen: Screen,
    terminal: Terminal,
}

impl Desk {
    fn new() -> Desk {
        let mut desk = Desk { screen: Screen::new(true), terminal: Terminal::new() };
        desk.act(Screen::invite);
        desk
    }

    /// Runs an action, shows its output, and returns the output's length in bytes.
    fn act(&mut self, act: impl FnOnce(&mut Screen)) -> usize {
        act(&mut self.screen);
        let bytes = self.screen.output().to_vec();
        self.terminal.take(&bytes);
        self.screen.sent(bytes.len());
        bytes.len()
    }

    /// Types the text as far as the screen takes it at once.
    fn types(&mut self, text: &str) -> usize {
        self.bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> usize {
        self.act(|screen| {
            screen.feed(bytes);
        })
    }

    /// Types a text and returns what it meant, in order.
    fn means(&mut self, text: &str) -> Vec<Typed> {
        let mut rest = text.as_bytes();
        let mut meant = Vec::new();
        while !rest.is_empty() {
            let bytes = rest;
            let mut taken = 0;
            self.act(|screen| taken = screen.feed(bytes));
            rest = &rest[taken..];
            meant.extend(self.screen.poll());
            self.act(Screen::invite);
        }
        meant
    }
}

#[test]
fn a_note_stands_above_the_line_that_is_typed() {
    let mut desk = Desk::new();
    desk.types("why is the sk");
    desk.act(|screen| screen.note("· peer 7 is here"));
    desk.types("y");
    assert_eq!(desk.terminal.text(), "· peer 7 is here\n> why is the sky\n");
    desk.types("\r");
    assert_eq!(desk.screen.poll(), Some(Typed::Line("why is the sky".to_string())));
}

#[test]
fn during_an_answer_notes_wait_for_the_end_of_its_line() {
    let mut desk = Desk::new();
    desk.types("ask a\r");
    assert_eq!(desk.screen.poll(), Some(Typed::Line("ask a".to_string())));
    desk.act(|screen| screen.answer("Once upon"));
    desk.act(|screen| screen.note("· one"));
    desk.act(|screen| screen.answer(" a time\nthere"));
    desk.act(|screen| screen.note("· two"));
    desk.types("stop\r");
    assert_eq!(desk.screen.poll(), Some(Typed::Line("stop".to_string())));
    desk.act(|screen| screen.answer(" was"));
    for _ in 0..20 {
        desk.act(|screen| screen.note("· more"));
    }
    desk.act(Screen::end_answer);
    desk.act(|screen| screen.say("[figures]"));
    desk.act(Screen::invite);
    let notes = "· more\n".repeat(15);
    let shown = format!(
        "> ask a\nOnce upon a time\n· one\nthere\n> stop\n was\n· two\n{notes}· 5 more lines: log shows them\n[figures]\n>\n"
    );
    assert_eq!(desk.terminal.text(), shown);
}

#[test]
fn progress_stands_on_its_row_until_anything_else_is_said() {
    for sequences in [true, false] {
        let mut desk = Desk { screen: Screen::new(sequences), terminal: Terminal::new() };
        desk.act(Screen::invite);
        desk.types("ask a\r");
        assert_eq!(desk.screen.poll(), Some(Typed::Line("ask a".to_string())));
        desk.act(|screen| screen.progress("· 640 of 1024 prompt tokens"));
        assert_eq!(desk.terminal.text(), "> ask a\n· 640 of 1024 prompt tokens\n");
        desk.act(|screen| screen.progress("· 704 of 1024"));
        assert_eq!(desk.terminal.text(), "> ask a\n· 704 of 1024\n");
        desk.act(|screen| screen.note("· peer 7 is here"));
        desk.act(|screen| screen.progress(&"wide ".repeat(40)));
        assert_eq!(desk.terminal.rows.len(), 3, "it takes one row");
        desk.act(|screen| screen.answer("Once"));
        desk.act(|screen| screen.progress("· of another prompt"));
        desk.act(Screen::end_answer);
        desk.act(Screen::invite);
        desk.act(|screen| screen.progress("· unasked"));
        assert_eq!(desk.terminal.text(), "> ask a\n· peer 7 is here\nOnce\n>\n");
    }
}

#[test]
fn what_a_model_says_cannot_steer_the_terminal() {
    assert_eq!(harmless("a\tb\n\x1b[2J\rü\u{9b}1m"), "a\tb\n\u{fffd}[2J\u{fffd}ü\u{fffd}1m");
    let mut desk = Desk::new();
    desk.act(|screen| screen.note("\x1b[2J"));
    assert_eq!(desk.terminal.text(), "\u{fffd}[2J\n>\n");
}

#[test]
fn a_key_costs_few_bytes() {
    let mut desk = Desk::new();
    let line = "The quick brown fox jumps over the lazy dog, twice";
    let typed: usize = line.chars().map(|c| desk.types(&c.to_string())).sum();
    assert_eq!(typed, line.len(), "a character at the end of the line is its own echo");
    assert!(desk.types("\x1b[D") <= 1 && desk.types("\x01") <= 5);
    assert!(desk.types("\x7f") == 0, "nothing stands before the cursor");
    assert!(desk.types("\x05\x7f") <= 2 + 5 + 3);
    let long: usize = (0..1_000).map(|_| desk.types("x")).sum();
    assert!(long < 4_500, "a long line costs {long} bytes for 1,000 keys");
}

#[test]
fn lines_that_come_at_once_are_dealt_with_one_after_the_other() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.means("one\r\n\ntwo\r"),
        [Typed::Line("one".to_string()), Typed::Line("two".to_string())]
    );
    assert_eq!(desk.terminal.text(), "> one\n>\n> two\n>\n");
}

#[test]
fn a_long_line_takes_one_row_and_shows_the_part_around_the_cursor() {
    let mut desk = Desk::new();
    let words: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    let line = words.join(" ");
    desk.types(&line);
    assert_eq!(desk.terminal.rows.len(), 1);
    assert!(desk.terminal.last().starts_with("><") && desk.terminal.last().ends_with("398 399"));
    desk.types("\x01");
    assert!(desk.terminal.last().starts_with("> 0 1 2 3 ") && desk.terminal.column == 2);
    desk.types("\r");
    assert_eq!(desk.screen.poll(), Some(Typed::Line(line)));
}

#[test]
fn control_c_drops_the_line_or_interrupts() {
    let mut desk = Desk::new();
    desk.types("nonsense\x03");
    assert_eq!(desk.screen.poll(), None);
    assert_eq!(desk.terminal.text(), "> nonsense^C\n>\n");
    assert_eq!(desk.means("\x03\x04"), [Typed::Interrupt, Typed::End]);
    desk.act(|screen| screen.answer("Once"));
    desk.types("half\x03");
    assert_eq!(
        desk.screen.poll(),
        Some(Typed::Interrupt),
        "Ctrl-C stops an answer even with a line typed"
    );
}

#[test]
fn a_terminal_that_takes_nothing_costs_bounded_memory_and_recovers() {
    let mut screen = Screen::new(true);
    screen.invite();
    screen.feed(b"half a li");
    for _ in 0..10_000 {
        screen.note("· a note of some length, to fill what there is");
    }
    assert!(screen.output().len() <= MAX_TERMINAL_OUTPUT_BYTES);
    let waiting = screen.output().len();
    screen.sent(waiting);
    screen.feed(b"ne");
    let mut terminal = Terminal::new();
    terminal.take(screen.output());
    assert_eq!(
        terminal.text(),
        "\n! the terminal was too slow: some output was left out\n> half a line\n"
    );
}

#[test]
fn a_line_beyond_the_limit_rings_and_is_refused_and_the_next_is_taken() {
    let mut desk = Desk::new();
    for _ in 0..40 {
        desk.types(&"y".repeat(4_000));
    }
    assert!(desk.terminal.bells > 0);
    assert_eq!(desk.means("\rgood\r"), [Typed::TooLong, Typed::Line("good".to_string())]);
}

/// An input or output event.
#[derive(Clone, Debug)]
enum Event {
    Bytes(Vec<u8>),
    Note,
    Say,
    Answer(&'static str),
    EndAnswer,
    Progress,
}

fn event() -> impl Strategy<Value = Event> {
    let piece = prop::sample::select(vec![
        "a",
        "b ",
        "é",
        "e\u{301}",
        "東",
        "👩\u{200d}💻",
        "🇩🇪",
        "\u{301}",
        "\r",
        "\n",
        "\r\n",
        "\x7f",
        "\x03",
        "\x04",
        "\x15",
        "\x0b",
        "\x17",
        "\x01",
        "\x05",
        "\x0c",
        "\t",
        "\x1b[A",
        "\x1b[B",
        "\x1b[C",
        "\x1b[D",
        "\x1b[1;5D",
        "\x1b[3~",
        "\x1b",
        "long long text ",
        "another long piece of text that fills rows ",
    ]);
    prop_oneof![
        6 => piece.prop_map(|text| Event::Bytes(text.as_bytes().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Event::Bytes),
        1 => Just(Event::Note),
        1 => Just(Event::Say),
        1 => prop::sample::select(vec!["word ", "line\n", "東\n\n", "e\u{301}"]).prop_map(Event::Answer),
        1 => Just(Event::EndAnswer),
        1 => Just(Event::Progress),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() })]

    /// After any events in any order, the last row shows the prompt and the line with the cursor in
    /// place, as if drawn at once; and every note is there.
    #[test]
    fn the_row_that_is_edited_is_always_whole(events in prop::collection::vec(event(), 0..80), columns in 20_usize..90, dumb in any::<bool>()) {
        let mut desk = Desk { screen: Screen::new(!dumb), terminal: Terminal::new() };
        desk.act(Screen::invite);
        desk.act(|screen| screen.set_columns(columns));
        let mut notes = 0;
        for event in events {
            match event {
                Event::Bytes(bytes) => {
                    desk.bytes(&bytes);
                }
                Event::Note => {
                    notes += 1;
                    desk.act(|screen| screen.note("· note"));
                }
                Event::Say => {
                    desk.act(|screen| screen.say("said\ntwice"));
                }
                Event::Answer(text) => {
                    desk.act(|screen| screen.answer(text));
                }
                Event::EndAnswer => {
                    desk.act(Screen::end_answer);
                }
                Event::Progress => {
                    desk.act(|screen| screen.progress("· 64 of 1024 prompt tokens"));
                }
            }
            while desk.screen.poll().is_some() {}
            if desk.screen.row == Row::Empty {
                desk.act(Screen::invite);
            }
        }
        desk.act(Screen::end_answer);
        desk.act(Screen::invite);
        let (last, column) = (desk.terminal.last(), desk.terminal.column);
        prop_assert!(column < columns);
        let mut fresh = Terminal::new();
        desk.screen.shown.clear();
        desk.screen.at = 0;
        desk.screen.draw();
        fresh.take(desk.screen.output());
        prop_assert_eq!((last, column), (fresh.last(), fresh.column));
        prop_assert!(desk.terminal.text().matches("· note").count() <= notes);
        prop_assert!(!desk.terminal.text().contains("prompt tokens"), "progress stays after the fact");
    }
}
