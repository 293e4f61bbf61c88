//! A vocabulary as bytes that are used where they lie, usually a mapped file: what a `tokenizer.json` or a GGUF says, worked
//! out once. Of Gemma's 262,144 tokens it takes some 11 MB, of which a prompt touches few, where tables on the heap take hundreds.
//!
//! ```text
//! 0    "potluck tokens 1"     magic, 16 bytes; all numbers are u32, little endian
//! 16   source                 16 bytes: what it was made from, in its maker's words
//! 32   check                  XXH3-128 of everything that follows, little endian
//! 48   head                   13 numbers, see `Head`
//! 100  byte tokens            256 ids: of <0x00> to <0xFF>; all ones where there is none
//!      ASCII pieces           128 ids: of the pieces of one character that is ASCII; all ones where there is none
//!      text ends              a number for each token: where its text ends; it begins where the one before ends
//!      merge ends             a number for each token: where the merges end whose left half it is
//!      merges                 right half, rank and product of each; by left half, then by right half
//!      pieces                 the ids of all pieces of text, by text
//!      whole pieces           the ids of the pieces that are cut out before any merge
//!      kinds                  a byte for each token, as `TokenKind` numbers them
//!      texts                  of all tokens, without a gap; `▁` stands for a space
//! ```
//!
//! Promises: bytes that are damaged, cut short or of another kind are refused by [`Packed::open`]; whatever bytes it takes, no
//! later call panics. (A file that is changed under the map could still make wrong ids, never a fault.)

mod model;
mod write;

use xxhash_rust::xxh3::xxh3_128;

use super::TokenKind;
use super::vocabulary::byte_of;
use crate::id::TokenId;
use crate::limits::{MAX_MERGES, MAX_PIECE_BYTES, MAX_VOCABULARY_TOKENS};

pub(super) use write::pack;

const MAGIC: &[u8; 16] = b"potluck tokens 1";
const SOURCE_AT: usize = 16;
const CHECK_AT: usize = 32;
const HEAD_AT: usize = 48;
const BYTES_AT: usize = HEAD_AT + 4 * Head::NUMBERS;
const ASCII_AT: usize = BYTES_AT + 4 * 256;
const TEXT_ENDS_AT: usize = ASCII_AT + 4 * 128;
/// No token: beyond every vocabulary.
const NONE: u32 = u32::MAX;
/// Numbers of one merge: right half, rank, product.
const MERGE_NUMBERS: usize = 3;

const _: () = assert!(MAX_VOCABULARY_TOKENS < NONE as usize);
const _: () = assert!(MAX_MERGES < NONE as usize);

/// Counts, and what the ids of some tokens are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    tokens: u32,
    merges: u32,
    pieces: u32,
    whole: u32,
    text_bytes: u32,
    add_bos: u32,
    bos: u32,
    start_of_turn: u32,
    end_of_turn: u32,
    ends: [u32; 3],
    last_needed: u32,
}

impl Head {
    const NUMBERS: usize = 13;

    fn numbers(&self) -> [u32; Head::NUMBERS] {
        let Head { tokens, merges, pieces, whole, text_bytes, add_bos, bos, start_of_turn, end_of_turn, ends, last_needed } =
            *self;
        let [a, b, c] = ends;
        [tokens, merges, pieces, whole, text_bytes, add_bos, bos, start_of_turn, end_of_turn, a, b, c, last_needed]
    }

    fn of(numbers: [u32; Head::NUMBERS]) -> Head {
        let [tokens, merges, pieces, whole, text_bytes, add_bos, bos, start_of_turn, end_of_turn, a, b, c, last_needed] = numbers;
        let ends = [a, b, c];
        Head { tokens, merges, pieces, whole, text_bytes, add_bos, bos, start_of_turn, end_of_turn, ends, last_needed }
    }

    /// Where each part lies, and where the last one ends; none where the counts cannot be meant.
    fn places(&self) -> Option<Places> {
        let (tokens, merges) = (self.tokens as usize, self.merges as usize);
        let (pieces, whole, text_bytes) = (self.pieces as usize, self.whole as usize, self.text_bytes as usize);
        let counts = tokens <= MAX_VOCABULARY_TOKENS && merges <= MAX_MERGES && pieces <= tokens && whole <= pieces;
        if !counts || text_bytes > tokens * MAX_PIECE_BYTES {
            return None;
        }
        let merge_ends = TEXT_ENDS_AT + 4 * tokens;
        let merge_rows = merge_ends + 4 * tokens;
        let piece_ids = merge_rows + 4 * MERGE_NUMBERS * merges;
        let whole_ids = piece_ids + 4 * pieces;
        let kinds = whole_ids + 4 * whole;
        let texts = kinds + tokens;
        Some(Places {
            merge_ends,
            merges: merge_rows,
            pieces: piece_ids,
            whole: whole_ids,
            kinds,
            texts,
            end: texts + text_bytes,
        })
    }
}

