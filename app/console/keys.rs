//! Decodes a terminal's bytes into keys: UTF-8, control characters, and the escape sequences of
//! VT100 and xterm.
//!
//! Promises: accepts any bytes, in any pieces. Invalid UTF-8 becomes U+FFFD, unknown sequences are
//! skipped, and a broken sequence never swallows the line end that follows it. Keeps no more than a
//! few bytes.

/// What a person pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A printable character.
    Char(char),
    /// The end of the line, by CR, LF or CR LF.
    Enter,
    /// Deletes the character before the cursor.
    Backspace,
    /// Deletes the character at the cursor. Also Ctrl-D, which ends the input on an empty line.
    Delete {
        /// Whether it was Ctrl-D.
        or_end: bool,
    },
    /// One character to the left.
    Left,
    /// One character to the right.
    Right,
    /// One word to the left.
    WordLeft,
    /// One word to the right.
    WordRight,
    /// To the line's start.
    Home,
    /// To the line's end.
    End,
    /// The previous line of the history.
    Up,
    /// The next line of the history.
    Down,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-U: deletes everything before the cursor.
    KillStart,
    /// Ctrl-K: deletes everything from the cursor on.
    KillEnd,
    /// Ctrl-W: deletes the word before the cursor.
    KillWord,
    /// Ctrl-L: redraws the screen.
    Redraw,
    /// Completes a command's name.
    Tab,
    /// A paste begins or ends.
    Paste {
        /// Whether it begins.
        begins: bool,
    },
    /// The terminal reports how many columns it has.
    Columns(u16),
    /// A control character that no key sends.
    Noise,
}

/// Longest escape sequence, in bytes; a longer one is abandoned.
const MAX_SEQUENCE: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    /// After ESC.
    Escape,
    /// After ESC [.
    Bracket,
    /// After ESC O.
    Letter,
}

/// The decoder.
pub(crate) struct Keys {
    state: State,
    /// Parameters of a sequence.
    sequence: heapless::Vec<u8, MAX_SEQUENCE>,
    /// An incomplete UTF-8 character.
    bytes: heapless::Vec<u8, 4>,
    /// The last byte was CR: an LF belongs to it.
    after_cr: bool,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            state: State::Ground,
            sequence: heapless::Vec::new(),
            bytes: heapless::Vec::new(),
            after_cr: false,
        }
    }
}

impl Keys {
    /// Takes one byte and returns the keys that it completes, two at most.
    pub(crate) fn push(&mut self, byte: u8) -> [Option<Key>; 2] {
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        if byte < 0x20 || byte == 0x7f {
            // A control character ends any incomplete sequence or character.
            let broken = self.broken();
            let was = std::mem::replace(&mut self.state, State::Ground);
            if byte == 0x1b {
                self.state = State::Escape;
                self.sequence.clear();
                return [broken, None];
            }
            let after_meta = was == State::Escape && (byte == 0x7f || byte == 0x08);
            let key = if after_meta { Some(Key::KillWord) } else { control(byte, after_cr) };
            return [broken, key];
        }
        match self.state {
            State::Ground => self.text(byte),
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Bracket,
                    b'O' => State::Letter,
                    _ => State::Ground,
                };
                let key = match byte {
                    b'b' => Some(Key::WordLeft),
                    b'f' => Some(Key::WordRight),
                    _ => None,
                };
                [key, None]
            }
            State::Letter => {
                self.state = State::Ground;
                [final_key(byte, &[]), None]
            }
            State::Bracket if (0x40..0x7f).contains(&byte) => {
                self.state = State::Ground;
                [final_key(byte, &self.sequence), None]
            }
            State::Bracket => {
                if byte >= 0x80 || self.sequence.push(byte).is_err() {
                    self.state = State::Ground;
                }
                [None, None]
            }
        }
    }

    /// Whether the next byte starts a new key.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::Ground && self.bytes.is_empty()
    }

    fn text(&mut self, byte: u8) -> [Option<Key>; 2] {
        let mut keys = [None, None];
        if byte & 0xc0 != 0x80 {
            keys[0] = self.broken();
        }
        if self.bytes.push(byte).is_err() {
            self.bytes.clear();
        }
        match str::from_utf8(&self.bytes) {
            Ok(text) => {
                // Control characters beyond ASCII would steer the terminal when shown.
                keys[1] = text.chars().next().filter(|c| !c.is_control()).map(Key::Char);
                self.bytes.clear();
            }
            Err(error) if error.error_len().is_some() => keys[1] = self.broken(),
            Err(_) => {}
        }
        keys
    }

    /// The replacement for an incomplete character, if there is one.
    fn broken(&mut self) -> Option<Key> {
        let any = !self.bytes.is_empty();
        self.bytes.clear();
        any.then_some(Key::Char(char::REPLACEMENT_CHARACTER))
    }
}

