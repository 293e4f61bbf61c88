//! Remembers the tokens of answers, for clients that send the whole conversation as text with
//! every turn.
//!
//! An answer's text often encodes to other tokens than the model chose, and from there on no KV
//! state of the conversation can be reused. So the latest answers are remembered: a hash of what
//! came before them and of their text, with their tokens.
//!
//! The lookup key is a keyed hash (BLAKE3) of all tokens before the answer and of its text, so that
//! no client can craft a conversation that is taken for another's.

use std::collections::VecDeque;

use crate::id::TokenId;
use crate::limits::{MAX_RECALLED_ANSWERS, MAX_RECALLED_TOKENS};

/// The remembered answers; see the module header.
pub(crate) struct Recall {
    key: [u8; 32],
    /// The latest answer is last.
    answers: VecDeque<(blake3::Hash, Vec<TokenId>)>,
    /// Tokens of all answers.
    tokens: usize,
}

/// The tokens before an answer, hashed so far.
pub(crate) struct Prompt {
    hash: blake3::Hasher,
    read: usize,
}

impl Prompt {
    /// Hashes the new tokens at the end of the same, longer prompt.
    pub(crate) fn read(&mut self, tokens: &[TokenId]) {
        for token in tokens.get(self.read..).unwrap_or_default() {
            self.hash.update(&token.0.to_le_bytes());
        }
        self.read = self.read.max(tokens.len());
    }

    /// The lookup key of the answer with this text. The number of tokens before it separates tokens
    /// from text.
    fn name(&self, text: &str) -> blake3::Hash {
        let mut hash = self.hash.clone();
        hash.update(text.as_bytes()).update(&(self.read as u64).to_le_bytes()).finalize()
    }
}

impl Recall {
    /// An empty memory; `key` is a secret of this process.
    pub(crate) fn new(key: [u8; 32]) -> Recall {
        Recall { key, answers: VecDeque::new(), tokens: 0 }
    }

    /// An empty prompt.
    pub(crate) fn prompt(&self) -> Prompt {
        Prompt { hash: blake3::Hasher::new_keyed(&self.key), read: 0 }
    }

    /// Remembers an answer to a prompt under its text.
    pub(crate) fn remember(&mut self, prompt: &[TokenId], text: &str, tokens: Vec<TokenId>) {
        if tokens.len() > MAX_RECALLED_TOKENS {
            return;
        }
        let mut read = self.prompt();
        read.read(prompt);
        let name = read.name(text);
        if let Some(at) = self.answers.iter().position(|(other, _)| *other == name) {
            self.forget(at);
        }
        self.tokens += tokens.len();
        self.answers.push_back((name, tokens));
        while self.answers.len() > MAX_RECALLED_ANSWERS || self.tokens > MAX_RECALLED_TOKENS {
            self.forget(0);
        }
    }

    /// The tokens of the answer with this text to this prompt.
    pub(crate) fn tokens(&self, prompt: &Prompt, text: &str) -> Option<&[TokenId]> {
        let name = prompt.name(text);
        self.answers.iter().find(|(other, _)| *other == name).map(|(_, tokens)| tokens.as_slice())
    }

    fn forget(&mut self, at: usize) {
        if let Some((_, tokens)) = self.answers.remove(at) {
            self.tokens -= tokens.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().map(|id| TokenId(*id)).collect()
    }

    fn recalled<'a>(recall: &'a Recall, prompt: &[u32], text: &str) -> Option<&'a [TokenId]> {
        let (mut read, prompt) = (recall.prompt(), ids(prompt));
        // As the prompt grows.
        (0..=prompt.len()).for_each(|count| read.read(&prompt[..count]));
        recall.tokens(&read, text)
    }

    #[test]
    fn an_answer_is_recalled_where_all_before_it_is_the_same() {
        let mut recall = Recall::new([1; 32]);
        recall.remember(&ids(&[2, 7]), "Hi", ids(&[5, 6]));
        assert_eq!(recalled(&recall, &[2, 7], "Hi"), Some(&ids(&[5, 6])[..]));
        assert_eq!(recalled(&recall, &[2, 8], "Hi"), None);
        assert_eq!(recalled(&recall, &[2, 7], "Hi "), None);
        assert_eq!(
            recalled(&recall, &[2], "\u{7}\0\0\0Hi"),
            None,
            "text must not pass for a token"
        );
        recall.remember(&ids(&[2, 7]), "Hi", ids(&[9]));
        assert_eq!((recalled(&recall, &[2, 7], "Hi"), recall.tokens), (Some(&ids(&[9])[..]), 1));
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_size() {
        let mut recall = Recall::new([1; 32]);
        for at in 0..=MAX_RECALLED_ANSWERS {
            recall.remember(&ids(&[at as u32]), "x", ids(&[1]));
        }
        assert_eq!(
            (recall.answers.len(), recall.tokens),
            (MAX_RECALLED_ANSWERS, MAX_RECALLED_ANSWERS)
        );
        assert_eq!(
            (recalled(&recall, &[0], "x"), recalled(&recall, &[1], "x").is_some()),
            (None, true)
        );
        recall.remember(&ids(&[7]), "long", vec![TokenId(3); MAX_RECALLED_TOKENS - 1]);
        assert_eq!(recall.answers.len(), 2);
        recall.remember(&ids(&[7]), "too long", vec![TokenId(3); MAX_RECALLED_TOKENS + 1]);
        assert_eq!(recall.answers.len(), 2);
    }
}
