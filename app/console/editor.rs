//! The line being edited, and its history. Pure logic, no terminal: keys go in, text and cursor
//! come out.
//!
//! A character is what a person sees as one, such as a letter with its accents or an emoji of
//! several parts (Unicode's extended grapheme clusters). The cursor never stands inside one.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::limits::MAX_PROMPT_BYTES;

use super::history::History;
use super::keys::Key;

/// What a key did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Edit {
    /// The text or the cursor may have changed.
    Changed,
    /// The key could not be applied.
    Refused,
    /// The line is complete, and the editor is empty.
    Line(String),
    /// The line was too long and was discarded.
    TooLong,
    /// The line held bytes that were not UTF-8 and was discarded.
    NotUtf8,
    /// The line held bytes that no person types and was discarded.
    Noise,
    /// List the possible completions.
    List,
    /// Ctrl-C; the line, if any, was discarded.
    Interrupt {
        /// Whether there was a line.
        line: bool,
    },
    /// Ctrl-D on an empty line.
    End,
    /// Redraw everything.
    Redraw,
}

/// How a text can be completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Completion {
    /// Only with this.
    Rest(String),
    /// In several ways.
    Several,
    /// No completion is known.
    Unknown,
}

/// The editor of one console.
#[derive(Default)]
pub(crate) struct Editor {
    text: String,
    /// Byte offset in `text`, at the start of a character.
    cursor: usize,
    /// Characters beyond the maximum length were refused.
    too_long: bool,
    history: History,
    /// The history line on show, counted from the latest; `draft` keeps the line that was
    /// being typed.
    shown: Option<usize>,
    draft: String,
    /// Input is being pasted: a line end is part of the text.
    is_pasted: bool,
    /// Control characters that no key sends, in this line.
    noise: usize,
    /// Whether the input is a cable, so that lines may be noise.
    is_on_cable: bool,
    /// The last key was a Tab that did nothing.
    is_tabbed: bool,
}

impl Editor {
    /// An editor for a serial cable, which may also carry programs' output and noise.
    pub(crate) fn on_cable() -> Editor {
        Editor { is_on_cable: true, ..Editor::default() }
    }

    /// Whether no person can have typed the line: it holds bytes at another speed or of a program's
    /// own protocol.
    pub(crate) fn is_noise(&self) -> bool {
        let broken = self.text.chars().filter(|&c| c == char::REPLACEMENT_CHARACTER).count();
        self.is_on_cable
            && (self.noise > 1
                || (self.noise > 0 && broken > 0)
                || 2 * broken > self.text.chars().count())
    }

    /// Whether input is being pasted.
    pub(crate) fn is_pasted(&self) -> bool {
        self.is_pasted
    }

    /// Sets whether the next lines continue a prompt, which the latest line began.
    pub(crate) fn set_continues(&mut self, continues: bool) {
        self.history.set_continues(continues);
    }

    /// Discards the line.
    pub(crate) fn clear(&mut self) {
        self.replace(String::new());
    }

