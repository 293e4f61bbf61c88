//! Byte-pair merges over a packed vocabulary, as a model of the crate `tokenizers`.
//!
//! Promise: gives the same ids as the crate's own BPE for the same vocabulary. It follows the
//! crate's order of operations exactly, even where that is questionable: a queued merge stays valid
//! as long as its two tokens still produce the same token.

use core::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, Model, Result, Token, Trainer};

use super::Packed;
use crate::tokenizer::vocabulary::byte_of;

/// The index that stands for no neighbour.
const NOWHERE: u32 = u32::MAX;

/// A token under construction. Its neighbours are indices into the list of all symbols.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Bytes of its text; 0 once it has been merged into the symbol before it.
    bytes: u32,
    before: u32,
    after: u32,
}

/// A pair that could become one token. Ordered by rank, then from left to right.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Candidate {
    rank: u32,
    place: u32,
    product: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        (self.rank, self.place).cmp(&(other.rank, other.place))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Packed {
    /// The characters of a text as tokens: a piece each, or the byte tokens of a character without
    /// one.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut push = |id: u32, bytes: usize| {
            let place = symbols.len() as u32;
            if let Some(last) = symbols.last_mut() {
                last.after = place;
            }
            symbols.push(Symbol {
                id,
                bytes: bytes as u32,
                before: place.checked_sub(1).unwrap_or(NOWHERE),
                after: NOWHERE,
            });
        };
        let mut room = [0; 4];
        for character in text.chars() {
            let character = &*character.encode_utf8(&mut room);
            match self.piece(character) {
                Some(id) => push(id, character.len()),
                None => {
                    character.bytes().filter_map(|byte| self.byte(byte)).for_each(|id| push(id, 1))
                }
            }
        }
        symbols
    }

    fn candidate(&self, symbols: &[Symbol], place: u32) -> Option<Reverse<Candidate>> {
        let left = symbols.get(place as usize)?;
        let right = symbols.get(left.after as usize)?;
        let merged = self.merge(left.id, right.id)?;
        Some(Reverse(Candidate { rank: merged.rank, place, product: merged.product }))
    }

    /// Merges until no pair can be merged.
    fn merge_all(&self, symbols: &mut [Symbol]) {
        let first = (0..symbols.len() as u32).filter_map(|place| self.candidate(symbols, place));
        let mut queue: BinaryHeap<Reverse<Candidate>> = first.collect();
        while let Some(Reverse(Candidate { place, product, .. })) = queue.pop() {
            let left = symbols[place as usize];
            if left.bytes == 0 || left.after == NOWHERE {
                continue;
            }
            let right = symbols[left.after as usize];
            // Another merge may have invalidated a queued one.
            if self.merge(left.id, right.id).is_none_or(|merged| merged.product != product) {
                continue;
            }
            symbols[left.after as usize].bytes = 0;
            symbols[place as usize] =
                Symbol { id: product, bytes: left.bytes + right.bytes, after: right.after, ..left };
            if let Some(next) = symbols.get_mut(right.after as usize) {
                next.before = place;
            }
            queue.extend(self.candidate(symbols, left.before));
            queue.extend(self.candidate(symbols, place));
        }
    }
}

impl Model for Packed {
    type Trainer = Untrainable;

    fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        let mut symbols = self.symbols(text);
        self.merge_all(&mut symbols);
        let mut start = 0;
        let whole = symbols.iter().filter(|symbol| symbol.bytes > 0);
        Ok(whole
            .map(|symbol| {
                let offsets = (start, start + symbol.bytes as usize);
                start = offsets.1;
                Token::new(symbol.id, self.text(symbol.id).to_owned(), offsets)
            })
            .collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.piece(token).or_else(|| self.byte(byte_of(token)?))
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        ((id as usize) < self.tokens()).then(|| self.text(id).to_owned())
    }

    #[expect(clippy::disallowed_types, reason = "the trait gives a vocabulary as a map")]
    fn get_vocab(&self) -> std::collections::HashMap<String, u32> {
        (0..self.tokens() as u32).map(|id| (self.text(id).to_owned(), id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.tokens()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("a packed vocabulary is written by `pack`".into())
    }

    fn get_trainer(&self) -> Untrainable {
        Untrainable
    }
}

/// The crate requires a trainer type of every model; this one trains nothing.
pub struct Untrainable;

impl Trainer for Untrainable {
    type Model = Packed;

    fn should_show_progress(&self) -> bool {
        false
    }

    fn train(&self, _: &mut Packed) -> Result<Vec<AddedToken>> {
        Err("a packed vocabulary cannot be trained".into())
    }

    fn feed<I, S, F>(&mut self, _: I, _: F) -> Result<()>
    where
        I: Iterator<Item = S> + Send,
        S: AsRef<str> + Send,
        F: Fn(&str) -> Result<Vec<String>> + Sync,
    {
        Err("a packed vocabulary cannot be trained".into())
    }
}