/// Where the parts of variable length begin.
#[derive(Clone, Copy, Debug)]
struct Places {
    merge_ends: usize,
    merges: usize,
    pieces: usize,
    whole: usize,
    kinds: usize,
    texts: usize,
    end: usize,
}

/// Two tokens that become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Merged {
    rank: u32,
    product: u32,
}

/// A packed vocabulary, checked.
pub struct Packed {
    source: Box<dyn AsRef<[u8]> + Send + Sync>,
    head: Head,
    places: Places,
}

impl Packed {
    /// Takes bytes that [`pack`] made; none where they are not whole, or of another kind. Reads all of them.
    pub fn open(source: impl AsRef<[u8]> + Send + Sync + 'static) -> Option<Packed> {
        let packed = Packed::open_unread(source)?;
        let check = u128::from_le_bytes(packed.bytes()[CHECK_AT..HEAD_AT].try_into().ok()?);
        (xxh3_128(&packed.bytes()[HEAD_AT..]) == check).then_some(packed)
    }

    /// The same for bytes whose check was made before: reads their head only.
    pub fn open_unread(source: impl AsRef<[u8]> + Send + Sync + 'static) -> Option<Packed> {
        let bytes = source.as_ref();
        if bytes.get(..SOURCE_AT)? != MAGIC {
            return None;
        }
        let mut numbers = [0; Head::NUMBERS];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = number_at(bytes, HEAD_AT + 4 * at)?;
        }
        let head = Head::of(numbers);
        let places = head.places()?;
        (bytes.len() == places.end).then(|| Packed { source: Box::new(source), head, places })
    }

    /// What it was made from, as [`pack`] was told.
    pub fn made_from(&self) -> [u8; 16] {
        let mut source = [0; 16];
        source.copy_from_slice(&self.bytes()[SOURCE_AT..CHECK_AT]);
        source
    }

    /// Bytes in all.
    pub fn bytes_in_all(&self) -> usize {
        self.places.end
    }

    fn bytes(&self) -> &[u8] {
        (*self.source).as_ref()
    }

    fn number(&self, at: usize) -> Option<u32> {
        number_at(self.bytes(), at)
    }

    /// The `index`th of the `count` numbers from `at` on.
    fn entry(&self, at: usize, index: u32, count: u32) -> Option<u32> {
        if index < count { self.number(at + 4 * index as usize) } else { None }
    }

    /// Tokens of the vocabulary.
    pub(super) fn tokens(&self) -> usize {
        self.head.tokens as usize
    }

    pub(super) fn bos(&self) -> Option<TokenId> {
        token(self.head.bos)
    }

    pub(super) fn add_bos(&self) -> bool {
        self.head.add_bos != 0
    }

    /// What opens and what closes a turn.
    pub(super) fn turns(&self) -> [Option<TokenId>; 2] {
        [token(self.head.start_of_turn), token(self.head.end_of_turn)]
    }

    /// The tokens that end an answer.
    pub(super) fn ends(&self) -> impl Iterator<Item = TokenId> {
        self.head.ends.into_iter().filter_map(token)
    }

    /// The last token that needs a row of the embedding.
    pub(super) fn last_needed(&self) -> Option<TokenId> {
        token(self.head.last_needed)
    }

    /// The pieces that are cut out whole.
    pub(super) fn whole(&self) -> impl Iterator<Item = u32> {
        (0..self.head.whole).filter_map(|index| self.entry(self.places.whole, index, self.head.whole))
    }

    pub(super) fn kind(&self, id: u32) -> TokenKind {
        let kind = if id < self.head.tokens { self.bytes().get(self.places.kinds + id as usize) } else { None };
        kind.and_then(|kind| TokenKind::try_from(i32::from(*kind)).ok()).unwrap_or(TokenKind::Unused)
    }

    /// The bytes of a token's text; none beyond the vocabulary.
    fn raw(&self, id: u32) -> &[u8] {
        let end = |id: u32| self.entry(TEXT_ENDS_AT, id, self.head.tokens);
        let start = match id.checked_sub(1) {
            None => Some(0),
            Some(before) => end(before),
        };
        let range = start.zip(end(id)).map(|(start, end)| start as usize..end as usize);
        let texts = &self.bytes()[self.places.texts..];
        range.and_then(|range| texts.get(range)).unwrap_or_default()
    }

    /// A token's text; nothing beyond the vocabulary.
    pub(super) fn text(&self, id: u32) -> &str {
        str::from_utf8(self.raw(id)).unwrap_or_default()
    }

    /// Adds what a token says to `out`: nothing for tokens that steer the model, and for ids beyond the vocabulary.
    pub(super) fn say(&self, token: TokenId, out: &mut Vec<u8>) {
        match self.kind(token.0) {
            TokenKind::Normal | TokenKind::UserDefined => {
                for (at, part) in self.text(token.0).split('▁').enumerate() {
                    if at > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(part.as_bytes());
                }
            }
            TokenKind::Byte => out.extend(byte_of(self.text(token.0))),
            TokenKind::Unknown | TokenKind::Control | TokenKind::Unused => {}
        }
    }

    /// The token of one byte.
    fn byte(&self, byte: u8) -> Option<u32> {
        self.number(BYTES_AT + 4 * usize::from(byte)).filter(|id| *id != NONE)
    }

    /// The piece with this text.
    fn piece(&self, text: &str) -> Option<u32> {
        if let [ascii @ ..0x80] = *text.as_bytes() {
            return self.number(ASCII_AT + 4 * usize::from(ascii)).filter(|id| *id != NONE);
        }
        let at = |index: u32| self.entry(self.places.pieces, index, self.head.pieces);
        let (mut low, mut high) = (0, self.head.pieces);
        while low < high {
            let middle = low.midpoint(high);
            let id = at(middle)?;
            match self.raw(id).cmp(text.as_bytes()) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Equal => return Some(id),
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// What two tokens become.
    fn merge(&self, left: u32, right: u32) -> Option<Merged> {
        let end = |id: u32| self.entry(self.places.merge_ends, id, self.head.tokens);
        let mut low = left.checked_sub(1).map_or(Some(0), end)?;
        let mut high = end(left)?.min(self.head.merges);
        let at = |index: u32| self.places.merges + 4 * MERGE_NUMBERS * index as usize;
        while low < high {
            let middle = low.midpoint(high);
            match self.number(at(middle))?.cmp(&right) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => {
                    return Some(Merged { rank: self.number(at(middle) + 4)?, product: self.number(at(middle) + 8)? });
                }
            }
        }
        None
    }
}

