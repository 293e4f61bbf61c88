//! What followed the last words where they stood before, in the prompt or in the answer itself.

use heapless::Vec as Bounded;

use crate::id::TokenId;
use crate::limits::MAX_PATH_TOKENS;

/// The last tokens that must have stood there before: fewer are found by chance.
const WORDS: usize = 3;

/// Tokens that the copied passage must have in common with the end of the text to be preferred to a later one.
const LONGEST: usize = 16;

/// The tokens after the place whose last words are those of `text`: the latest of the places with most of them in common. Nothing where
/// there is none.
pub(crate) fn echo(text: &[TokenId]) -> Bounded<TokenId, MAX_PATH_TOKENS> {
    let mut best = (WORDS - 1, text.len());
    // The last token is its own echo.
    for end in (WORDS..text.len()).rev() {
        let common = text[..end].iter().rev().zip(text.iter().rev()).take(LONGEST).take_while(|(a, b)| a == b).count();
        if common > best.0 {
            best = (common, end);
            if common == LONGEST {
                break;
            }
        }
    }
    text[best.1..].iter().take(MAX_PATH_TOKENS).copied().collect()
}
