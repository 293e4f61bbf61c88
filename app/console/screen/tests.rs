//! The screen on a small terminal that obeys VT100 sequences: a person must always see a whole
//! line, with any input and output.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use unicode_segmentation::UnicodeSegmentation;

use super::draw::width;
use super::*;

/// A terminal of endless length: rows of cells, and a cursor.
struct Emulator {
    rows: Vec<Vec<String>>,
    column: usize,
    bells: usize,
}

impl Emulator {
    fn new() -> Emulator {
        Emulator { rows: vec![Vec::new()], column: 0, bells: 0 }
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
struct Console {
    screen: Screen,
    emulator: Emulator,
}

impl Console {
    fn new() -> Console {
        let mut console = Console { screen: Screen::new(true), emulator: Emulator::new() };
        console.act(Screen::invite);
        console
    }

    /// Runs an action, shows its output, and returns the output's length in bytes.
    fn act(&mut self, act: impl FnOnce(&mut Screen)) -> usize {
        act(&mut self.screen);
        let bytes = self.screen.output().to_vec();
        self.emulator.take(&bytes);
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
    let mut console = Console::new();
    console.types("why is the sk");
    console.act(|screen| screen.note("· peer 7 is here"));
    console.types("y");
    assert_eq!(console.emulator.text(), "· peer 7 is here\n> why is the sky\n");
    console.types("\r");
    assert_eq!(console.screen.poll(), Some(Typed::Line("why is the sky".to_string())));
}

#[test]
fn during_an_answer_notes_wait_for_the_end_of_its_line() {
    let mut console = Console::new();
    console.types("ask a\r");
    assert_eq!(console.screen.poll(), Some(Typed::Line("ask a".to_string())));
    console.act(|screen| screen.answer("Once upon"));
    console.act(|screen| screen.note("· one"));
    console.act(|screen| screen.answer(" a time\nthere"));
    console.act(|screen| screen.note("· two"));
    console.types("stop\r");
    assert_eq!(console.screen.poll(), Some(Typed::Line("stop".to_string())));
    console.act(|screen| screen.answer(" was"));
    for _ in 0..20 {
        console.act(|screen| screen.note("· more"));
    }
    console.act(Screen::end_answer);
    console.act(|screen| screen.say("[figures]"));
    console.act(Screen::invite);
    let notes = "· more\n".repeat(15);
    let shown = format!(
        "> ask a\nOnce upon a time\n· one\nthere\n> stop\n was\n· two\n{notes}· 5 more lines: log shows them\n[figures]\n>\n"
    );
    assert_eq!(console.emulator.text(), shown);
}

#[test]
fn progress_stands_on_its_row_until_anything_else_is_said() {
    for sequences in [true, false] {
        let mut console = Console { screen: Screen::new(sequences), emulator: Emulator::new() };
        console.act(Screen::invite);
        console.types("ask a\r");
        assert_eq!(console.screen.poll(), Some(Typed::Line("ask a".to_string())));
        console.act(|screen| screen.progress("· 640 of 1024 prompt tokens"));
        assert_eq!(console.emulator.text(), "> ask a\n· 640 of 1024 prompt tokens\n");
        console.act(|screen| screen.progress("· 704 of 1024"));
        assert_eq!(console.emulator.text(), "> ask a\n· 704 of 1024\n");
        console.act(|screen| screen.note("· peer 7 is here"));
        console.act(|screen| screen.progress(&"wide ".repeat(40)));
        assert_eq!(console.emulator.rows.len(), 3, "it takes one row");
        console.act(|screen| screen.answer("Once"));
        console.act(|screen| screen.progress("· of another prompt"));
        console.act(Screen::end_answer);
        console.act(Screen::invite);
        console.act(|screen| screen.progress("· unasked"));
        assert_eq!(console.emulator.text(), "> ask a\n· peer 7 is here\nOnce\n>\n");
    }
}

#[test]
fn what_a_model_says_cannot_steer_the_terminal() {
    assert_eq!(harmless("a\tb\n\x1b[2J\rü\u{9b}1m"), "a\tb\n\u{fffd}[2J\u{fffd}ü\u{fffd}1m");
    let mut console = Console::new();
    console.act(|screen| screen.note("\x1b[2J"));
    assert_eq!(console.emulator.text(), "\u{fffd}[2J\n>\n");
}

#[test]
fn a_key_costs_few_bytes() {
    let mut console = Console::new();
    let line = "The quick brown fox jumps over the lazy dog, twice";
    let typed: usize = line.chars().map(|c| console.types(&c.to_string())).sum();
    assert_eq!(typed, line.len(), "a character at the end of the line is its own echo");
    assert!(console.types("\x1b[D") <= 1 && console.types("\x01") <= 5);
    assert!(console.types("\x7f") == 0, "nothing stands before the cursor");
    assert!(console.types("\x05\x7f") <= 2 + 5 + 3);
    let long: usize = (0..1_000).map(|_| console.types("x")).sum();
    assert!(long < 4_500, "a long line costs {long} bytes for 1,000 keys");
}

#[test]
fn lines_that_come_at_once_are_dealt_with_one_after_the_other() {
    let mut console = Console::new();
    assert_eq!(
        console.means("one\r\n\ntwo\r"),
        [Typed::Line("one".to_string()), Typed::Line("two".to_string())]
    );
    assert_eq!(console.emulator.text(), "> one\n>\n> two\n>\n");
}

#[test]
fn a_long_line_takes_one_row_and_shows_the_part_around_the_cursor() {
    let mut console = Console::new();
    let words: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    let line = words.join(" ");
    console.types(&line);
    assert_eq!(console.emulator.rows.len(), 1);
    assert!(
        console.emulator.last().starts_with("><") && console.emulator.last().ends_with("398 399")
    );
    console.types("\x01");
    assert!(console.emulator.last().starts_with("> 0 1 2 3 ") && console.emulator.column == 2);
    console.types("\r");
    assert_eq!(console.screen.poll(), Some(Typed::Line(line)));
}

#[test]
fn control_c_drops_the_line_or_interrupts() {
    let mut console = Console::new();
    console.types("nonsense\x03");
    assert_eq!(console.screen.poll(), None);
    assert_eq!(console.emulator.text(), "> nonsense^C\n>\n");
    assert_eq!(console.means("\x03\x04"), [Typed::Interrupt, Typed::End]);
    console.act(|screen| screen.answer("Once"));
    console.types("half\x03");
    assert_eq!(
        console.screen.poll(),
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
    let mut emulator = Emulator::new();
    emulator.take(screen.output());
    assert_eq!(
        emulator.text(),
        "\n! the terminal was too slow: some output was left out\n> half a line\n"
    );
}

#[test]
fn a_line_beyond_the_limit_rings_and_is_refused_and_the_next_is_taken() {
    let mut console = Console::new();
    for _ in 0..40 {
        console.types(&"y".repeat(4_000));
    }
    assert!(console.emulator.bells > 0);
    assert_eq!(console.means("\rgood\r"), [Typed::TooLong, Typed::Line("good".to_string())]);
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
        let mut console = Console { screen: Screen::new(!dumb), emulator: Emulator::new() };
        console.act(Screen::invite);
        console.act(|screen| screen.set_columns(columns));
        let mut notes = 0;
        for event in events {
            match event {
                Event::Bytes(bytes) => {
                    console.bytes(&bytes);
                }
                Event::Note => {
                    notes += 1;
                    console.act(|screen| screen.note("· note"));
                }
                Event::Say => {
                    console.act(|screen| screen.say("said\ntwice"));
                }
                Event::Answer(text) => {
                    console.act(|screen| screen.answer(text));
                }
                Event::EndAnswer => {
                    console.act(Screen::end_answer);
                }
                Event::Progress => {
                    console.act(|screen| screen.progress("· 64 of 1024 prompt tokens"));
                }
            }
            while console.screen.poll().is_some() {}
            if console.screen.row == Row::Empty {
                console.act(Screen::invite);
            }
        }
        console.act(Screen::end_answer);
        console.act(Screen::invite);
        let (last, column) = (console.emulator.last(), console.emulator.column);
        prop_assert!(column < columns);
        let mut fresh = Emulator::new();
        console.screen.shown.clear();
        console.screen.at = 0;
        console.screen.draw();
        fresh.take(console.screen.output());
        prop_assert_eq!((last, column), (fresh.last(), fresh.column));
        prop_assert!(console.emulator.text().matches("· note").count() <= notes);
        prop_assert!(!console.emulator.text().contains("prompt tokens"), "progress stays after the fact");
    }
}
