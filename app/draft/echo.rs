//! What followed the last words at an earlier occurrence, in the prompt or in the answer itself.

use heapless::Vec as Bounded;

use crate::id::TokenId;
use crate::limits::MAX_PATH_TOKENS;

/// Tokens at the end of the text that must match: shorter matches occur by chance.
const WORDS: usize = 3;

/// Matching tokens beyond which a longer match is no longer preferred to a later one.
const LONGEST: usize = 16;

/// The tokens after the earlier place that matches the end of `text` best: the latest of the places
/// with the longest match. Empty if there is none.
pub(crate) fn echo(text: &[TokenId]) -> Bounded<TokenId, MAX_PATH_TOKENS> {
    let mut best = (WORDS - 1, text.len());
    // The last token would match itself.
    for end in (WORDS..text.len()).rev() {
        let common = text[..end]
            .iter()
            .rev()
            .zip(text.iter().rev())
            .take(LONGEST)
            .take_while(|(a, b)| a == b)
            .count();
        if common > best.0 {
            best = (common, end);
            if common == LONGEST {
                break;
            }
        }
    }
    text[best.1..].iter().take(MAX_PATH_TOKENS).copied().collect()
}
