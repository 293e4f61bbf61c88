//! One streaming answer: tokens go in, text comes out.

use crate::id::TokenId;
use crate::tokenizer::{TextStream, Tokenizer, TokenizerError};

use super::{Form, StopMatcher};

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

    /// The tokens that a conversation keeps: those that the model chose, without what a stop string
    /// cuts off, and without whitespace at the end if the template trims answers.
    ///
    /// A node that has only the text encodes what the template makes of it. If the model chose the
    /// tokens that its text encodes to, those of the trimmed text are kept. If not, no node gets
    /// them from the text: then only what shares a token with the whitespace is encoded again.
    ///
    /// Whitespace at the beginning stays, although a template that trims cuts it off, too: without
    /// it the state of the whole answer would have to be computed again before the next one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn kept(&self, tokenizer: &Tokenizer, form: &Form) -> Result<Vec<TokenId>, TokenizerError> {
        let text = self.text.as_str();
        let said = form.answer(text);
        let chosen = self.chosen(text, tokenizer)?;
        if said.is_empty() {
            return Ok(if text.is_empty() { chosen } else { Vec::new() });
        }
        let end = text.find(said).map_or(text.len(), |at| at + said.len());
        if end == text.len() {
            return Ok(chosen);
        }
        let encoded = tokenizer.encode(&text[..end])?;
        if chosen.starts_with(&encoded) || chosen == tokenizer.encode(text)? {
            return Ok(encoded);
        }
        self.chosen(&text[..end], tokenizer)
    }

    /// The chosen tokens of the beginning of the text. Encodes again only what shares a token with
    /// the text after it.
    fn chosen(&self, start: &str, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, TokenizerError> {
        let shown = start.len();
        if !self.is_stopped() && shown == self.text.len() {
            return Ok(self.tokens.clone());
        }
        let said = self.ends.iter().rposition(|end| *end <= shown).map_or(0, |at| self.ends[at]);
        let count = self.ends.iter().position(|end| *end == said).map_or(0, |at| at + 1);
        let mut tokens = self.tokens[..count].to_vec();
        tokens.extend(tokenizer.encode(&start[said..])?);
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;
    use crate::tokenizer::Vocabulary;

    /// A form that leaves texts as they are.
    fn untrimmed() -> Form {
        Form::of(Pattern { trims: false, trims_answers: false, ..Pattern::gemma() })
    }

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
            let kept = answer.kept(&tokenizer, &untrimmed()).unwrap();
            assert_eq!(tokenizer.decode(&kept), shown, "{stop:?}");
            let trimmed = answer.kept(&tokenizer, &Form::gemma(true)).unwrap();
            assert_eq!(trimmed, tokenizer.encode(shown.trim_end()).unwrap(), "{stop:?}");
            let same = kept.iter().zip(&tokens).take_while(|(kept, chosen)| kept == chosen).count();
            let last = tokenizer.decode(&tokens[..=same.min(tokens.len() - 1)]);
            assert!(
                same == tokens.len() || last.len() > shown.len(),
                "{stop:?}: tokens before the stop string were encoded again"
            );
        }
    }

    /// A stranger to the conversation has only the text, which the template trims.
    #[test]
    fn whitespace_at_the_end_of_an_answer_is_kept_if_the_template_does() {
        let mut vocabulary = Vocabulary::synthetic(1_000, 1);
        let last = vocabulary.tokens.len() - 1;
        vocabulary.tokens[last] = "e\n".to_string();
        let joined = TokenId(last as u32);
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
        let encode = |text: &str| tokenizer.encode(text).unwrap();
        let each = |texts: &[&str]| texts.iter().flat_map(|text| encode(text)).collect::<Vec<_>>();
        let kept = |tokens: &[TokenId], form: &Form| {
            let mut answer = Answer::new(&tokenizer);
            tokens.iter().for_each(|token| drop(answer.push(*token)));
            answer.end();
            answer.kept(&tokenizer, form).unwrap()
        };
        let gemma = Form::gemma(true);
        for text in ["the state\n", "the state \n\n ", "\nthe state", " the state. ", "\n", "", "a"]
        {
            let chosen = encode(text);
            assert_eq!(kept(&chosen, &gemma), encode(text.trim_end()), "{text:?}");
            assert_eq!(kept(&chosen, &untrimmed()), chosen, "{text:?}");
        }
        let parted = each(&["the state", "\n", "\n", " "]);
        assert_eq!(kept(&parted, &gemma), encode("the state"), "only the whitespace is unusual");
        let odd = each(&["t", "h", "e"]);
        assert_ne!(odd, encode("the"));
        assert_eq!(kept(&[odd.clone(), encode(" \n")].concat(), &gemma), odd);
        assert_eq!(kept(&[&odd[..2], &[joined]].concat(), &gemma), odd, "a token of both");
        let late = [encode("\n"), odd.clone(), encode("\n")].concat();
        assert_eq!(kept(&late, &gemma), late[..late.len() - 1], "computed once, and found");
        let cut = [odd.clone(), vec![tokenizer.encode("漢").unwrap()[0]]].concat();
        assert_eq!(kept(&cut, &gemma), cut, "half a character");
    }
}
