//! A vocabulary for models with random weights: Gemma's layout, English-like pieces, any size, free
//! of licences.
//!
//! Promise: the same size and seed give the same vocabulary on every machine; every piece of more
//! than one character is the concatenation of two earlier ones, so that merges can form it; every
//! text can be encoded and decoded.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::vocabulary::{END_OF_TURN, START_OF_TURN};
use super::{TokenKind, Vocabulary};
use crate::id::TokenId;
use crate::limits::MAX_VOCABULARY_TOKENS;

/// Common words, then words of school subjects, then endings and beginnings.
const WORDS: &str = include_str!("words.txt");

/// The most frequent pairs and triples of letters in English text, so that even a small vocabulary
/// helps.
const FRAGMENTS: &str = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me \
    de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs \
    un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay \
    ex ke ui fr oo ag av rd bo ga gr ds";

/// Non-ASCII letters of European languages.
const LETTERS: &str = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýßœšžłğışÀÁÄÅÇÈÉÊÍÑÓÖØÚÜ–—‘’“”…°×÷±€£";

/// The fewest tokens that hold the fixed part: control tokens, bytes and characters.
pub(crate) const MIN_SYNTHETIC_TOKENS: usize = 512;

/// Unassigned rows; Gemma has thousands.
const UNUSED: usize = 6;

/// Longest run of newlines, and of spaces, that is one token. Gemma has 31.
const LONGEST_RUN: usize = 8;

struct Pieces {
    vocabulary: Vocabulary,
    size: usize,
    known: BTreeSet<String>,
}

impl Vocabulary {
    /// Makes a vocabulary of `size` tokens, clamped to the range from [`MIN_SYNTHETIC_TOKENS`] to
    /// [`MAX_VOCABULARY_TOKENS`].
    pub fn synthetic(size: usize, seed: u64) -> Vocabulary {
        let size = size.clamp(MIN_SYNTHETIC_TOKENS, MAX_VOCABULARY_TOKENS);
        let mut pieces = Pieces { vocabulary: fixed_part(), size, known: BTreeSet::new() };
        pieces.known.extend(pieces.vocabulary.tokens.iter().cloned());
        pieces.add_words();
        pieces.add_derived(seed);
        pieces.add_compounds(seed);
        pieces.vocabulary
    }

    fn push(&mut self, text: String, kind: TokenKind, score: f32) {
        self.tokens.push(text);
        self.kinds.push(kind);
        self.scores.push(score);
    }
}

/// The beginning of Gemma's vocabulary, and all single characters.
fn fixed_part() -> Vocabulary {
    let mut vocabulary = Vocabulary {
        tokens: Vec::new(),
        scores: Vec::new(),
        kinds: Vec::new(),
        merges: Vec::new(),
        bos: Some(TokenId(2)),
        eos: Some(TokenId(1)),
        ends: Vec::new(),
        unknown: Some(TokenId(3)),
        padding: Some(TokenId(0)),
        add_bos: true,
    };
    let control = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"].map(str::to_owned);
    let turns = [START_OF_TURN.to_owned(), END_OF_TURN.to_owned()];
    for text in control.into_iter().chain((0..UNUSED).map(|n| format!("<unused{n}>"))).chain(turns)
    {
        let kind = match text.as_str() {
            "<unk>" => TokenKind::Unknown,
            unused if unused.starts_with("<unused") => TokenKind::Unused,
            _ => TokenKind::Control,
        };
        vocabulary.push(text, kind, 0.0);
    }
    for length in 1..=LONGEST_RUN {
        vocabulary.push("\n".repeat(length), TokenKind::UserDefined, 0.0);
    }
    for length in 2..=LONGEST_RUN {
        vocabulary.push("▁".repeat(length), TokenKind::UserDefined, 0.0);
    }
    for byte in 0..=u8::MAX {
        vocabulary.push(format!("<0x{byte:02X}>"), TokenKind::Byte, 0.0);
    }
    let first = vocabulary.tokens.len();
    for character in ['▁', '\t'].into_iter().chain('!'..='~').chain(LETTERS.chars()) {
        let score = -((vocabulary.tokens.len() - first) as f32);
        vocabulary.push(character.to_string(), TokenKind::Normal, score);
    }
    vocabulary
}

impl Pieces {
    /// Adds one piece whose two parts exist already. Returns whether the piece exists now.
    fn add(&mut self, text: &str) -> bool {
        if self.known.contains(text) {
            return true;
        }
        if self.vocabulary.tokens.len() >= self.size {
            return false;
        }
        let score = -(self.vocabulary.tokens.len() as f32);
        self.known.insert(text.to_owned());
        self.vocabulary.push(text.to_owned(), TokenKind::Normal, score);
        true
    }

