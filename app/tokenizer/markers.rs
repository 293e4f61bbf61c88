//! Finds control tokens spelled in a text, for a note to a person who pastes a ready-made template.

use crate::limits::MAX_PIECE_BYTES;

/// Maximum names in a note.
const MAX_NAMED: usize = 4;

/// The parts of a text for which `is_control` returns true, each once, in order of first
/// occurrence, at most as many as a note names. A name begins with `<` or `[` and ends with the
/// next `>` or `]`, like all names in published vocabularies.
pub(super) fn find(text: &str, is_control: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for (start, _) in text.match_indices(['<', '[']) {
        let Some(name) = named(text, start) else { continue };
        if !found.contains(&name) && is_control(name) {
            found.push(name);
            if found.len() == MAX_NAMED {
                break;
            }
        }
    }
    found
}

/// The first control token spelled in a text: the text before it, the token, and the text after it.
pub(super) fn first<T>(text: &str, token: impl Fn(&str) -> Option<T>) -> Option<(&str, T, &str)> {
    text.match_indices(['<', '[']).find_map(|(start, _)| {
        let name = named(text, start)?;
        Some((&text[..start], token(name)?, &text[start + name.len()..]))
    })
}

/// The candidate name of a control token that begins at `start`.
fn named(text: &str, start: usize) -> Option<&str> {
    let near = &text.as_bytes()[start..text.len().min(start + MAX_PIECE_BYTES)];
    let closing = if near.first() == Some(&b'<') { b'>' } else { b']' };
    let length = near.iter().position(|byte| *byte == closing)?;
    Some(&text[start..=start + length])
}

/// The note for the person; `None` if there is no marker.
pub(super) fn note(markers: &[&str]) -> Option<String> {
    let (last, before) = markers.split_last()?;
    let names = if before.is_empty() {
        (*last).to_owned()
    } else {
        format!("{} and {last}", before.join(", "))
    };
    let are = if before.is_empty() { "is" } else { "are" };
    Some(format!(
        "{names} in the text {are} taken as plain text: potluck places control tokens itself, so give only what you would say"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand_and_named_once() {
        fn is_control(name: &str) -> bool {
            ["<bos>", "<start_of_turn>", "<end_of_turn>", "[x]", "<eos>", "<pad>"].contains(&name)
        }
        fn find(text: &str) -> Vec<&str> {
            super::find(text, is_control)
        }
        assert_eq!(
            find("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"),
            ["<start_of_turn>", "<end_of_turn>"]
        );
        assert_eq!(find("a <<bos>> b <[x]> <b <eos>"), ["<bos>", "[x]", "<eos>"]);
        assert_eq!(find("a < b > c, <h1>, [y], <bos, é<"), Vec::<&str>::new());
        assert_eq!(find("<bos><eos><pad>[x]<end_of_turn>").len(), MAX_NAMED);
        // The longest possible prompt, in which every byte could begin a name, still takes only a
        // moment.
        let (many, long) = (
            "<".repeat(crate::limits::MAX_PROMPT_BYTES),
            format!("<{}>", "é".repeat(MAX_PIECE_BYTES)),
        );
        assert!(find(&many).is_empty() && find(&long).is_empty());
    }

    #[test]
    fn a_note_says_what_to_do() {
        assert_eq!(note(&[]), None);
        let one = note(&["<bos>"]).unwrap();
        assert!(
            one.starts_with("<bos> in the text is taken as plain text")
                && one.ends_with("what you would say"),
            "{one}"
        );
        assert!(
            note(&["<a>", "<b>", "<c>"])
                .unwrap()
                .starts_with("<a>, <b> and <c> in the text are taken")
        );
    }
}
