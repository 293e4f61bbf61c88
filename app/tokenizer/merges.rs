//! The merges of a vocabulary: listed by its source or, if it lists none, derived from the scores.
//!
//! Promise: no merge ever involves a token that is not a piece of text, so no text can be merged
//! into a control token.
//!
//! SentencePiece files (and GGUF, which keeps their form) contain only scores. The rule that
//! derives merges from them is that of Hugging Face's converter (transformers, `generate_merges`),
//! which made Gemma's published `tokenizer.json`: every way to split a piece into two pieces is a
//! merge. Merges are ordered by score, highest first, then by the length of the left half and of
//! the right half, longest first, then by the piece's id. User-defined pieces (of which only runs
//! of spaces are ever merged) come first because of their score of 0 in SentencePiece; GGUF writers
//! change that score.

use core::cmp::Reverse;
use core::ops::Range;
use std::collections::BTreeMap;

use super::vocabulary::at_most;
use super::{TokenKind, TokenizerError, Vocabulary};
use crate::limits::MAX_MERGES;

/// Limit on the pairs of a piece and one of its prefixes, and on the pairs of a piece and one of
/// its suffixes. A piece has fewer of either than it has bytes, and all of Gemma 3's pieces
/// together have less than three million. This many take 64 MiB.
const MAX_NESTED: usize = 1 << 23;

/// Two pieces and the piece that they merge into, all as ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Merge {
    pub left: u32,
    pub right: u32,
    pub product: u32,
}

/// The merges of a checked vocabulary, in order of precedence.
pub(super) fn of(vocabulary: &Vocabulary) -> Result<Vec<Merge>, TokenizerError> {
    if vocabulary.merges.is_empty() { implied(vocabulary) } else { listed(vocabulary) }
}

/// The merges that the vocabulary lists, without those that involve a token which text must never
/// become.
pub(super) fn listed(vocabulary: &Vocabulary) -> Result<Vec<Merge>, TokenizerError> {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, (text, kind)) in vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate() {
        if kind.is_text() || !ids.contains_key(text.as_str()) {
            ids.insert(text, id as u32);
        }
    }
    let is_text = |id: u32| vocabulary.kinds[id as usize].is_text();
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    let mut whole = String::new();
    for (rank, (left, right)) in vocabulary.merges.iter().enumerate() {
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let find = |text: &str| {
            let missing = || {
                format!(
                    "merge {rank} ({left:?}, {right:?}) needs {text:?}, which is not one of its tokens"
                )
            };
            ids.get(text).copied().ok_or_else(|| TokenizerError::Damaged(missing()))
        };
        let merge = Merge { left: find(left)?, right: find(right)?, product: find(&whole)? };
        if is_text(merge.left) && is_text(merge.right) && is_text(merge.product) {
            merges.push(merge);
        }
    }
    Ok(merges)
}

/// The merges derived from the scores.
///
/// # Errors
/// [`TokenizerError::TooLarge`], as soon as there are more pieces within pieces, or merges, than
/// are supported.
pub(super) fn implied(vocabulary: &Vocabulary) -> Result<Vec<Merge>, TokenizerError> {
    implied_within(vocabulary, MAX_NESTED, MAX_MERGES)
}

/// In text order, the prefixes of a piece are among its predecessors and are nested, so one stack
/// finds them all; in the order of reversed texts, the same holds for its suffixes. Where a prefix
/// and a suffix meet, the piece can be split.
fn implied_within(
    vocabulary: &Vocabulary,
    most_nested: usize,
    most_merges: usize,
) -> Result<Vec<Merge>, TokenizerError> {
    let text = |id: u32| vocabulary.tokens[id as usize].as_bytes();
    let pieces: Vec<u32> = (0..vocabulary.tokens.len() as u32)
        .filter(|id| vocabulary.kinds[*id as usize].is_text())
        .collect();

    let mut backwards = pieces.clone();
    backwards.sort_unstable_by(|a, b| text(*a).iter().rev().cmp(text(*b).iter().rev()));
    let mut endings: Vec<(u32, u32)> = Vec::new();
    let mut endings_of: Vec<Range<usize>> = vec![0..0; vocabulary.tokens.len()];
    nested(
        &backwards,
        |inner, outer| text(outer).ends_with(text(inner)),
        |piece, stack| {
            let from = endings.len();
            at_most("vocabulary", "pieces that end others", from + stack.len(), most_nested)?;
            endings.extend(stack.iter().map(|ending| (text(*ending).len() as u32, *ending)));
            endings_of[piece as usize] = from..endings.len();
            Ok(())
        },
    )?;

    let mut forwards = pieces;
    forwards.sort_unstable_by(|a, b| text(*a).cmp(text(*b)));
    let mut beginnings = 0;
    let mut merges = Vec::new();
    nested(
        &forwards,
        |inner, outer| text(outer).starts_with(text(inner)),
        |product, stack| {
            beginnings += stack.len();
            at_most("vocabulary", "pieces that begin others", beginnings, most_nested)?;
            let endings = &endings[endings_of[product as usize].clone()];
            for left in stack {
                let rest = (text(product).len() - text(*left).len()) as u32;
                if let Ok(at) = endings.binary_search_by_key(&rest, |(length, _)| *length) {
                    merges.push(Merge { left: *left, right: endings[at].1, product });
                }
            }
            at_most("vocabulary", "merges derived from its scores", merges.len(), most_merges)
        },
    )?;

    let precedence = precedence(vocabulary);
    let characters: Vec<u16> =
        vocabulary.tokens.iter().map(|token| token.chars().count() as u16).collect();
    merges.sort_unstable_by_key(|merge| {
        let length = |id: u32| Reverse(characters[id as usize]);
        (precedence[merge.product as usize], length(merge.left), length(merge.right), merge.product)
    });
    Ok(merges)
}

