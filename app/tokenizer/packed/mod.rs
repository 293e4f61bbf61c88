//! A vocabulary as bytes that are used in place, usually in a mapped file: the contents of a
//! `tokenizer.json` or a GGUF's tokenizer arrays, processed once. Gemma's 262,144 tokens take some
//! 11 MB, of which a prompt touches little; tables on the heap would take hundreds of MB.
//!
//! ```text
//! 0    "potluck tokens 2"     magic, 16 bytes; all numbers are u32, little endian
//! 16   source                 16 bytes: what it was made from, as told to `pack`
//! 32   check                  XXH3-128 of everything that follows, little endian
//! 48   head                   20 numbers, see `Head`
//! 128  byte tokens            256 ids: of <0x00> to <0xFF>; all ones if there is none
//!      ASCII pieces           128 ids: of the single ASCII characters; all ones if there is none
//!      text ends              a number per token: end of its text, which begins at the last end
//!      merge ends             a number per token: the end of the merges whose left half it is
//!      merges                 right half, rank and product of each; sorted by left, then right
//!      pieces                 the ids of all pieces of text, sorted by text
//!      whole pieces           the ids of the pieces that are cut out before any merge
//!      controls               the ids, by text, of all non-byte tokens that text must never become
//!      kinds                  a byte per token: its `TokenKind` number
//!      texts                  of all tokens, without gaps; `▁` stands for a space
//!      notes                  lines for the user: where the source contradicts its tokens' names
//! ```
//!
//! Promises: [`Packed::open`] refuses bytes that are damaged, truncated or of another kind.
//! Whatever bytes it accepts, no later call panics. (A file that is changed while it is mapped
//! could still produce wrong ids, but never a fault.)

mod model;
mod write;

use xxhash_rust::xxh3::xxh3_128;

use super::TokenKind;
use super::vocabulary::byte_of;
use crate::id::TokenId;
use crate::limits::{
    MAX_END_TOKENS, MAX_MERGES, MAX_PIECE_BYTES, MAX_VOCABULARY_NOTE_BYTES, MAX_VOCABULARY_TOKENS,
};

pub(super) use write::pack;

const MAGIC: &[u8; 16] = b"potluck tokens 2";
const SOURCE_AT: usize = 16;
const CHECK_AT: usize = 32;
const HEAD_AT: usize = 48;
const BYTES_AT: usize = HEAD_AT + 4 * Head::NUMBERS;
const ASCII_AT: usize = BYTES_AT + 4 * 256;
const TEXT_ENDS_AT: usize = ASCII_AT + 4 * 128;
/// No token: beyond every vocabulary.
const NONE: u32 = u32::MAX;
/// Numbers per merge: right half, rank, product.
const MERGE_NUMBERS: usize = 3;

const _: () = assert!(MAX_VOCABULARY_TOKENS < NONE as usize);
const _: () = assert!(MAX_MERGES < NONE as usize);

/// Counts, and the ids of some tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    tokens: u32,
    merges: u32,
    pieces: u32,
    whole: u32,
    controls: u32,
    text_bytes: u32,
    note_bytes: u32,
    bos: u32,
    padding: u32,
    start_of_turn: u32,
    end_of_turn: u32,
    last_needed: u32,
    ends: [u32; MAX_END_TOKENS],
}

impl Head {
    const NUMBERS: usize = 12 + MAX_END_TOKENS;

    fn numbers(&self) -> [u32; Head::NUMBERS] {
        let Head {
            tokens,
            merges,
            pieces,
            whole,
            controls,
            text_bytes,
            note_bytes,
            bos,
            padding,
            ..
        } = *self;
        let first = [tokens, merges, pieces, whole, controls, text_bytes, note_bytes, bos, padding];
        let roles = [self.start_of_turn, self.end_of_turn, self.last_needed];
        let mut numbers = [NONE; Head::NUMBERS];
        let all = first.into_iter().chain(roles).chain(self.ends);
        numbers.iter_mut().zip(all).for_each(|(place, number)| *place = number);
        numbers
    }