fn control(byte: u8, after_cr: bool) -> Option<Key> {
    Some(match byte {
        b'\n' if after_cr => return None,
        b'\r' | b'\n' => Key::Enter,
        0x7f | 0x08 => Key::Backspace,
        b'\t' => Key::Tab,
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 => Key::Interrupt,
        0x04 => Key::Delete { or_end: true },
        0x05 => Key::End,
        0x06 => Key::Right,
        0x0b => Key::KillEnd,
        0x0c => Key::Redraw,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x15 => Key::KillStart,
        0x17 => Key::KillWord,
        // Programs with software flow control send XON and XOFF unasked.
        0x11 | 0x13 => return None,
        _ => Key::Noise,
    })
}

/// The key for a sequence that ends with this byte.
fn final_key(byte: u8, parameters: &[u8]) -> Option<Key> {
    // xterm says "with Ctrl" or "with Alt" in a second parameter.
    let by_words = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if by_words => Key::WordRight,
        b'D' if by_words => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'~' => match parameters {
            b"1" | b"7" => Key::Home,
            b"4" | b"8" => Key::End,
            b"3" => Key::Delete { or_end: false },
            b"200" => Key::Paste { begins: true },
            b"201" => Key::Paste { begins: false },
            _ => return None,
        },
        // xterm's reply to CSI 18 t: rows, then columns.
        b't' => Key::Columns(columns(parameters)?),
        _ => return None,
    })
}

fn columns(parameters: &[u8]) -> Option<u16> {
    let (rows, columns) = str::from_utf8(parameters).ok()?.strip_prefix("8;")?.split_once(';')?;
    rows.parse::<u16>().ok()?;
    columns.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Keys::default();
        bytes.iter().flat_map(|&byte| decoder.push(byte)).flatten().collect()
    }

    #[test]
    fn keys_of_terminals_are_known() {
        let cases: [(&[u8], &[Key]); 14] = [
            ("ä€😀".as_bytes(), &[Key::Char('ä'), Key::Char('€'), Key::Char('😀')]),
            (b"\x1b[A\x1bOB\x1b[C\x1b[D", &[Key::Up, Key::Down, Key::Right, Key::Left]),
            (
                b"\x1b[1;5C\x1b[1;3D\x1bb\x1bf",
                &[Key::WordRight, Key::WordLeft, Key::WordLeft, Key::WordRight],
            ),
            (b"\x1b[H\x1b[4~\x1b[3~", &[Key::Home, Key::End, Key::Delete { or_end: false }]),
            (b"\r\n\r\r\n\n", &[Key::Enter, Key::Enter, Key::Enter, Key::Enter]),
            (b"\x1b[99~\x1b[?25h\x11\x1b[Z", &[]),
            (
                b"\x00\x1b[200~a\r\x1b[201~",
                &[
                    Key::Noise,
                    Key::Paste { begins: true },
                    Key::Char('a'),
                    Key::Enter,
                    Key::Paste { begins: false },
                ],
            ),
            (b"\x1b[8;24;132t\x1b[8;24t\x1b[9;1;1t\x1b[8;24;70000t", &[Key::Columns(132)]),
            (b"\x1b[1\r", &[Key::Enter]),
            (b"\x1b\x1b[A", &[Key::Up]),
            (b"\x7f\x08\x1b\x7f", &[Key::Backspace, Key::Backspace, Key::KillWord]),
            (b"\xe2\x82\r", &[Key::Char('\u{fffd}'), Key::Enter]),
            (
                b"caf\xe9s",
                &[
                    Key::Char('c'),
                    Key::Char('a'),
                    Key::Char('f'),
                    Key::Char('\u{fffd}'),
                    Key::Char('s'),
                ],
            ),
            ("\u{9b}2J".as_bytes(), &[Key::Char('2'), Key::Char('J')]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }
}