/// The precedence of every token as a merge product, as a number; equal scores have equal numbers.
fn precedence(vocabulary: &Vocabulary) -> Vec<u32> {
    let is_merged = |id: u32| vocabulary.kinds[id as usize] != TokenKind::UserDefined;
    // Adding zero makes -0 and 0, which are the same score, compare as equal.
    let score = |id: u32| if is_merged(id) { vocabulary.scores[id as usize] + 0.0 } else { 0.0 };
    let order =
        |a: u32, b: u32| is_merged(a).cmp(&is_merged(b)).then(score(b).total_cmp(&score(a)));
    let mut ids: Vec<u32> = (0..vocabulary.tokens.len() as u32).collect();
    ids.sort_unstable_by(|a, b| order(*a, *b));
    let mut precedence = vec![0; ids.len()];
    for pair in ids.windows(2) {
        let step = u32::from(order(pair[0], pair[1]).is_ne());
        precedence[pair[1] as usize] = precedence[pair[0] as usize] + step;
    }
    precedence
}

/// Walks sorted pieces and visits each together with the pieces nested in it, shortest first. Stops
/// at the first error.
fn nested(
    sorted: &[u32],
    is_inside: impl Fn(u32, u32) -> bool,
    mut visit: impl FnMut(u32, &[u32]) -> Result<(), TokenizerError>,
) -> Result<(), TokenizerError> {
    let mut stack: Vec<u32> = Vec::new();
    for piece in sorted {
        while stack.last().is_some_and(|inner| !is_inside(*inner, *piece)) {
            stack.pop();
        }
        visit(*piece, &stack)?;
        stack.push(*piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::vocabulary::SPACE_MARK;

    /// A vocabulary of these pieces, plus the bytes that every vocabulary needs.
    fn vocabulary(pieces: &[(&str, f32, TokenKind)]) -> Vocabulary {
        let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 0.0, TokenKind::Byte));
        let own = pieces.iter().map(|(text, score, kind)| ((*text).to_owned(), *score, *kind));
        let mark = (SPACE_MARK.to_string(), -100.0, TokenKind::Normal);
        let bos = ("<bos>".to_owned(), 0.0, TokenKind::Control);
        let all: Vec<_> = own.chain([mark]).chain(bytes).chain([bos]).collect();
        let vocabulary = Vocabulary {
            tokens: all.iter().map(|(text, _, _)| text.clone()).collect(),
            scores: all.iter().map(|(_, score, _)| *score).collect(),
            kinds: all.iter().map(|(_, _, kind)| *kind).collect(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            ends: Vec::new(),
            unknown: None,
            padding: None,
            add_bos: false,
        };
        vocabulary.check().unwrap();
        vocabulary
    }

    fn written(vocabulary: &Vocabulary, merges: &[Merge]) -> Vec<String> {
        let text = |id: u32| vocabulary.tokens[id as usize].as_str();
        merges.iter().map(|merge| format!("{} {}", text(merge.left), text(merge.right))).collect()
    }

    /// Hugging Face's rule, implemented literally.
    fn plain(vocabulary: &Vocabulary) -> Vec<Merge> {
        let id = |text: &str| {
            let at = vocabulary.tokens.iter().position(|token| token == text)?;
            vocabulary.kinds[at].is_text().then_some(at as u32)
        };
        let mut merges = Vec::new();
        for product in (0..vocabulary.tokens.len()).filter(|id| vocabulary.kinds[*id].is_text()) {
            let text = &vocabulary.tokens[product];
            for (at, _) in text.char_indices().skip(1) {
                if let (Some(left), Some(right)) = (id(&text[..at]), id(&text[at..])) {
                    merges.push(Merge { left, right, product: product as u32 });
                }
            }
        }
        let length = |id: u32| vocabulary.tokens[id as usize].chars().count();
        let score = |merge: &Merge| match vocabulary.kinds[merge.product as usize] {
            TokenKind::UserDefined => f32::INFINITY,
            _ => vocabulary.scores[merge.product as usize],
        };
        merges.sort_by(|a, b| {
            let by_score = score(b).partial_cmp(&score(a)).unwrap();
            by_score
                .then(length(b.left).cmp(&length(a.left)))
                .then(length(b.right).cmp(&length(a.right)))
        });
        merges
    }

    #[test]
    fn merges_follow_from_scores_as_in_hugging_faces_converter() {
        let small = vocabulary(&[
            ("a", -9.0, TokenKind::Normal),
            ("é", -9.0, TokenKind::Normal),
            ("aa", -2.0, TokenKind::Normal),
            ("aaa", -1.0, TokenKind::Normal),
            ("éa", 0.0, TokenKind::Normal),
            ("aé", -0.0, TokenKind::Normal),
            ("aéa", -1.0, TokenKind::Normal),
        ]);
        let found = implied(&small).unwrap();
        assert_eq!(written(&small, &found), ["é a", "a é", "aa a", "aé a", "a aa", "a éa", "a a"]);
        assert_eq!(found, plain(&small));
        for seed in 0..3 {
            let mut large = Vocabulary::synthetic(2_500, seed);
            // Equal scores, so that the order among equals is tested too.
            large.scores.iter_mut().for_each(|score| *score = (*score / 50.0).trunc());
            assert_eq!(
                implied(&large).unwrap(),
                plain(&large),
                "a GGUF file would be read differently"
            );
        }
    }

    #[test]
    fn runs_of_spaces_merge_first_and_from_the_left() {
        let found = vocabulary(&[
            ("▁▁", -1000.0, TokenKind::UserDefined),
            ("▁▁▁", -1000.0, TokenKind::UserDefined),
            ("▁▁▁▁", -1000.0, TokenKind::UserDefined),
            ("a", -9.0, TokenKind::Normal),
            ("▁a", 0.0, TokenKind::Normal),
        ]);
        let merges = written(&found, &implied(&found).unwrap());
        assert_eq!(merges, ["▁▁▁ ▁", "▁▁ ▁▁", "▁▁ ▁", "▁ ▁▁▁", "▁ ▁▁", "▁ ▁", "▁ a"]);
    }

    #[test]
    fn what_no_text_may_become_is_in_no_merge() {
        let mut steered = vocabulary(&[
            ("<", -9.0, TokenKind::Normal),
            ("e", -9.0, TokenKind::Normal),
            ("<e", -1.0, TokenKind::Control),
            ("<ee", -1.0, TokenKind::Normal),
            ("ee", -1.0, TokenKind::Unused),
        ]);
        assert_eq!(implied(&steered).unwrap(), []);
        steered.merges = vec![("<".to_owned(), "e".to_owned()), ("<e".to_owned(), "e".to_owned())];
        assert_eq!(listed(&steered).unwrap(), []);
    }

    #[test]
    fn a_merge_of_nothing_is_named() {
        let mut wrong = vocabulary(&[("a", 0.0, TokenKind::Normal)]);
        wrong.merges = vec![("a".to_owned(), "a".to_owned())];
        let line = listed(&wrong).unwrap_err().to_string();
        assert!(line.contains(r#"merge 0 ("a", "a") needs "aa""#), "{line}");
    }

    /// Without the limit, a file of a few megabytes could expand to gigabytes: every piece of a run
    /// is a suffix, and a prefix, of all longer ones.
    #[test]
    fn pieces_within_pieces_without_end_are_refused_before_they_take_memory() {
        let runs: Vec<String> = (1..=300).map(|length| "a".repeat(length)).collect();
        let pieces: Vec<_> =
            runs.iter().map(|run| (run.as_str(), -1.0, TokenKind::Normal)).collect();
        let hostile = vocabulary(&pieces);
        let (nested, merges) = (300 * 299 / 2, 300 * 299 / 2);
        assert_eq!(implied_within(&hostile, nested, merges).unwrap().len(), merges);
        let refused =
            |most_nested, most_merges| match implied_within(&hostile, most_nested, most_merges) {
                Err(TokenizerError::TooLarge { unit, found, limit, .. }) => {
                    (unit, found - limit <= 300)
                }
                other => panic!("{:?}", other.map(|merges| merges.len())),
            };
        // Detected within one piece of the limit, not at the end.
        assert_eq!(refused(1_000, merges), ("pieces that end others", true));
        assert_eq!(refused(nested, 1_000), ("merges derived from its scores", true));

        // All of them begin with the same piece, and none is a suffix of another.
        let apart: Vec<String> =
            (0..200).map(|n| format!("b{}", char::from_u32(0x4e00 + n).unwrap())).collect();
        let pieces: Vec<_> = apart
            .iter()
            .map(String::as_str)
            .chain(["b"])
            .map(|text| (text, -1.0, TokenKind::Normal))
            .collect();
        let begun = vocabulary(&pieces);
        assert_eq!(implied_within(&begun, 200, 0).unwrap(), []);
        let error = implied_within(&begun, 199, 0).unwrap_err();
        assert!(
            matches!(
                error,
                TokenizerError::TooLarge { unit: "pieces that begin others", found: 200, .. }
            ),
            "{error}"
        );
    }
}
