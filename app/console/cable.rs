//! Filters what arrives over a serial cable besides a person's typing. Pure logic, no terminal:
//! bytes go in, and those that a person may have typed come out.
//!
//! A cable has no login, so anything a program at the other end sends would be taken for a prompt:
//! the `AT` of a program that looks for modems, bytes at another speed, or the board's own output,
//! which a computer sends back until something turns its terminal's echo off. Each echo would be
//! answered, and the answer echoed.
//!
//! Promises: only whole lines are dropped, each is counted, and a person who types loses nothing: a
//! line is dropped as an echo only within [`SAID_MS`] of its output, sooner than anybody can read
//! and copy it. While an echo is possible, bytes are held back for [`HOLD_MS`] at most, so that
//! nothing is drawn that would be echoed in turn. All state is of bounded size.

use std::collections::VecDeque;

use crate::id::Millis;

/// Output lines remembered: more than a note about a peer, an error and a greeting at once.
const SAID_LINES: usize = 32;
/// Bytes of each line that are compared. A line that matches this many is an echo.
const SAID_BYTES: usize = 256;
/// Shortest output that nobody retypes by chance, in bytes: "yes" and "4" are shorter.
const TELLING_BYTES: usize = 12;
/// Most bytes held back: a compared line, and the longer form in which an echo shows
/// escape sequences.
const HELD_BYTES: usize = 2 * SAID_BYTES;
/// Most time between a line's output and its echo.
const SAID_MS: u64 = 2_000;
/// How long bytes that may be an echo wait for the next byte. A terminal's echo comes within some
/// 20 ms, a person's next key after 100 ms.
const HOLD_MS: u64 = 150;
/// How long another echo is likely after one.
const SUSPECT_MS: u64 = 5_000;
/// Most time between the prompt sign's output and its echo.
const SIGN_MS: u64 = 1_000;
/// Bytes before a pause of this length are not part of a line typed after it.
pub(super) const PAUSE_MS: u64 = 500;

/// The prompt sign, shown before a line.
const SIGN: &[u8] = b"> ";

/// Why input was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// A modem command.
    Probe,
    /// Bytes that are not text.
    Noise,
    /// The board's own output.
    Echo,
}

/// The state of one cable.
#[derive(Default)]
pub(super) struct Cable {
    now: Millis,
    /// The last output lines, normalized for comparison, and their times.
    said: VecDeque<(Millis, Vec<u8>)>,
    /// Output on the current, unfinished row.
    row: Vec<u8>,
    /// Bytes that may start an echo.
    held: Vec<u8>,
    /// Times of the last byte, of the last echo, and of the last prompt sign.
    came: Millis,
    echoed: Option<Millis>,
    signed: Option<Millis>,
    /// The rest of an echoed long line is being dropped.
    is_dropping: bool,
    counts: [u64; 3],
}

/// What happens to a byte.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// A person typed these bytes, as far as can be told.
    Given(Vec<u8>),
    /// It is held until more arrives.
    Held,
    /// It ends a dropped line, which counts as an echo if it had text.
    Dropped {
        /// Whether the line had text.
        is_echo: bool,
    },
}

impl Cable {
    /// Sets the time.
    pub(super) fn at(&mut self, now: Millis) {
        self.now = now;
    }

    /// Records a whole output line.
    pub(super) fn said(&mut self, line: &str) {
        self.more(line);
        self.end_row();
    }

    /// Records more of an output line.
    pub(super) fn more(&mut self, text: &str) {
        let room = SAID_BYTES.saturating_sub(self.row.len());
        self.row.extend(text.bytes().take(room));
    }

    /// Ends the output line.
    pub(super) fn end_row(&mut self) {
        let line = plain(&std::mem::take(&mut self.row)).0;
        if !line.is_empty() {
            self.said.truncate(SAID_LINES - 1);
            self.said.push_front((self.now, line));
        }
    }

