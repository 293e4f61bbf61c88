//! The screen on a cable whose other end is not a person: a terminal that echoes, a program that
//! looks for modems, bytes at another speed. Also pasted text.

use super::*;

/// The far end of a cable, and the time.
struct Cable {
    screen: Screen,
    now: u64,
    sent: usize,
}

impl Cable {
    fn new() -> Cable {
        Cable { screen: Screen::on_cable(true), now: 1_000, sent: 0 }
    }

    /// Lets time pass as the terminal's driver does, which reports that nothing more has arrived.
    fn passes(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 1;
            self.screen.at(Millis(self.now));
            if self.screen.wait() == Some(1) {
                self.screen.pause();
            }
        }
    }

    fn types(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let (mut rest, mut typed) = (bytes, Vec::new());
        loop {
            let taken = self.screen.feed(rest);
            rest = &rest[taken..];
            let some = self.screen.poll();
            if rest.is_empty() && some.is_none() {
                return typed;
            }
            typed.extend(some);
            self.screen.invite();
        }
    }

    fn output(&mut self) -> Vec<u8> {
        let output = self.screen.output().to_vec();
        self.screen.sent(output.len());
        self.sent += output.len();
        output
    }
}

/// What Linux echoes on a terminal that nobody has set up: `cat /dev/ttyACM0`.
fn echoed(bytes: &[u8]) -> Vec<u8> {
    let echo = |&byte: &u8| match byte {
        b'\r' | b'\n' => b"\r\n".to_vec(),
        0..b' ' => vec![b'^', byte + b'@'],
        _ => vec![byte],
    };
    bytes.iter().flat_map(echo).collect()
}

#[test]
fn a_terminal_that_echoes_gets_no_answers_and_soon_there_is_silence() {
    for piece in [1, 7, 64, 4_096] {
        let mut cable = Cable::new();
        cable.passes(1);
        cable.screen.note("· potluck 0.1.0; help lists the commands");
        cable.screen.note("! no model: put a .gguf file beside /boot/potluck.toml");
        cable.screen.invite();
        let mut told = 0;
        for round in 0..4_000 {
            cable.passes(2);
            if round % 1_000 == 500 {
                cable.screen.note(&format!("· peer {round} is here"));
            }
            let echo = echoed(&cable.output());
            for typed in echo.chunks(piece).flat_map(|piece| cable.types(piece)).collect::<Vec<_>>()
            {
                match typed {
                    Typed::Dropped(Dropped::Echo, count) => {
                        told += 1;
                        cable.screen.note(&format!("· {count} lines of the board's own came back"));
                    }
                    other => panic!("{other:?} was obeyed, in pieces of {piece}"),
                }
            }
        }
        assert!(
            told >= 1 && cable.sent < 2_000,
            "{told} told, {} bytes sent, in pieces of {piece}",
            cable.sent
        );
        // Then a person arrives.
        assert_eq!(cable.types(b"hello\r"), [Typed::Line("hello".to_string())]);
    }
}

#[test]
fn a_program_that_looks_for_modems_gets_no_answer_and_the_persons_first_line_is_whole() {
    let mut cable = Cable::new();
    cable.passes(1);
    cable.screen.invite();
    cable.output();
    let mut typed = Vec::new();
    for command in [&b"AT\r"[..], b"AT\r\n", b"ATE1 E0\r", b"AT+GCAP\r", b"~\x00x\xf0~"] {
        cable.passes(3_000);
        typed.extend(cable.types(command));
    }
    assert_eq!(typed, [Typed::Dropped(Dropped::Probe, 1)], "only the first is reported");
    let said = String::from_utf8(cable.output()).unwrap();
    assert!(
        !said.contains("OK") && !said.contains("ERROR"),
        "either would make it a modem: {said:?}"
    );
    cable.passes(3_000);
    let typed = cable.types("café\r".as_bytes());
    assert_eq!(typed, [Typed::Dropped(Dropped::Noise, 1), Typed::Line("café".to_string())]);
}

#[test]
fn bytes_at_another_speed_are_dropped_and_stop_nothing() {
    let mut cable = Cable::new();
    cable.passes(1);
    cable.screen.invite();
    let noise: Vec<u8> =
        (0..4_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8 | 0x80).collect();
    let mut typed = Vec::new();
    for piece in noise.chunks(40) {
        typed.extend(cable.types(&[piece, &b"\x00\x00\x03\r"[..]].concat()));
    }
    assert!(
        typed.iter().all(|typed| matches!(typed, Typed::Dropped(Dropped::Noise, _))),
        "{typed:?}"
    );
    assert_eq!(typed.len(), 3, "the first, the tenth, the hundredth");
    assert_eq!(
        cable.types(b"caf\xe9 society\r"),
        [Typed::NotUtf8],
        "a person is told about the terminal's character set"
    );
}

#[test]
fn a_person_types_and_pastes_what_was_said_before_and_every_line_counts() {
    let mut cable = Cable::new();
    cable.passes(1);
    cable.screen.note("· peer 7 is here");
    cable.screen.answer("The sky is blue");
    cable.screen.end_answer();
    cable.screen.invite();
    cable.output();
    cable.passes(100);
    // A key every 100 ms, with letters that begin like the output.
    let mut typed = Vec::new();
    for byte in "The sky? · peer\r".bytes() {
        cable.passes(100);
        typed.extend(cable.types(&[byte]));
    }
    assert_eq!(typed, [Typed::Line("The sky? · peer".to_string())]);
    cable.passes(2_500);
    for text in ["The sky is blue", "· peer 7 is here"] {
        assert_eq!(
            cable.types(format!("{text}\r").as_bytes()),
            [Typed::Line(text.to_string())],
            "copied and pasted"
        );
    }
    let lines = cable.types(b"version\rversion\rversion\r");
    assert_eq!(lines, vec![Typed::Line("version".to_string()); 3]);
}

#[test]
fn pasted_text_is_one_line_that_waits_for_enter() {
    let mut cable = Cable::new();
    cable.passes(1);
    cable.screen.invite();
    assert!(String::from_utf8(cable.output()).unwrap().contains(MARK_PASTE));
    assert_eq!(cable.types(b"\x1b[200~one\rreboot\r\nAT\r\x1b[201~"), []);
    assert!(String::from_utf8(cable.output()).unwrap().contains("one\u{21b5}reboot\u{21b5}AT"));
    assert_eq!(cable.types(b"\r"), [Typed::Line("one\nreboot\nAT".to_string())]);
    // If the end marker was lost, a pause ends the paste.
    assert_eq!(cable.types(b"\x1b[200~two\r"), []);
    cable.passes(PASTE_PAUSE_MS);
    assert_eq!(cable.types(b" more\r"), [Typed::Line("two more".to_string())]);
    cable.screen.farewell();
    assert!(String::from_utf8(cable.output()).unwrap().ends_with(LEAVE_PASTE));
}