    fn of(numbers: [u32; Head::NUMBERS]) -> Head {
        let [
            tokens,
            merges,
            pieces,
            whole,
            controls,
            text_bytes,
            note_bytes,
            bos,
            padding,
            start,
            end,
            last_needed,
            ends @ ..,
        ] = numbers;
        let (start_of_turn, end_of_turn) = (start, end);
        Head {
            tokens,
            merges,
            pieces,
            whole,
            controls,
            text_bytes,
            note_bytes,
            bos,
            padding,
            start_of_turn,
            end_of_turn,
            last_needed,
            ends,
        }
    }

    /// The offset of each part, and of the end of the last one; `None` if the counts are
    /// implausible.
    fn places(&self) -> Option<Places> {
        let (tokens, merges) = (self.tokens as usize, self.merges as usize);
        let (pieces, whole, controls) =
            (self.pieces as usize, self.whole as usize, self.controls as usize);
        let (text_bytes, note_bytes) = (self.text_bytes as usize, self.note_bytes as usize);
        let counts = tokens <= MAX_VOCABULARY_TOKENS
            && merges <= MAX_MERGES
            && pieces <= tokens
            && whole <= pieces;
        let bytes =
            text_bytes <= tokens * MAX_PIECE_BYTES && note_bytes <= MAX_VOCABULARY_NOTE_BYTES;
        if !counts || controls > tokens || !bytes {
            return None;
        }
        let merge_ends = TEXT_ENDS_AT + 4 * tokens;
        let merge_rows = merge_ends + 4 * tokens;
        let piece_ids = merge_rows + 4 * MERGE_NUMBERS * merges;
        let whole_ids = piece_ids + 4 * pieces;
        let control_ids = whole_ids + 4 * whole;
        let kinds = control_ids + 4 * controls;
        let texts = kinds + tokens;
        let notes = texts + text_bytes;
        Some(Places {
            merge_ends,
            merges: merge_rows,
            pieces: piece_ids,
            whole: whole_ids,
            controls: control_ids,
            kinds,
            texts,
            notes,
            end: notes + note_bytes,
        })
    }
}

/// Offsets of the parts of variable length.
#[derive(Clone, Copy, Debug)]
struct Places {
    merge_ends: usize,
    merges: usize,
    pieces: usize,
    whole: usize,
    controls: usize,
    kinds: usize,
    texts: usize,
    notes: usize,
    end: usize,
}