    /// Records that the prompt sign was shown.
    pub(super) fn signed(&mut self) {
        self.signed = Some(self.now);
    }

    /// Takes a byte that arrives where a line may begin.
    pub(super) fn take(&mut self, byte: u8) -> Taken {
        self.came = self.now;
        let is_end = matches!(byte, b'\r' | b'\n');
        if self.is_dropping {
            self.is_dropping = !is_end;
            return if is_end { Taken::Dropped { is_echo: true } } else { Taken::Held };
        }
        if byte == 0x03 || (byte < b' ' && !is_end && !self.is_suspicious()) {
            // Keys that a person presses, above all Ctrl-C. No echo begins with them unless one
            // came just now.
            return self.give(byte);
        }
        if is_end {
            let (line, _) = plain(&self.held);
            let is_echo = !line.is_empty() && self.is_own(&line);
            if is_echo || (line.is_empty() && self.is_suspicious()) {
                self.held.clear();
                if is_echo {
                    self.echoed = Some(self.now);
                }
                return Taken::Dropped { is_echo };
            }
            return self.give(byte);
        }
        self.held.push(byte);
        let (line, is_whole) = plain(&self.held);
        if line.len() >= SAID_BYTES && self.is_own(&line) {
            self.held.clear();
            self.echoed = Some(self.now);
            self.is_dropping = true;
            return Taken::Held;
        }
        let may_be =
            !is_whole || line.is_empty() || self.recent().any(|said| said.starts_with(&line));
        if may_be && self.held.len() <= HELD_BYTES {
            return Taken::Held;
        }
        let byte = self.held.pop().unwrap_or(byte);
        self.give(byte)
    }

    fn give(&mut self, byte: u8) -> Taken {
        let mut given = std::mem::take(&mut self.held);
        given.push(byte);
        Taken::Given(given)
    }

    /// Milliseconds until [`Cable::pause`] is due if nothing arrives.
    pub(super) fn wait(&self) -> Option<u64> {
        let waited = (self.now - self.came).0;
        (!self.held.is_empty() || self.is_dropping).then(|| HOLD_MS.saturating_sub(waited).max(1))
    }

    /// Releases bytes that were held back long enough: a person typed them. A bare prompt sign that
    /// comes soon after it was shown is dropped.
    pub(super) fn pause(&mut self) -> Vec<u8> {
        if (self.now - self.came).0 < HOLD_MS {
            return Vec::new();
        }
        self.is_dropping = false;
        let held = std::mem::take(&mut self.held);
        let (line, _) = plain(&held);
        let is_sign = held.windows(SIGN.len()).any(|part| part == SIGN)
            && self.signed.is_some_and(|signed| (self.now - signed).0 <= SIGN_MS);
        let is_ours = line.is_empty() && (is_sign || self.is_suspicious());
        if is_ours { Vec::new() } else { held }
    }

    /// Why a whole line was not typed by a person; none if it was.
    pub(super) fn drops(&mut self, line: &str) -> Option<Dropped> {
        if self.is_own(&plain(line.as_bytes()).0) {
            self.echoed = Some(self.now);
            return Some(Dropped::Echo);
        }
        is_probe(line).then_some(Dropped::Probe)
    }

    /// Counts dropped input. Returns the count when it is worth reporting: the first time, the
    /// tenth, the hundredth.
    pub(super) fn count(&mut self, what: Dropped) -> Option<u64> {
        let count = &mut self.counts[what as usize];
        *count += 1;
        let mut told = *count;
        while told.is_multiple_of(10) {
            told /= 10;
        }
        (told == 1).then_some(*count)
    }

    fn recent(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self
            .said
            .iter()
            .take_while(|(at, _)| (self.now - *at).0 <= SAID_MS)
            .map(|(_, line)| line.as_slice());
        lines.chain(Some(self.row.as_slice()).filter(|row| !row.is_empty()))
    }

