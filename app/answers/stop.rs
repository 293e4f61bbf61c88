//! Stop strings: texts that end an answer, found in text as it streams.
//!
//! Promises: never returns any character of a stop string, or anything after it. The output does
//! not depend on where the pieces are cut, so a stop string is found across tokens. Of several, the
//! first to be complete counts; of several completed by the same character, the longest. Holds back
//! at most the length of the longest, less one byte.

/// Finds stop strings in one answer's text.
#[derive(Clone, Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text that may begin a stop string.
    held: String,
    found: bool,
}

impl StopMatcher {
    /// A matcher that has seen no text. Empty stop strings are never found.
    pub(crate) fn new(stops: &[String]) -> StopMatcher {
        StopMatcher { stops: stops.to_vec(), held: String::new(), found: false }
    }

    /// Takes more of the answer and returns the text that can be shown: all of it if there are no
    /// stop strings, nothing once one is found.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held += text;
        let ends = self.stops.iter().filter(|stop| !stop.is_empty());
        let ends =
            ends.filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        if let Some((_, start)) = ends.min() {
            self.found = true;
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let rest = self.held.split_off(self.first_that_may_stop());
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string has been found: the answer is over.
    pub(crate) fn is_found(&self) -> bool {
        self.found
    }

    /// Ends the answer without a stop string, and returns the text held back.
    pub(crate) fn end(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The start of the longest tail that may begin a stop string; the text's end if there is none.
    fn first_that_may_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let begins = |at: &usize| {
            self.held.is_char_boundary(*at)
                && self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]))
        };
        (from..self.held.len()).find(begins).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn matcher(texts: &[&str]) -> StopMatcher {
        StopMatcher::new(&texts.iter().map(|text| (*text).to_string()).collect::<Vec<_>>())
    }

    /// The text shown of the pieces, and whether a stop string was found.
    fn shown(texts: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = matcher(texts);
        let mut text: String = pieces.iter().map(|piece| matcher.push(piece)).collect();
        text += &matcher.end();
        (text, matcher.is_found())
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_never_shown() {
        assert_eq!(
            shown(&["User:"], &["Hi", "\nUs", "e", "r", ": hello"]),
            ("Hi\n".to_string(), true)
        );
        assert_eq!(shown(&["\n\n"], &["a\n", "b\n\nc"]), ("a\nb".to_string(), true));
        assert_eq!(shown(&["é!"], &["caf", "é", "!"]), ("caf".to_string(), true));
        assert_eq!(
            shown(&["aab"], &["a", "a", "a", "b"]),
            ("a".to_string(), true),
            "a beginning that overlaps itself"
        );
    }

    #[test]
    fn text_is_held_back_only_while_it_may_become_one() {
        let mut matcher = matcher(&["User:", "END"]);
        assert_eq!(matcher.push("The "), "The ");
        assert_eq!(matcher.push("Us"), "");
        assert_eq!(matcher.push("ual E"), "Usual ");
        assert_eq!(matcher.push("N"), "");
        assert_eq!(matcher.push("d"), "ENd");
        assert_eq!(matcher.push("EN"), "");
        assert_eq!(
            (matcher.end(), matcher.is_found()),
            ("EN".to_string(), false),
            "the model ended its answer"
        );
        assert_eq!(shown(&[], &["a", "b"]), ("ab".to_string(), false));
        assert_eq!(shown(&[""], &["a", "b"]), ("ab".to_string(), false));
    }

    #[test]
    fn of_several_the_first_to_be_complete_counts() {
        assert_eq!(shown(&["abcd", "bc"], &["xabcd"]), ("xa".to_string(), true));
        assert_eq!(shown(&["abcd", "bc"], &["x", "a", "b", "c", "d"]), ("xa".to_string(), true));
        assert_eq!(shown(&["c", "abc"], &["xabc"]), ("x".to_string(), true));
        assert_eq!(shown(&["c", "abc"], &["x", "a", "b", "c"]), ("x".to_string(), true));
    }

    /// The same computed from the whole text: the first place where any stop string ends.
    fn reference(texts: &[String], whole: &str) -> (String, bool) {
        let ends = (0..=whole.len()).filter(|end| whole.is_char_boundary(*end));
        for end in ends {
            let found = texts
                .iter()
                .filter(|stop| !stop.is_empty() && whole[..end].ends_with(stop.as_str()));
            if let Some(longest) = found.map(String::len).max() {
                return (whole[..end - longest].to_string(), true);
            }
        }
        (whole.to_string(), false)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn pieces_of_any_size_show_what_the_whole_text_shows(
            texts in prop::collection::vec("[abé]{0,4}", 0..4),
            pieces in prop::collection::vec("[abé]{0,5}", 0..12),
        ) {
            let parts: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let names: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(shown(&names, &parts), reference(&texts, &pieces.concat()));
        }
    }
}
