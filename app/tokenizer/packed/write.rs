//! Packs a vocabulary into bytes. Expensive: peak memory is several times the output.

use xxhash_rust::xxh3::xxh3_128;

use super::{CHECK_AT, HEAD_AT, Head, MAGIC, NONE, SOURCE_AT};
use crate::id::TokenId;
use crate::limits::{MAX_END_TOKENS, MAX_VOCABULARY_NOTE_BYTES};
use crate::tokenizer::roles::Roles;
use crate::tokenizer::vocabulary::{at_most, byte_of};
use crate::tokenizer::{TokenKind, TokenizerError, Vocabulary, merges};

/// Packs a vocabulary of any source into bytes for [`Packed::open`](super::Packed::open).
/// [`Packed::made_from`](super::Packed::made_from) returns `source`.
///
/// # Errors
/// [`TokenizerError::Damaged`] or [`TokenizerError::TooLarge`], naming the first fault.
pub(in crate::tokenizer) fn pack(
    mut vocabulary: Vocabulary,
    source: [u8; 16],
) -> Result<Vec<u8>, TokenizerError> {
    vocabulary.normalise();
    vocabulary.check()?;
    let mut merges: Vec<[u32; 4]> = (0..)
        .zip(merges::of(&vocabulary)?)
        .map(|(rank, m)| [m.left, m.right, rank, m.product])
        .collect();
    // Of two merges of the same pair the later one wins, as in the crate's own table.
    merges
        .sort_unstable_by_key(|[left, right, rank, _]| (*left, *right, core::cmp::Reverse(*rank)));
    merges.dedup_by_key(|[left, right, ..]| (*left, *right));

    let roles = Roles::of(&vocabulary);
    let notes = roles.notes.join("\n");
    at_most("notes on the vocabulary", "bytes", notes.len(), MAX_VOCABULARY_NOTE_BYTES)?;
    let tokens = &vocabulary.tokens;
    let text = |id: u32| tokens[id as usize].as_str();
    let of_kind = |wanted: fn(TokenKind) -> bool| {
        let kinds = vocabulary.kinds.iter().zip(0_u32..);
        kinds.filter(move |(kind, _)| wanted(**kind)).map(|(_, id)| id).collect::<Vec<u32>>()
    };
    let mut pieces = of_kind(TokenKind::is_text);
    pieces.sort_unstable_by_key(|id| text(*id));
    let whole = of_kind(|kind| kind == TokenKind::UserDefined);
    let mut controls = of_kind(|kind| !kind.is_text() && kind != TokenKind::Byte);
    controls.sort_unstable_by_key(|id| text(*id));
    let (mut bytes, mut ascii) = ([NONE; 256], [NONE; 128]);
    for id in of_kind(|kind| kind == TokenKind::Byte) {
        byte_of(text(id)).into_iter().for_each(|byte| bytes[usize::from(byte)] = id);
    }
    for id in &pieces {
        if let [byte @ ..0x80] = *text(*id).as_bytes() {
            ascii[usize::from(byte)] = *id;
        }
    }

    let id = |id: Option<TokenId>| id.map_or(NONE, |id| id.0);
    let [start_of_turn, end_of_turn] = roles.turns.map(id);
    let mut ends = [NONE; MAX_END_TOKENS];
    ends.iter_mut().zip(&roles.ends).for_each(|(place, end)| *place = end.0);
    let head = Head {
        tokens: tokens.len() as u32,
        merges: merges.len() as u32,
        pieces: pieces.len() as u32,
        whole: whole.len() as u32,
        controls: controls.len() as u32,
        text_bytes: tokens.iter().map(String::len).sum::<usize>() as u32,
        note_bytes: notes.len() as u32,
        bos: id(roles.bos),
        padding: id(roles.padding),
        start_of_turn,
        end_of_turn,
        last_needed: id(vocabulary.last_needed()),
        ends,
    };

    let length = head.places().map_or(0, |places| places.end);
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&source);
    out.extend_from_slice(&[0; HEAD_AT - CHECK_AT]);
    put(&mut out, head.numbers());
    put(&mut out, bytes);
    put(&mut out, ascii);
    put(&mut out, running(tokens.iter().map(String::len)));
    let mut lefts = vec![0; tokens.len()];
    merges.iter().for_each(|[left, ..]| lefts[*left as usize] += 1);
    put(&mut out, running(lefts.into_iter()));
    put(&mut out, merges.into_iter().flat_map(|[_, right, rank, product]| [right, rank, product]));
    put(&mut out, pieces);
    put(&mut out, whole);
    put(&mut out, controls);
    out.extend(vocabulary.kinds.iter().map(|kind| *kind as u8));
    tokens.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
    out.extend_from_slice(notes.as_bytes());
    debug_assert_eq!((out.len(), SOURCE_AT), (length, MAGIC.len()));
    let check = xxh3_128(&out[HEAD_AT..]).to_le_bytes();
    out[CHECK_AT..HEAD_AT].copy_from_slice(&check);
    Ok(out)
}

/// Running sums.
fn running(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = u32> {
    lengths.scan(0, |sum, length| {
        *sum += length as u32;
        Some(*sum)
    })
}

fn put(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    numbers.into_iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}
