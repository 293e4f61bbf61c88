//! How a model is talked to: its own chat template, or Gemma's built-in one.

use thiserror::Error;

use super::{Pattern, Recall};
use crate::id::TokenId;
use crate::tokenizer::{Said, Tokenizer, TokenizerError, trim};

/// Tokens that Gemma's form needs.
const GEMMA_NEEDS: [&str; 2] = ["<start_of_turn>", "<end_of_turn>"];

/// The form of a model's chats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    pattern: Pattern,
    is_chat_model: bool,
}

/// Why a text cannot be put into the form.
#[derive(Debug, Error)]
pub enum FormError {
    /// The vocabulary lacks what the built-in form is made of.
    #[error("this model's vocabulary has no {0}: it cannot chat, have it complete the text (--raw)")]
    NoTurns(&'static str),
    /// The template says so, or has no place for it.
    #[error("this model's chat template takes no system text: {0}; leave it out, or say it in the first turn")]
    NoSystem(String),
    /// A conversation that was sent whole has more tokens than the context takes.
    #[error("the conversation has more than the {0} tokens that the context takes: leave the oldest turns out")]
    TooLong(usize),
    /// The text is too long.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Form {
    /// Of a model whose file has a chat template, which says `pattern`.
    pub fn of(pattern: Pattern) -> Form {
        Form { pattern, is_chat_model: true }
    }

    /// Gemma's. `is_chat_model` where the file has a template that cannot be followed.
    pub fn gemma(is_chat_model: bool) -> Form {
        Form { pattern: Pattern::gemma(), is_chat_model }
    }

    /// Whether the model is one for conversations: its file has a chat template.
    pub(crate) fn is_chat_model(&self) -> bool {
        self.is_chat_model
    }

    /// Whether there is a place for a system text.
    ///
    /// # Errors
    /// [`FormError::NoSystem`].
    pub(crate) fn takes_system(&self) -> Result<(), FormError> {
        self.pattern.system.as_ref().map_or_else(|reason| Err(FormError::NoSystem(reason.clone())), |_| Ok(()))
    }

    /// The tokens of a conversation's first turn, `<bos>` included, ready for the model to speak.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn first(&self, tokenizer: &Tokenizer, system: Option<&str>, text: &str) -> Result<Vec<TokenId>, FormError> {
        if let Some(lacking) = GEMMA_NEEDS.into_iter().find(|name| self.needs(name) && !tokenizer.has_control(name)) {
            return Err(FormError::NoTurns(lacking));
        }
        let text = self.text(text);
        let said = match (system, &self.pattern.system, &self.pattern.first) {
            (None, _, [before, behind]) => {
                tokenizer.encode_said(&[Said::Template(before), Said::Text(text), Said::Template(behind)])
            }
            (Some(_), Err(reason), _) => return Err(FormError::NoSystem(reason.clone())),
            (Some(system), Ok([before, between, behind]), _) => {
                let system = if self.pattern.trims_system { trim(system) } else { system };
                let (system, text) = (Said::Text(system), Said::Text(text));
                tokenizer.encode_said(&[Said::Template(before), system, Said::Template(between), text, Said::Template(behind)])
            }
        };
        let mut tokens = said?;
        tokens.splice(0..0, tokenizer.bos());
        Ok(tokens)
    }

    /// The tokens between an answer and the next one.
    ///
    /// # Errors
    /// [`FormError::Tokenizer`].
    pub fn next(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>, FormError> {
        let [before, behind] = &self.pattern.next;
        Ok(tokenizer.encode_said(&[Said::Template(before), Said::Text(self.text(text)), Said::Template(behind)])?)
    }

    /// The tokens of a conversation that was sent whole: `turns` are what was said and answered, `text` is said now. Answers that were given
    /// here are in the tokens that were chosen then. Beside what recalls them stands how many tokens there may be.
    ///
    /// # Errors
    /// [`FormError`].
    pub(crate) fn conversation(
        &self,
        tokenizer: &Tokenizer,
        system: Option<&str>,
        turns: &[(String, String)],
        text: &str,
        (recall, most): (&Recall, usize),
    ) -> Result<Vec<TokenId>, FormError> {
        let mut said = turns.iter().map(|(asked, _)| asked.as_str()).chain([text]);
        let mut tokens = self.first(tokenizer, system, said.next().unwrap_or_default())?;
        let mut prompt = recall.prompt();
        for ((_, answer), next) in turns.iter().zip(said) {
            // Nothing more is worked out for a conversation that cannot be answered.
            if tokens.len() > most {
                return Err(FormError::TooLong(most));
            }
            prompt.read(&tokens);
            match recall.tokens(&prompt, answer) {
                Some(chosen) => tokens.extend_from_slice(chosen),
                None => tokens.extend(tokenizer.encode(self.text(answer))?),
            }
            tokens.extend(self.next(tokenizer, next)?);
        }
        Ok(tokens)
    }

    fn text<'a>(&self, text: &'a str) -> &'a str {
        if self.pattern.trims { trim(text) } else { text }
    }

    /// Whether the form is made of this token. Others than Gemma's spell what the vocabulary lacks, as their makers' tools do.
    fn needs(&self, name: &str) -> bool {
        self.pattern == Pattern::gemma() && self.pattern.next[0].contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{Conversation, Room};
    use crate::tokenizer::Vocabulary;

    /// A conversation of which an answer has tokens that no text has.
    #[test]
    fn a_conversation_sent_whole_has_the_tokens_of_one_that_was_kept() {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap();
        let form = Form::gemma(true);
        let odd: Vec<TokenId> = ["t", "h", "e"].iter().flat_map(|letter| tokenizer.encode(letter).unwrap()).collect();
        assert_ne!(odd, tokenizer.encode("the").unwrap());
        let room = Room { context: 400, most_context: 400, max_tokens: 20, drop_oldest: false };
        let mut talk = Conversation::new(Some("Kind".to_string()));
        let first = talk.ask(&form, &tokenizer, " One", room).unwrap().tokens;
        talk.answered(odd.clone());
        let second = talk.ask(&form, &tokenizer, "Two", room).unwrap().tokens;

        let mut recall = Recall::new([7; 32]);
        let sent = |turns: &[(String, String)], text: &str, recall: &Recall| {
            form.conversation(&tokenizer, Some("Kind"), turns, text, (recall, 400)).unwrap()
        };
        assert_eq!(sent(&[], " One", &recall), first);
        let turns = [(" One".to_string(), "the".to_string())];
        assert_ne!(sent(&turns, "Two", &recall), second, "the text has other tokens");
        recall.remember(&first, "the", odd);
        assert_eq!(sent(&turns, "Two", &recall), second);
        let many = vec![turns[0].clone(); 100];
        let refused = form.conversation(&tokenizer, None, &many, "Two", (&recall, 400));
        assert!(matches!(refused, Err(FormError::TooLong(400))), "{refused:?}");
    }
}
