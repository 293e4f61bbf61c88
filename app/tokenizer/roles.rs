//! Determines the roles of tokens by their names, because a file's own declarations may be missing
//! or wrong.
//!
//! Published files disagree about a vocabulary that is always the same: fine-tunes are exported
//! with control tokens typed as text, with `<end_of_turn>` or `<eos>` as the end, with
//! `add_bos_token` off, with ids of another model. Names do not change, so names decide:
//!
//! - `<bos>` begins every prompt, once. Without it the published 270M predicts prose three times
//!   worse.
//! - `<eos>` and `<end_of_turn>` end an answer, and so does any control token that the file
//!   declares as an end.
//! - A token is a control token if its name says so ([`is_control_name`]) or the file's type does;
//!   no text ever becomes one.
//!
//! Promise: whatever ids a file declares, the worst consequence is a note that they were ignored.

use super::vocabulary::{END_OF_TURN, START_OF_TURN};
use super::{TokenKind, Vocabulary};
use crate::id::TokenId;
use crate::limits::MAX_END_TOKENS;

/// Begins a text.
const BOS: &str = "<bos>";
/// Ends a text.
const EOS: &str = "<eos>";
/// Fills rows of a batch.
const PAD: &str = "<pad>";
/// Stands for text that the vocabulary cannot represent.
const UNK: &str = "<unk>";
/// Maximum number of notes: a file with more wrong ids than this is entirely wrong.
const MAX_NOTES: usize = 8;
/// Characters of a token's text in a note.
const SHOWN_CHARACTERS: usize = 24;

/// Control tokens of Gemma 3 and of its published relatives whose names follow no pattern.
const CONTROL_NAMES: [&str; 6] = [BOS, EOS, PAD, "<mask>", "[multimodal]", "<escape>"];

/// Whether a token with this name controls the model, whatever type a file gives it.
pub(super) fn is_control_name(name: &str) -> bool {
    let Some(inner) = name.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) else {
        return CONTROL_NAMES.contains(&name);
    };
    let is_word = inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_of_a_pair = is_word && (inner.starts_with("start_") || inner.starts_with("end_"));
    // `<|im_start|>` and the like: turns of other model families, which fine-tunes bring along.
    let is_barred = inner.len() > 2 && inner.starts_with('|') && inner.ends_with('|');
    is_of_a_pair
        || is_barred
        || (is_word && inner.ends_with("_soft_token"))
        || is_unused_name(name)
        || CONTROL_NAMES.contains(&name)
}

/// Whether this is the name of an unassigned token: `<unused0>` and so on.
pub(super) fn is_unused_name(name: &str) -> bool {
    let number = name.strip_prefix("<unused").and_then(|rest| rest.strip_suffix('>'));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Whether a name has the form that control tokens have: `<...>` or `[...]`.
fn is_marker(name: &str) -> bool {
    name.len() > 2
        && ((name.starts_with('<') && name.ends_with('>'))
            || (name.starts_with('[') && name.ends_with(']')))
}

/// The tokens with a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Roles {
    /// Begins every prompt.
    pub bos: Option<TokenId>,
    /// Fills rows of a batch.
    pub padding: Option<TokenId>,
    /// Stands for text that the vocabulary cannot represent.
    pub unknown: Option<TokenId>,
    /// Opens and closes a turn of a chat.
    pub turns: [Option<TokenId>; 2],
    /// The tokens that end an answer; at most [`MAX_END_TOKENS`], each once.
    pub ends: Vec<TokenId>,
    /// Notes for the user, one line each: where the file's declarations were overruled.
    pub notes: Vec<String>,
}

impl Roles {
    pub(super) fn of(vocabulary: &Vocabulary) -> Roles {
        let mut notes = Vec::new();
        let bos = bos(vocabulary, &mut notes);
        let ends = ends(vocabulary, &mut notes);
        notes.dedup();
        notes.truncate(MAX_NOTES);
        let named = |name: &str, said: Option<TokenId>| {
            vocabulary.find(name).or_else(|| believed(vocabulary, said?))
        };
        let turns = [START_OF_TURN, END_OF_TURN].map(|name| vocabulary.find(name));
        let (padding, unknown) = (named(PAD, vocabulary.padding), named(UNK, vocabulary.unknown));
        Roles { bos, padding, unknown, turns, ends, notes }
    }
}

