//! What followed the same words in this node's answers: a small table of habits.
//!
//! A fixed number of entries, indexed by a hash of the last few tokens, for runs of several
//! lengths. Each holds the token that followed and a confidence. Every token of an answer raises or
//! lowers the confidence of one entry per length; an entry without any confidence left is replaced
//! by what was just seen. Nothing is cleared wholesale, and the same answers leave the same table.

use heapless::Vec as Bounded;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::TokenId;
use crate::limits::{HABIT_ENTRIES, HABIT_RUN, MAX_PATH_TOKENS};

/// Run lengths of the entries, longest first: what follows six tokens is most certain, what follows
/// three occurs most often.
const RUNS: [usize; 3] = [HABIT_RUN, 4, 3];

/// Highest confidence of an entry: it must be wrong that often before it can be replaced.
const SUREST: u8 = 7;

/// Confidence from which an entry is used, for each run length: one sighting after a short run
/// is chance.
const BELIEVED: [u8; 3] = [1, 2, 3];

/// Most tokens guessed ahead for an answer of this node, which can guess again at any time: each
/// guess depends on those before it.
const AHEAD: usize = 16;

/// An entry: 8 bytes.
#[derive(Clone, Copy, Default)]
struct Entry {
    token: u32,
    /// Another part of the run's hash.
    tag: u16,
    sure: u8,
}

/// The table.
pub(crate) struct Habits {
    entries: Box<[Entry]>,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { entries: vec![Entry::default(); HABIT_ENTRIES].into() }
    }
}

/// The index of a run's entry, and its tag; `None` if the text is shorter.
fn place(text: &[TokenId], run: usize) -> Option<(usize, u16)> {
    let words = text.get(text.len().checked_sub(run)?..)?;
    let mut bytes = [0; 4 * RUNS[0]];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.0.to_le_bytes());
    }
    let hash = xxh3_64_with_seed(&bytes[..4 * run], run as u64);
    Some(((hash % HABIT_ENTRIES as u64) as usize, (hash >> 48) as u16))
}

impl Habits {
    /// Learns that `token` followed `text`.
    pub(crate) fn learn(&mut self, text: &[TokenId], token: TokenId) {
        for (at, tag) in RUNS.iter().filter_map(|run| place(text, *run)) {
            let entry = &mut self.entries[at];
            if (entry.tag, entry.token) == (tag, token.0) {
                entry.sure = (entry.sure + 1).min(SUREST);
            } else if entry.sure > 0 {
                entry.sure -= 1;
            } else {
                *entry = Entry { token: token.0, tag, sure: 1 };
            }
        }
    }

    /// The tokens that are likely to follow `text`, for an answer of this node.
    pub(crate) fn guess(&self, text: &[TokenId]) -> Bounded<TokenId, MAX_PATH_TOKENS> {
        self.walk(text, AHEAD)
    }

    /// The same for a peer, which has to ask for every guess: as far as the table reaches.
    pub(crate) fn tell(&self, text: &[TokenId]) -> Bounded<TokenId, MAX_PATH_TOKENS> {
        self.walk(text, MAX_PATH_TOKENS)
    }

    fn walk(&self, text: &[TokenId], most: usize) -> Bounded<TokenId, MAX_PATH_TOKENS> {
        let mut last: Bounded<TokenId, { HABIT_RUN + MAX_PATH_TOKENS }> =
            text[text.len().saturating_sub(HABIT_RUN)..].iter().copied().collect();
        let known = last.len();
        while last.len() < known + most
            && let Some(token) = self.next(&last)
        {
            if last.push(token).is_err() {
                break;
            }
        }
        last[known..].iter().copied().collect()
    }

    fn next(&self, text: &[TokenId]) -> Option<TokenId> {
        RUNS.iter().zip(BELIEVED).find_map(|(run, believed)| {
            let (at, tag) = place(text, *run)?;
            let entry = &self.entries[at];
            (entry.tag == tag && entry.sure >= believed).then_some(TokenId(entry.token))
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(Entry::default());
    }
}
