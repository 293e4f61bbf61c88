//! One answer while it comes: tokens go in, text comes out.

use crate::id::TokenId;
use crate::tokenizer::{TextStream, Tokenizer};

use super::StopMatcher;

/// An answer under way.
pub struct Answer<'a> {
    stream: TextStream<'a>,
    stops: StopMatcher,
    text: String,
    tokens: Vec<TokenId>,
}

impl<'a> Answer<'a> {
    /// An answer of which nothing has come.
    pub fn new(tokenizer: &'a Tokenizer) -> Answer<'a> {
        Answer { stream: tokenizer.stream(), stops: StopMatcher::new(&[]), text: String::new(), tokens: Vec::new() }
    }

    /// The same, which ends before the first of these texts.
    pub fn until(self, stops: &[String]) -> Answer<'a> {
        Answer { stops: StopMatcher::new(stops), ..self }
    }

    /// Takes the next token and gives the text that is complete with it; often none.
    pub fn push(&mut self, token: TokenId) -> String {
        self.tokens.push(token);
        let text = self.stops.push(&self.stream.push(token));
        self.text += &text;
        text
    }

    /// Ends the answer and gives the text that was still to come.
    pub fn end(&mut self) -> String {
        let rest = self.stops.push(&self.stream.end()) + &self.stops.end();
        self.text += &rest;
        rest
    }

    /// Whether one of the texts that end it has come.
    pub fn is_stopped(&self) -> bool {
        self.stops.is_found()
    }

    /// Its text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tokens so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }
}