/// The token that a file declares for a role, if plausible: it exists and is not a piece of text.
fn believed(vocabulary: &Vocabulary, id: TokenId) -> Option<TokenId> {
    let at = id.0 as usize;
    let (text, kind) = (vocabulary.tokens.get(at)?, vocabulary.kinds.get(at)?);
    let is_control = matches!(kind, TokenKind::Control | TokenKind::Unused) || is_marker(text);
    (is_control && *kind != TokenKind::Byte).then_some(id)
}

fn bos(vocabulary: &Vocabulary, notes: &mut Vec<String>) -> Option<TokenId> {
    let Some(named) = vocabulary.find(BOS) else {
        return vocabulary.bos.and_then(|id| believed(vocabulary, id));
    };
    if let Some(said) = vocabulary.bos.filter(|said| *said != named) {
        let said = described(vocabulary, said);
        notes.push(format!(
            "the model's file names {said} as the first token of a prompt: {BOS}, token {} is used instead",
            named.0
        ));
    }
    if !vocabulary.add_bos {
        notes.push(format!(
            "the model's file asks for prompts without {BOS} (add_bos_token): they begin with it anyway, as in training"
        ));
    }
    Some(named)
}

fn ends(vocabulary: &Vocabulary, notes: &mut Vec<String>) -> Vec<TokenId> {
    let mut ends: Vec<TokenId> =
        [EOS, END_OF_TURN].into_iter().filter_map(|name| vocabulary.find(name)).collect();
    for said in vocabulary.eos.iter().chain(&vocabulary.ends) {
        match believed(vocabulary, *said) {
            Some(id) if !ends.contains(&id) => ends.push(id),
            Some(_) => {}
            None => {
                let said = described(vocabulary, *said);
                notes.push(format!("the model's file names {said} as the end of an answer, which it cannot be: ignored"));
            }
        }
    }
    ends.truncate(MAX_END_TOKENS);
    if ends.is_empty() {
        notes.push(format!(
            "the vocabulary has neither {EOS} nor {END_OF_TURN}: answers end only at their length limit"
        ));
    }
    ends
}

