//! One streaming answer: tokens go in, text comes out.

use crate::id::TokenId;
use crate::tokenizer::{TextStream, Tokenizer, TokenizerError};

use super::StopMatcher;

/// A streaming answer.
pub struct Answer<'a> {
    stream: TextStream<'a>,
    stops: StopMatcher,
    text: String,
    tokens: Vec<TokenId>,
    /// Length in bytes of the text complete after each token, including stop strings and
    /// what follows.
    ends: Vec<usize>,
}

impl<'a> Answer<'a> {
    /// An empty answer.
    pub fn new(tokenizer: &'a Tokenizer) -> Answer<'a> {
        Answer {
            stream: tokenizer.stream(),
            stops: StopMatcher::new(&[]),
            text: String::new(),
            tokens: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The same answer, ending before the first of these texts.
    pub fn until(self, stops: &[String]) -> Answer<'a> {
        Answer { stops: StopMatcher::new(stops), ..self }
    }

    /// Takes the next token and returns the text that it completes, often none.
    pub fn push(&mut self, token: TokenId) -> String {
        self.tokens.push(token);
        let complete = self.stream.push(token);
        self.ends.push(self.ends.last().unwrap_or(&0) + complete.len());
        let text = self.stops.push(&complete);
        self.text += &text;
        text
    }

    /// Ends the answer and returns the remaining text.
    pub fn end(&mut self) -> String {
        let rest = self.stops.push(&self.stream.end()) + &self.stops.end();
        self.text += &rest;
        rest
    }

    /// Whether a stop string was found.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stops.is_found()
    }

    /// Its text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tokens so far.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The tokens that a conversation keeps: those that the model chose. If a stop string ended the
    /// answer, keeps the tokens before that string, and encodes again only the text that shares a
    /// token with it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn kept(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, TokenizerError> {
        if !self.is_stopped() {
            return Ok(self.tokens.clone());
        }
        let shown = self.text.len();
        let said = self.ends.iter().rposition(|end| *end <= shown).map_or(0, |at| self.ends[at]);
        let count = self.ends.iter().position(|end| *end == said).map_or(0, |at| at + 1);
        let mut tokens = self.tokens[..count].to_vec();
        tokens.extend(tokenizer.encode(&self.text[said..])?);
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Vocabulary;

    #[test]
    fn what_is_kept_of_an_answer_says_what_was_shown() {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(1_000, 1)).unwrap();
        let text = "the state of the other side, naïve 漢字 🙂 and then END of it";
        let tokens = tokenizer.encode(text).unwrap();
        for stop in ["END", "e", "字", "🙂", " ", "the state", "ther side", "nowhere", "ï"] {
            let mut answer = Answer::new(&tokenizer).until(&[stop.to_string()]);
            let mut shown: String = tokens
                .iter()
                .map_while(|token| (!answer.is_stopped()).then(|| answer.push(*token)))
                .collect();
            shown += &answer.end();
            assert_eq!(
                (shown.as_str(), answer.is_stopped()),
                text.split_once(stop).map_or((text, false), |(head, _)| (head, true))
            );
            let kept = answer.kept(&tokenizer).unwrap();
            assert_eq!(tokenizer.decode(&kept), shown, "{stop:?}");
            let same = kept.iter().zip(&tokens).take_while(|(kept, chosen)| kept == chosen).count();
            let last = tokenizer.decode(&tokens[..=same.min(tokens.len() - 1)]);
            assert!(
                same == tokens.len() || last.len() > shown.len(),
                "{stop:?}: tokens before the stop string were encoded again"
            );
        }
    }
}