    /// A short line may match by chance, so it counts as an echo only while echoes are suspected.
    fn is_own(&self, line: &[u8]) -> bool {
        let is_telling = line.len() >= TELLING_BYTES || self.is_suspicious();
        is_telling
            && !line.is_empty()
            && self.recent().any(|said| said == line || (is_cut(said) && line.starts_with(said)))
    }

    fn is_suspicious(&self) -> bool {
        self.echoed.is_some_and(|echoed| (self.now - echoed).0 <= SUSPECT_MS)
    }
}

/// Whether a remembered line was cut at the limit, allowing for trimmed blanks.
fn is_cut(said: &[u8]) -> bool {
    said.len() + 16 >= SAID_BYTES
}

/// A line without control sequences (raw, or as an echo shows them: `^[`), leading prompt signs and
/// trailing blanks; and whether its last sequence is complete.
fn plain(line: &[u8]) -> (Vec<u8>, bool) {
    let (mut text, mut rest) = (Vec::new(), line);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match (byte, behind.first()) {
            (0x1b, _) => behind,
            (b'^', Some(b'[')) => &behind[1..],
            (b'^', Some(b'@'..=b'_')) => {
                rest = &behind[1..];
                continue;
            }
            (b'^', None) => return (trimmed(text), false),
            (0..b' ', _) => {
                rest = behind;
                continue;
            }
            _ => {
                text.push(byte);
                rest = behind;
                continue;
            }
        };
        let Some(sequence) = rest.strip_prefix(b"[") else {
            if rest.is_empty() {
                return (trimmed(text), false);
            }
            continue;
        };
        let Some(end) = sequence.iter().position(|byte| (0x40..0x7f).contains(byte)) else {
            return (trimmed(text), false);
        };
        rest = &sequence[end + 1..];
    }
    (trimmed(text), true)
}

fn trimmed(text: Vec<u8>) -> Vec<u8> {
    let mut line = text.as_slice();
    while let Some(rest) = line.strip_prefix(SIGN) {
        line = rest;
    }
    if line == b">" { Vec::new() } else { line.trim_ascii_end().to_vec() }
}

