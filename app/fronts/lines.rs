//! Plain line input: from a pipe, or from a terminal whose own driver edits the lines.

use std::io::{self, BufRead, Read};
use std::thread;

use smol::channel::{Receiver, bounded};

use crate::limits::MAX_PROMPT_BYTES;

/// A line, or why it was rejected.
pub(super) type Line = Result<String, BadLine>;

/// Why a console line was rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadLine {
    TooLong,
    NotUtf8,
    /// A drastic command among other lines.
    Pasted,
}

impl BadLine {
    /// What to do about it.
    pub(super) fn remedy(self) -> String {
        match self {
            BadLine::TooLong => format!("a line may have {MAX_PROMPT_BYTES} bytes: shorten it"),
            BadLine::Pasted => "that came together with other lines, as pasted text does, and is not obeyed: type it alone. \
                                Lines between two \"\"\" are one prompt"
                .to_string(),
            BadLine::NotUtf8 => "that was not UTF-8: set the terminal to UTF-8 and type it again".to_string(),
        }
    }
}

/// Reads standard input line by line on its own thread, because reading a file or pipe blocks.
pub(super) fn read_lines() -> io::Result<Receiver<Line>> {
    lines_of(|| io::stdin().lock())
}

/// The same for another input, opened on that thread.
pub(super) fn lines_of<R: BufRead>(
    open: impl FnOnce() -> R + Send + 'static,
) -> io::Result<Receiver<Line>> {
    let (sender, receiver) = bounded(1);
    thread::Builder::new().name("console".to_string()).spawn(move || {
        let mut input = open();
        while let Some(line) = read_line(&mut input) {
            if sender.send_blocking(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Reads one line of at most `MAX_PROMPT_BYTES`; a longer one is read to its end and dropped. None
/// at the end of the input.
fn read_line(input: &mut impl BufRead) -> Option<Line> {
    let mut bytes = Vec::new();
    let limit = MAX_PROMPT_BYTES as u64 + 1;
    match input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 == limit {
        while !matches!(bytes.last(), Some(b'\n')) {
            bytes.clear();
            match input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        return Some(Err(BadLine::TooLong));
    }
    let line = str::from_utf8(&bytes).map_err(|_| BadLine::NotUtf8);
    Some(line.map(|line| line.trim_end_matches(['\r', '\n']).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_refused_whole_and_the_next_is_read() {
        let mut text = vec![b'x'; 3 * MAX_PROMPT_BYTES];
        text.extend_from_slice(b"\nhello\r\n\xffz");
        let mut input = io::BufReader::new(&text[..]);
        assert_eq!(read_line(&mut input), Some(Err(BadLine::TooLong)));
        assert_eq!(read_line(&mut input), Some(Ok("hello".to_string())));
        assert_eq!(read_line(&mut input), Some(Err(BadLine::NotUtf8)));
        assert_eq!(read_line(&mut input), None);
    }
}