/// The result of merging two tokens.
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
    /// Accepts bytes written by `pack`; returns `None` if they are damaged or of another kind.
    /// Reads all of them.
    pub(crate) fn open(source: impl AsRef<[u8]> + Send + Sync + 'static) -> Option<Packed> {
        let packed = Packed::open_unread(source)?;
        let check = u128::from_le_bytes(packed.bytes()[CHECK_AT..HEAD_AT].try_into().ok()?);
        (xxh3_128(&packed.bytes()[HEAD_AT..]) == check).then_some(packed)
    }

    /// Like `open`, for bytes whose check has been verified before: reads only their head.
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

    /// The `source` that was given to `pack`.
    pub(crate) fn made_from(&self) -> [u8; 16] {
        let mut source = [0; 16];
        source.copy_from_slice(&self.bytes()[SOURCE_AT..CHECK_AT]);
        source
    }

    /// Total bytes.
    pub(crate) fn bytes_in_all(&self) -> usize {
        self.places.end
    }

    fn bytes(&self) -> &[u8] {
        (*self.source).as_ref()
    }

    fn number(&self, at: usize) -> Option<u32> {
        number_at(self.bytes(), at)
    }

    /// The number at `index` of the `count` numbers that start at `at`.
    fn entry(&self, at: usize, index: u32, count: u32) -> Option<u32> {
        if index < count { self.number(at + 4 * index as usize) } else { None }
    }

    /// Number of tokens in the vocabulary.
    pub(super) fn tokens(&self) -> usize {
        self.head.tokens as usize
    }

    pub(super) fn bos(&self) -> Option<TokenId> {
        token(self.head.bos)
    }

    /// Notes for the user: where the source contradicts its tokens' names.
    pub(super) fn notes(&self) -> impl Iterator<Item = &str> {
        str::from_utf8(&self.bytes()[self.places.notes..]).unwrap_or_default().lines()
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
        (0..self.head.whole)
            .filter_map(|index| self.entry(self.places.whole, index, self.head.whole))
    }

    pub(super) fn kind(&self, id: u32) -> TokenKind {
        let kind = if id < self.head.tokens {
            self.bytes().get(self.places.kinds + id as usize)
        } else {
            None
        };
        kind.and_then(|kind| TokenKind::try_from(i32::from(*kind)).ok())
            .unwrap_or(TokenKind::Unused)
    }

    /// The bytes of a token's text; empty beyond the vocabulary.
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

    /// A token's text; empty beyond the vocabulary.
    pub(super) fn text(&self, id: u32) -> &str {
        str::from_utf8(self.raw(id)).unwrap_or_default()
    }

    /// Appends the visible text of an answer's token to `out`. A control token appears as its name,
    /// so that a function call, for example, can be recognized. Tokens that only begin, end or pad
    /// a text append nothing, and neither do ids beyond the vocabulary.
    pub(super) fn say(&self, token: TokenId, out: &mut Vec<u8>) {
        let id = token.0;
        if id != self.head.bos && id != self.head.padding && !self.head.ends.contains(&id) {
            self.spell(token, out);
        }
    }

    /// Appends the text of any token to `out`; a control token's text is its name.
    pub(super) fn spell(&self, token: TokenId, out: &mut Vec<u8>) {
        let text = self.text(token.0);
        match self.kind(token.0) {
            TokenKind::Normal | TokenKind::UserDefined => {
                for (at, part) in text.split('▁').enumerate() {
                    if at > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(part.as_bytes());
                }
            }
            TokenKind::Byte => out.extend(byte_of(text)),
            TokenKind::Unknown | TokenKind::Control | TokenKind::Unused => {
                out.extend_from_slice(text.as_bytes())
            }
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
        self.search(self.places.pieces, self.head.pieces, text)
    }

    /// The control token with this name.
    pub(super) fn control(&self, name: &str) -> Option<u32> {
        self.search(self.places.controls, self.head.controls, name)
    }

    /// Finds the token with this text among the `count` ids that start at `place` and are sorted by
    /// text.
    fn search(&self, place: usize, count: u32, text: &str) -> Option<u32> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            let id = self.entry(place, middle, count)?;
            match self.raw(id).cmp(text.as_bytes()) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Equal => return Some(id),
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The result of merging two tokens.
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
                    return Some(Merged {
                        rank: self.number(at(middle) + 4)?,
                        product: self.number(at(middle) + 8)?,
                    });
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
        assert_eq!(
            (opened.made_from(), opened.bytes_in_all(), opened.tokens()),
            ([7; 16], good.len(), 512)
        );
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

    /// Bytes that `pack` never writes, with a valid check: even so no call may panic.
    #[test]
    fn no_bytes_make_it_panic() {
        let good = pack(Vocabulary::synthetic(512, 1), [0; 16]).unwrap();
        let mut drawn = 1_u64;
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..40 {
                drawn = xxhash_rust::xxh3::xxh3_64(&drawn.to_le_bytes());
                let at = HEAD_AT + 28 + drawn as usize % (bytes.len() - HEAD_AT - 28);
                bytes[at] = (drawn >> 32) as u8;
            }
            let check = xxh3_128(&bytes[HEAD_AT..]).to_le_bytes();
            bytes[CHECK_AT..HEAD_AT].copy_from_slice(&check);
            let packed = Packed::open(bytes).unwrap();
            let mut said = Vec::new();
            (0..600).chain([NONE]).for_each(|id| packed.say(TokenId(id), &mut said));
            let _ = (packed.control("<eos>"), packed.notes().count());
            let Ok(tokenizer) = crate::tokenizer::Tokenizer::from_packed(packed) else { continue };
            let _ = tokenizer.encode_prompt("The state of the other side, naïve\n\n  漢字 🙂");
            let _ = tokenizer.check_vocabulary(3);
        }
    }
}