/// Whether a line is a modem command and nothing else: `AT`, `ATE1 E0`, `AT+GCAP`, or minicom's
/// opening `AT S7=45 S0=0 L1 V1 X4 &c1 E1 Q0`. "At what age" and "ATLAS" are not.
pub(super) fn is_probe(line: &str) -> bool {
    let line = line.trim();
    let line = line.strip_prefix("+++").unwrap_or(line);
    let Some(mut rest) = line.strip_prefix("AT").or_else(|| line.strip_prefix("at")) else {
        return false;
    };
    if line.len() > 128 || !line.is_ascii() {
        return false;
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    while let Some(first) = rest.trim_start().chars().next() {
        rest = &rest.trim_start()[1..];
        match first {
            // Vendor and standard extensions take anything up to a semicolon.
            '+' | '*' | '^' | '%' | '$' | '#' => {
                if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                    return false;
                }
                rest = rest.split_once(';').map_or("", |(_, behind)| behind);
            }
            '&' | '\\' => {
                let Some(behind) = rest.strip_prefix(|c: char| c.is_ascii_alphabetic()) else {
                    return false;
                };
                rest = &behind[digits(behind)..];
            }
            'S' | 's' => {
                let count = digits(rest);
                let behind = &rest[count..];
                let value = behind
                    .strip_prefix('=')
                    .map(|value| &value[digits(value)..])
                    .or_else(|| behind.strip_prefix('?'));
                let Some(value) = value.filter(|_| count > 0) else { return false };
                rest = value;
            }
            'I' | 'Z' | 'H' | 'i' | 'z' | 'h' => rest = &rest[digits(rest)..],
            'E' | 'L' | 'M' | 'Q' | 'V' | 'X' | 'e' | 'l' | 'm' | 'q' | 'v' | 'x'
                if digits(rest) > 0 =>
            {
                rest = &rest[digits(rest)..]
            }
            _ => return false,
        }
        let stays =
            rest.is_empty() || rest.starts_with([' ', '+', '*', '^', '%', '$', '#', '&', '\\']);
        if !stays && !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(cable: &mut Cable, text: &str) -> Vec<Taken> {
        text.bytes().map(|byte| cable.take(byte)).filter(|taken| *taken != Taken::Held).collect()
    }

    #[test]
    fn commands_for_modems_are_known_and_words_are_none() {
        for line in [
            "AT",
            "ATE1 E0",
            "ATE0",
            "AT+GCAP",
            "ATI",
            "ATI1",
            "AT+CPIN?",
            "AT+CMEE=1",
            "ATQ0 V1 E1 S0=0 &C1 &D2",
            "AT S7=45 S0=0 L1 V1 X4 &c1 E1 Q0",
            "ATZ",
            "+++ATH",
            "AT^SYSINFO",
            "AT*ICCID?",
            "AT+CGMI;+CGMM",
            "at",
        ] {
            assert!(is_probe(line), "{line}");
        }
        for line in [
            "At what age do cats sleep?",
            "AT what age",
            "ATLAS",
            "ATP",
            "ATM",
            "ATHENS",
            "at noon",
            "AT & T",
            "AT&T?",
            "attention",
            "ATEX rules",
            "what is AT",
            "AT+",
            "",
        ] {
            assert!(!is_probe(line), "{line}");
        }
    }

    #[test]
    fn a_line_that_was_just_said_is_dropped_and_the_same_line_later_is_not() {
        let mut cable = Cable::default();
        cable.at(Millis(1_000));
        cable.said("· potluck; help lists the commands");
        assert_eq!(
            taken(&mut cable, "^[[K> · potluck; help lists the commands\r"),
            [Taken::Dropped { is_echo: true }]
        );
        assert_eq!(
            taken(&mut cable, "\n"),
            [Taken::Dropped { is_echo: false }],
            "the rest of an echo is dropped with it"
        );
        cable.at(Millis(1_000 + SAID_MS + 1));
        assert!(
            matches!(&taken(&mut cable, "·")[..], [Taken::Given(_), ..]),
            "a person who copies a line has read it first"
        );
    }

    #[test]
    fn what_only_begins_like_an_echo_is_given_at_once_or_after_a_moment() {
        let mut cable = Cable::default();
        cable.at(Millis(1_000));
        cable.said("help lists the commands");
        assert_eq!(taken(&mut cable, "he"), []);
        assert_eq!(taken(&mut cable, "y"), [Taken::Given(b"hey".to_vec())]);
        assert_eq!(taken(&mut cable, "help"), []);
        assert_eq!(cable.wait(), Some(HOLD_MS));
        cable.at(Millis(1_000 + HOLD_MS));
        assert_eq!(cable.pause(), b"help");
        assert_eq!(
            taken(&mut cable, "help\r").last(),
            Some(&Taken::Given(b"help\r".to_vec())),
            "the line differs from the output"
        );
        assert_eq!(
            taken(&mut cable, "\r"),
            [Taken::Given(b"\r".to_vec())],
            "a bare Enter comes from a person"
        );
    }

    #[test]
    fn a_long_line_that_comes_back_is_dropped_to_its_end_and_little_is_kept() {
        let mut cable = Cable::default();
        cable.at(Millis(5));
        let long = "word ".repeat(10_000);
        for _ in 0..100 {
            cable.said(&long);
        }
        assert!(
            cable.said.len() <= SAID_LINES
                && cable.said.iter().all(|(_, line)| line.len() <= SAID_BYTES)
        );
        assert_eq!(
            taken(&mut cable, &format!("{}\r", &long[..5_000])),
            [Taken::Dropped { is_echo: true }]
        );
        assert!(cable.held.is_empty());
        let counts: Vec<u64> = (0..1_500).filter_map(|_| cable.count(Dropped::Echo)).collect();
        assert_eq!(counts, [1, 10, 100, 1_000]);
    }
}