fn token(id: u32) -> Option<TokenId> {
    (id != NONE).then_some(TokenId(id))
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Vocabulary;

    #[test]
    fn what_is_damaged_or_cut_short_is_refused() {
        let good = pack(Vocabulary::synthetic(512, 1), [7; 16]).unwrap();
        let opened = Packed::open(good.clone()).unwrap();
        assert_eq!((opened.made_from(), opened.bytes_in_all(), opened.tokens()), ([7; 16], good.len(), 512));
        for end in (0..good.len()).step_by(97).chain([good.len() - 1]) {
            assert!(Packed::open(good[..end].to_vec()).is_none(), "cut at {end}");
        }
        assert!(Packed::open([good.as_slice(), &[0]].concat()).is_none());
        for at in (0..SOURCE_AT).chain(CHECK_AT..good.len()) {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            assert!(Packed::open(damaged).is_none(), "byte {at}");
        }
    }

    /// Bytes of nobody's making whose check is right: still no call may panic.
    #[test]
    fn no_bytes_make_it_panic() {
        let good = pack(Vocabulary::synthetic(512, 1), [0; 16]).unwrap();
        let mut drawn = 1_u64;
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..40 {
                drawn = xxhash_rust::xxh3::xxh3_64(&drawn.to_le_bytes());
                let at = HEAD_AT + 20 + drawn as usize % (bytes.len() - HEAD_AT - 20);
                bytes[at] = (drawn >> 32) as u8;
            }
            let check = xxh3_128(&bytes[HEAD_AT..]).to_le_bytes();
            bytes[CHECK_AT..HEAD_AT].copy_from_slice(&check);
            let packed = Packed::open(bytes).unwrap();
            let mut said = Vec::new();
            (0..600).chain([NONE]).for_each(|id| packed.say(TokenId(id), &mut said));
            let Ok(tokenizer) = crate::tokenizer::Tokenizer::from_packed(packed) else { continue };
            let _ = tokenizer.encode_prompt("The state of the other side, naïve\n\n  漢字 🙂");
            let _ = tokenizer.check_vocabulary(3);
        }
    }
}