    /// Adds a piece after all its prefixes, each of which is the previous one plus a character.
    fn add_with_beginnings(&mut self, text: &str) -> bool {
        let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
        ends.skip(1).all(|end| self.add(&text[..end]))
    }

    /// Letters after a space, fragments, then the words: after a space, alone, and capitalised.
    fn add_words(&mut self) {
        for letter in "tasoicwbphmfdrelngu".chars() {
            self.add(&format!("▁{letter}"));
        }
        for fragment in FRAGMENTS.split_whitespace() {
            self.add(fragment);
        }
        for word in WORDS.split_whitespace() {
            self.add_with_beginnings(&format!("▁{word}"));
        }
        for word in WORDS.split_whitespace() {
            self.add_with_beginnings(word);
            self.add_with_beginnings(&format!("▁{}", capitalised(word)));
        }
        for number in 0..1000 {
            self.add_with_beginnings(&number.to_string());
        }
    }

    /// Every word with every ending and beginning, in an order determined by the seed.
    fn add_derived(&mut self, seed: u64) {
        let affixes: Vec<&str> =
            WORDS.lines().last().unwrap_or_default().split_whitespace().collect();
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let mut pairs: Vec<(&str, &str)> = words
            .iter()
            .flat_map(|word| affixes.iter().map(move |affix| (*word, *affix)))
            .collect();
        pairs.sort_by_cached_key(|(word, affix)| {
            xxh3_64_with_seed(format!("{word}-{affix}").as_bytes(), seed)
        });
        for (word, affix) in pairs {
            self.add(&format!("▁{word}{affix}"));
        }
    }

    /// Pairs of words, until the vocabulary is full.
    fn add_compounds(&mut self, seed: u64) {
        let words: Vec<&str> = WORDS.split_whitespace().filter(|word| word.len() > 1).collect();
        let draw = |bits: u64| words[bits as usize % words.len()];
        for turn in 0_u64.. {
            if self.vocabulary.tokens.len() >= self.size {
                break;
            }
            let bits = xxh3_64_with_seed(&turn.to_le_bytes(), seed);
            let (first, second) = (draw(bits >> 32), draw(bits & 0xffff_ffff));
            self.add(&format!("▁{first}{second}"));
        }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Tokenizer, merges};

    #[test]
    fn every_piece_can_be_formed() {
        for size in [MIN_SYNTHETIC_TOKENS, 4_096, 40_000] {
            let vocabulary = Vocabulary::synthetic(size, 5);
            vocabulary.check().unwrap();
            assert_eq!(vocabulary.tokens.len(), size);
            let mut formed: Vec<bool> =
                vocabulary.tokens.iter().map(|text| text.chars().count() == 1).collect();
            for merge in merges::implied(&vocabulary).unwrap() {
                formed[merge.product as usize] |=
                    merge.left < merge.product && merge.right < merge.product;
            }
            let idle =
                (0..size).find(|id| vocabulary.kinds[*id] == TokenKind::Normal && !formed[*id]);
            assert_eq!(
                idle.map(|id| &vocabulary.tokens[id]),
                None,
                "no text would ever use this row of the model"
            );
        }
    }

    #[test]
    fn the_seed_decides_the_rare_pieces_only() {
        let vocabulary = Vocabulary::synthetic(60_000, 5);
        assert_eq!(
            vocabulary,
            Vocabulary::synthetic(60_000, 5),
            "a demo must be the same everywhere"
        );
        let other = Vocabulary::synthetic(60_000, 6);
        assert_ne!(vocabulary, other);
        assert_eq!(vocabulary.tokens[..6_000], other.tokens[..6_000]);
    }

    #[test]
    fn english_takes_few_tokens_even_with_a_small_vocabulary() {
        let text = "Which of the following statements about the value of the function is correct? The energy of the system \
            increases with its temperature, and the cost of production falls.";
        for (size, characters) in [(512, 1.5), (4_096, 3.0), (16_384, 4.0)] {
            let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(size, 5)).unwrap();
            let tokens = tokenizer.encode_prompt(text).unwrap().len() as f64;
            let found = text.len() as f64 / tokens;
            assert!(
                found > characters,
                "{size} tokens: {found:.2} characters per token make prompts too long"
            );
        }
    }

    #[test]
    fn sizes_stay_within_what_loads() {
        assert_eq!(Vocabulary::synthetic(0, 1).tokens.len(), MIN_SYNTHETIC_TOKENS);
        assert_eq!(Vocabulary::synthetic(600, 1).tokens.len(), 600);
    }
}