/// The description of a token in a note.
fn described(vocabulary: &Vocabulary, id: TokenId) -> String {
    match vocabulary.tokens.get(id.0 as usize) {
        Some(text) => format!(
            "token {} ({:?})",
            id.0,
            text.chars().take(SHOWN_CHARACTERS).collect::<String>()
        ),
        None => format!("a token beyond its {} tokens", vocabulary.tokens.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut Vocabulary)) -> Roles {
        let mut vocabulary = Vocabulary::synthetic(600, 1);
        change(&mut vocabulary);
        Roles::of(&vocabulary)
    }

    /// A token of text.
    const WORD: u32 = 599;

    fn named(name: &str) -> TokenId {
        Vocabulary::synthetic(600, 1).find(name).unwrap()
    }

    #[test]
    fn bos_is_found_by_its_name_whatever_the_file_says() {
        let right = of(|_| {});
        assert_eq!((right.bos, right.notes.as_slice()), (Some(TokenId(2)), &[][..]));
        assert_eq!(
            of(|vocabulary| vocabulary.bos = None),
            right,
            "a missing id is not a contradiction"
        );
        for (said, part) in [
            (1, "token 1 (\"<eos>\")"),
            (599, "token 599 "),
            (600, "beyond its 600"),
            (u32::MAX - 1, "beyond its 600"),
        ] {
            let found = of(|vocabulary| vocabulary.bos = Some(TokenId(said)));
            assert_eq!(found.bos, Some(TokenId(2)), "{said}");
            assert!(
                found.notes.len() == 1
                    && found.notes[0].contains(part)
                    && found.notes[0].contains("<bos>, token 2"),
                "{found:?}"
            );
        }
        let without = of(|vocabulary| vocabulary.add_bos = false);
        assert!(
            without.bos == Some(TokenId(2))
                && without.notes.len() == 1
                && without.notes[0].contains("add_bos_token"),
            "{without:?}"
        );
    }

    #[test]
    fn a_vocabulary_with_another_name_for_bos_says_which_it_is() {
        let renamed = |vocabulary: &mut Vocabulary| vocabulary.tokens[2] = "<s>".to_owned();
        assert_eq!(of(renamed).bos, Some(TokenId(2)));
        let word = WORD;
        let wrong = of(|vocabulary| {
            renamed(vocabulary);
            vocabulary.bos = Some(TokenId(word));
        });
        assert_eq!(wrong.bos, None, "a word would begin every prompt");
    }

    #[test]
    fn both_ends_end_an_answer_whichever_the_file_names() {
        let both = vec![named("<eos>"), named("<end_of_turn>")];
        let turn = named("<end_of_turn>");
        for (eos, ends) in [
            (None, vec![]),
            (Some(both[0]), vec![]),
            (Some(turn), vec![]),
            (Some(both[0]), vec![turn, both[0]]),
        ] {
            let found = of(|vocabulary| (vocabulary.eos, vocabulary.ends) = (eos, ends.clone()));
            assert_eq!(
                (found.ends, found.notes.as_slice()),
                (both.clone(), &[][..]),
                "{eos:?} {ends:?}"
            );
        }
        // FunctionGemma ends its answer where the function is to reply.
        let third = named("<unused3>");
        let found = of(|vocabulary| vocabulary.ends = vec![turn, third]);
        assert_eq!(found.ends, [both[0], turn, third]);
    }

    #[test]
    fn a_file_cannot_make_a_word_the_end_of_answers() {
        let both = vec![named("<eos>"), named("<end_of_turn>")];
        for (said, part) in
            [(WORD, "token 599 ("), (named("<0x0A>").0, "<0x0A>"), (u32::MAX, "beyond its 600")]
        {
            let found = of(|vocabulary| vocabulary.eos = Some(TokenId(said)));
            assert_eq!(found.ends, both, "{said}");
            assert!(found.notes.len() == 1 && found.notes[0].contains(part), "{found:?}");
        }
    }

    #[test]
    fn ends_are_few_and_none_is_said() {
        let all: Vec<TokenId> = (0..11).map(TokenId).collect();
        assert_eq!(of(|vocabulary| vocabulary.ends = all.clone()).ends.len(), MAX_END_TOKENS);
        let endless = of(|vocabulary| {
            vocabulary.eos = None;
            let (eos, turn) = (named("<eos>").0 as usize, named("<end_of_turn>").0 as usize);
            (vocabulary.tokens[eos], vocabulary.tokens[turn]) =
                ("<x>".to_owned(), "<y>".to_owned());
        });
        assert!(
            endless.ends.is_empty() && endless.notes[0].contains("neither <eos> nor <end_of_turn>"),
            "{endless:?}"
        );
    }

    #[test]
    fn control_tokens_are_told_by_name_and_words_and_tags_are_not() {
        let control = [
            "<bos>",
            "<eos>",
            "<pad>",
            "<mask>",
            "[multimodal]",
            "<unused0>",
            "<unused6241>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
            "<start_of_audio>",
            "<audio_soft_token>",
            "<start_function_call>",
            "<end_function_declaration>",
            "<escape>",
        ];
        assert_eq!(control.iter().find(|name| !is_control_name(name)), None);
        assert!(
            ["<|im_start|>", "<|endoftext|>"].iter().all(|name| is_control_name(name)),
            "another family's turns"
        );
        assert!(!is_control_name("<||>") && !is_control_name("<|>"));
        let text = [
            "<unused>",
            "<unused1a>",
            "<0x0A>",
            "<h1>",
            "</s>",
            "<s>",
            "<table>",
            "<()>",
            "[...]",
            "start_of_turn",
            "<start>",
            "bos",
            "",
            "<>",
        ];
        assert_eq!(text.iter().find(|name| is_control_name(name)), None);
    }
}