    /// The line so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The cursor's byte offset.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Applies a key. `complete` returns how the line so far can be completed.
    pub(crate) fn apply(&mut self, key: Key, complete: impl Fn(&str) -> Completion) -> Edit {
        let was_tabbed = std::mem::take(&mut self.is_tabbed);
        match key {
            Key::Char(c) => return self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Tab | Key::Enter if self.is_pasted => {
                return self.insert(if key == Key::Tab { " " } else { "\n" });
            }
            Key::Tab => return self.tab(complete, was_tabbed),
            Key::Enter => return self.enter(),
            Key::Noise => self.noise += 1,
            // The screen has handled it.
            Key::Columns(_) => {}
            Key::Paste { begins } => return self.paste(begins),
            Key::Interrupt if self.is_noise() => {
                self.clear();
                return Edit::Noise;
            }
            Key::Interrupt => {
                let line = !self.text.is_empty();
                if !line {
                    self.history.drop_block();
                }
                self.replace(String::new());
                return Edit::Interrupt { line };
            }
            Key::Delete { or_end: true } if self.text.is_empty() => return Edit::End,
            Key::Redraw => return Edit::Redraw,
            Key::Backspace => self.remove(self.before(), self.cursor),
            Key::Delete { .. } => self.remove(self.cursor, self.after()),
            Key::KillStart => self.remove(0, self.cursor),
            Key::KillEnd => self.remove(self.cursor, self.text.len()),
            Key::KillWord => self.remove(self.word_before(), self.cursor),
            Key::Left => self.cursor = self.before(),
            Key::Right => self.cursor = self.after(),
            Key::WordLeft => self.cursor = self.word_before(),
            Key::WordRight => self.cursor = self.word_after(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.text.len(),
            Key::Up => self.browse(self.shown.map_or(0, |shown| shown + 1)),
            Key::Down => match self.shown {
                None => {}
                Some(0) => {
                    self.shown = None;
                    let draft = std::mem::take(&mut self.draft);
                    self.show(draft);
                }
                Some(shown) => self.browse(shown - 1),
            },
        }
        self.settle();
        Edit::Changed
    }

    fn insert(&mut self, text: &str) -> Edit {
        if self.text.len() + text.len() > MAX_PROMPT_BYTES {
            self.too_long = true;
            return Edit::Refused;
        }
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        self.settle();
        Edit::Changed
    }

    fn tab(&mut self, complete: impl Fn(&str) -> Completion, again: bool) -> Edit {
        if self.cursor < self.text.len() {
            return self.insert(" ");
        }
        match complete(&self.text) {
            Completion::Rest(rest) => self.insert(&rest),
            // Pasted text may hold tabs; to the model a space is near enough the same.
            Completion::Unknown if self.text.contains(' ') => self.insert(" "),
            _ if again => Edit::List,
            _ => {
                self.is_tabbed = true;
                Edit::Refused
            }
        }
    }

    /// Starts or ends a paste. Its final line end is not part of the text: the person submits it
    /// with Enter.
    fn paste(&mut self, begins: bool) -> Edit {
        if self.is_pasted && !begins && self.text[..self.cursor].ends_with('\n') {
            self.remove(self.cursor - 1, self.cursor);
        }
        self.is_pasted = begins;
        Edit::Changed
    }

    /// Ends a paste whose end marker was lost.
    pub(crate) fn end_paste(&mut self) {
        self.paste(false);
    }

    fn enter(&mut self) -> Edit {
        let is_noise = self.is_noise();
        let line = std::mem::take(&mut self.text);
        let too_long = self.too_long;
        self.replace(String::new());
        if is_noise {
            return Edit::Noise;
        }
        if too_long {
            return Edit::TooLong;
        }
        if line.contains(char::REPLACEMENT_CHARACTER) {
            return Edit::NotUtf8;
        }
        self.history.add(&line);
        Edit::Line(line)
    }

    fn browse(&mut self, to: usize) {
        let Some(line) = self.history.get(to).map(str::to_string) else { return };
        if self.shown.is_none() {
            self.draft = std::mem::take(&mut self.text);
        }
        self.show(line);
        self.shown = Some(to);
    }

    fn show(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    fn replace(&mut self, text: String) {
        self.show(text);
        self.too_long = false;
        (self.noise, self.is_pasted) = (0, false);
        self.shown = None;
        self.draft = String::new();
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
        if self.text.is_empty() {
            self.too_long = false;
            self.noise = 0;
        }
    }

    /// After a change, separate characters may have joined into one, for example an accent onto a
    /// space: moves the cursor behind it.
    fn settle(&mut self) {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        if at.is_boundary(&self.text, 0) != Ok(true) {
            self.cursor = self.after();
        }
    }

    fn before(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn after(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    fn word_before(&self) -> usize {
        let head = self.text[..self.cursor].trim_end_matches(' ');
        head.rfind(' ').map_or(0, |space| space + 1)
    }

    fn word_after(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        rest[spaces..].find(' ').map_or(self.text.len(), |word| self.cursor + spaces + word)
    }
}

/// The characters (grapheme clusters) of a text.
pub(super) fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.graphemes(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HISTORY_LINES;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn none(_: &str) -> Completion {
        Completion::Unknown
    }

    fn typed(editor: &mut Editor, text: &str) {
        text.chars().for_each(|c| drop(editor.apply(Key::Char(c), none)));
    }

    fn press(editor: &mut Editor, keys: &[Key]) {
        keys.iter().for_each(|&key| drop(editor.apply(key, none)));
    }

    #[test]
    fn backspace_takes_what_a_person_sees_as_one() {
        for (whole, left) in [
            ("naïve cafe\u{301}", "naïve caf"),
            ("東京", "東"),
            ("x👩\u{200d}💻", "x"),
            ("🇩🇪🇫🇷", "🇩🇪"),
            ("a\u{301}\u{302}\u{303}", ""),
        ] {
            let mut editor = Editor::default();
            typed(&mut editor, whole);
            press(&mut editor, &[Key::Backspace]);
            assert_eq!((editor.text(), editor.cursor()), (left, left.len()), "{whole}");
        }
    }

    #[test]
    fn words_and_ends_are_killed_and_reached() {
        let mut editor = Editor::default();
        typed(&mut editor, "ask why is  ");
        press(&mut editor, &[Key::KillWord]);
        assert_eq!(editor.text(), "ask why ");
        press(&mut editor, &[Key::WordLeft, Key::Left, Key::KillStart]);
        assert_eq!((editor.text(), editor.cursor()), (" why ", 0));
        press(
            &mut editor,
            &[Key::WordRight, Key::KillEnd, Key::Home, Key::Delete { or_end: true }],
        );
        assert_eq!((editor.text(), editor.cursor()), ("why", 0));
        assert_eq!(editor.apply(Key::Interrupt, none), Edit::Interrupt { line: true });
        assert_eq!(editor.apply(Key::Interrupt, none), Edit::Interrupt { line: false });
        assert_eq!(editor.apply(Key::Delete { or_end: true }, none), Edit::End);
        assert_eq!(editor.apply(Key::Delete { or_end: false }, none), Edit::Changed);
    }

    #[test]
    fn history_is_walked_and_the_line_begun_is_not_lost() {
        let mut editor = Editor::default();
        for line in ["one", "two", "two", " "] {
            typed(&mut editor, line);
            assert_eq!(editor.apply(Key::Enter, none), Edit::Line(line.to_string()));
        }
        typed(&mut editor, "thr");
        press(&mut editor, &[Key::Up]);
        assert_eq!(editor.text(), "two");
        press(&mut editor, &[Key::Up, Key::Up, Key::Up]);
        assert_eq!(editor.text(), "one", "the first stays");
        press(&mut editor, &[Key::Down, Key::Down, Key::Down]);
        assert_eq!((editor.text(), editor.cursor()), ("thr", 3));
        for number in 0..2 * HISTORY_LINES {
            press(&mut editor, &[Key::KillStart]);
            typed(&mut editor, &number.to_string());
            press(&mut editor, &[Key::Enter]);
        }
        press(&mut editor, &[Key::Up; HISTORY_LINES + 1]);
        assert_eq!(editor.text(), HISTORY_LINES.to_string(), "the oldest are forgotten");
    }

    #[test]
    fn a_prompt_of_several_lines_comes_back_whole_unless_it_was_dropped() {
        let mut editor = Editor::default();
        let mut enter = |line: &str, continues: bool| {
            typed(&mut editor, line);
            assert_eq!(editor.apply(Key::Enter, none), Edit::Line(line.to_string()));
            editor.set_continues(continues);
        };
        for (line, continues) in
            [("\"\"\"", true), ("one", true), ("\"\"\"", false), ("\"\"\"no", true)]
        {
            enter(line, continues);
        }
        assert_eq!(editor.apply(Key::Interrupt, none), Edit::Interrupt { line: false });
        editor.set_continues(false);
        press(&mut editor, &[Key::Up, Key::Up]);
        assert_eq!(editor.text(), "\"\"\"\none\n\"\"\"");
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_refused_whole() {
        let mut editor = Editor::default();
        (0..MAX_PROMPT_BYTES).for_each(|_| drop(editor.insert("x")));
        assert_eq!(editor.apply(Key::Char('y'), none), Edit::Refused);
        assert_eq!(editor.apply(Key::Enter, none), Edit::TooLong);
        typed(&mut editor, "caf\u{fffd}");
        assert_eq!(editor.apply(Key::Enter, none), Edit::NotUtf8);
        typed(&mut editor, "good");
        assert_eq!(editor.apply(Key::Enter, none), Edit::Line("good".to_string()));
    }

    #[test]
    fn a_pasted_text_is_one_line_and_waits_for_enter() {
        let mut editor = Editor::default();
        press(&mut editor, &[Key::Paste { begins: true }]);
        typed(&mut editor, "one");
        press(&mut editor, &[Key::Enter, Key::Tab]);
        typed(&mut editor, "reboot");
        press(&mut editor, &[Key::Enter, Key::Paste { begins: false }]);
        assert_eq!(editor.text(), "one\n reboot");
        assert_eq!(editor.apply(Key::Enter, none), Edit::Line("one\n reboot".to_string()));
        press(&mut editor, &[Key::Paste { begins: true }, Key::Enter, Key::Interrupt]);
        typed(&mut editor, "two");
        assert_eq!(
            editor.apply(Key::Enter, none),
            Edit::Line("two".to_string()),
            "Ctrl-C ends a paste that has no end"
        );
    }

    #[test]
    fn a_second_tab_lists_what_may_follow() {
        let mut editor = Editor::default();
        typed(&mut editor, "st");
        let several = |_: &str| Completion::Several;
        assert_eq!(editor.apply(Key::Tab, several), Edit::Refused);
        assert_eq!(editor.apply(Key::Tab, several), Edit::List);
        assert_eq!((editor.apply(Key::Tab, several), editor.text()), (Edit::Refused, "st"));
        typed(&mut editor, "ran ge");
        assert_eq!((editor.apply(Key::Tab, none), editor.text()), (Edit::Changed, "stran ge "));
    }

    #[test]
    fn bytes_of_no_person_are_noise_on_a_cable_and_a_slip_is_none() {
        for (keys, text, is_noise) in [
            (vec![Key::Noise], "hello", false),
            (vec![Key::Noise, Key::Noise], "hello", true),
            (vec![Key::Noise], "x\u{fffd}~", true),
            (vec![], "caf\u{fffd} society", false),
            (vec![], "\u{fffd}\u{fffd}\u{fffd}a", true),
        ] {
            let mut editor = Editor::on_cable();
            press(&mut editor, &keys);
            typed(&mut editor, text);
            assert_eq!(editor.is_noise(), is_noise, "{text}");
            assert_eq!(editor.apply(Key::Enter, none) == Edit::Noise, is_noise, "{text}");
            assert!(!editor.is_noise(), "the noise does not carry over to the next line");
        }
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let fixed = [
            Key::Enter,
            Key::Backspace,
            Key::Delete { or_end: false },
            Key::Delete { or_end: true },
            Key::Left,
            Key::Right,
            Key::WordLeft,
            Key::WordRight,
            Key::Home,
            Key::End,
            Key::Up,
            Key::Down,
            Key::Interrupt,
            Key::KillStart,
            Key::KillEnd,
            Key::KillWord,
            Key::Tab,
            Key::Noise,
            Key::Paste { begins: true },
            Key::Paste { begins: false },
        ];
        let letters = prop::sample::select(
            "ab  é東\u{301}\u{200d}💻👩🇩🇪\u{fe0f}".chars().collect::<Vec<_>>(),
        );
        prop_oneof![3 => letters.prop_map(Key::Char), 1 => prop::sample::select(fixed.to_vec())]
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

        /// After any keys the cursor stands between two characters, so that no key can split one
        /// or panic.
        #[test]
        fn the_cursor_never_stands_inside_a_character(keys in prop::collection::vec(any_key(), 0..120)) {
            let mut editor = Editor::default();
            for key in keys {
                editor.apply(key, |_| Completion::Rest("x".to_string()));
                let starts: Vec<usize> = editor.text().grapheme_indices(true).map(|(at, _)| at).collect();
                prop_assert!(starts.contains(&editor.cursor()) || editor.cursor() == editor.text().len());
            }
        }
    }
}
