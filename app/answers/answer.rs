//! One answer while it comes: tokens go in, text comes out.

use crate::id::TokenId;
use crate::tokenizer::{TextStream, Tokenizer};

/// An answer under way.
pub struct Answer<'a> {
    stream: TextStream<'a>,
    text: String,
    tokens: Vec<TokenId>,
}

impl<'a> Answer<'a> {
    /// An answer of which nothing has come.
    pub fn new(tokenizer: &'a Tokenizer) -> Answer<'a> {
        Answer { stream: tokenizer.stream(), text: String::new(), tokens: Vec::new() }
    }

    /// Takes the next token and gives the text that is complete with it; often none.
    pub fn push(&mut self, token: TokenId) -> String {
        self.tokens.push(token);
        let text = self.stream.push(token);
        self.text += &text;
        text
    }

    /// Ends the answer and gives the text that was still to come.
    pub fn end(&mut self) -> String {
        let rest = self.stream.end();
        self.text += &rest;
        rest
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
