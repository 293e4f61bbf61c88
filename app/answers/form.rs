//! How prompts are put to a model: in its own chat template, or in the built-in one of Gemma.

use thiserror::Error;

use super::{Pattern, Recall};
use crate::id::TokenId;
use crate::tokenizer::{Said, Tokenizer, TokenizerError, trim};

/// Tokens that Gemma's template needs.
const GEMMA_NEEDS: [&str; 2] = ["<start_of_turn>", "<end_of_turn>"];

/// A model's chat template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    pattern: Pattern,
    is_chat_model: bool,
}

/// Why a text cannot be put into the template.
#[derive(Debug, Error)]
pub enum FormError {
    /// The vocabulary lacks a token of the built-in template.
    #[error(
        "this model's vocabulary has no {0}: it cannot chat, have it complete the text (--raw)"
    )]
    NoTurns(&'static str),
    /// The template refuses a system text or has no place for it.
    #[error(
        "this model's chat template takes no system text: {0}; leave it out, or say it in the first turn"
    )]
    NoSystem(String),
    /// A conversation sent whole has more tokens than the context takes.
    #[error(
        "the conversation has more than the {0} tokens that the context takes: leave the oldest turns out"
    )]
    TooLong(usize),
    /// The text is too long.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Form {
    /// The form of a model whose file has a chat template with this pattern.
    pub fn of(pattern: Pattern) -> Form {
        Form { pattern, is_chat_model: true }
    }

    /// Gemma's form. `is_chat_model` is set if the file has a template that cannot be used.
    pub fn gemma(is_chat_model: bool) -> Form {
        Form { pattern: Pattern::gemma(), is_chat_model }
    }

    /// Whether this is a chat model, which means that its file has a chat template.
    pub(crate) fn is_chat_model(&self) -> bool {
        self.is_chat_model
    }

    /// Checks that the template takes a system text.
    ///
    /// # Errors
    /// [`FormError::NoSystem`].
    pub(crate) fn takes_system(&self) -> Result<(), FormError> {
        self.pattern
            .system
            .as_ref()
            .map_or_else(|reason| Err(FormError::NoSystem(reason.clone())), |_| Ok(()))
    }

    /// The tokens of a conversation's first turn, from `<bos>` to where the model speaks.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn first(
        &self,
        tokenizer: &Tokenizer,
        system: Option<&str>,
        text: &str,
    ) -> Result<Vec<TokenId>, FormError> {
        if let Some(lacking) =
            GEMMA_NEEDS.into_iter().find(|name| self.needs(name) && !tokenizer.has_control(name))
        {
            return Err(FormError::NoTurns(lacking));
        }
        let text = self.text(text);
        let said = match (system, &self.pattern.system, &self.pattern.first) {
            (None, _, [before, behind]) => tokenizer.encode_said(&[
                Said::Template(before),
                Said::Text(text),
                Said::Template(behind),
            ]),
            (Some(_), Err(reason), _) => return Err(FormError::NoSystem(reason.clone())),
            (Some(system), Ok([before, between, behind]), _) => {
                let system = if self.pattern.trims_system { trim(system) } else { system };
                let (system, text) = (Said::Text(system), Said::Text(text));
                tokenizer.encode_said(&[
                    Said::Template(before),
                    system,
                    Said::Template(between),
                    text,
                    Said::Template(behind),
                ])
            }
        };
        let mut tokens = said?;
        tokens.splice(0..0, tokenizer.bos());
        Ok(tokens)
    }

    /// The tokens from the end of an answer to where the model speaks again.
    ///
    /// # Errors
    /// [`FormError::Tokenizer`].
    pub fn next(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>, FormError> {
        let [before, behind] = &self.pattern.next;
        Ok(tokenizer.encode_said(&[
            Said::Template(before),
            Said::Text(self.text(text)),
            Said::Template(behind),
        ])?)
    }

    /// The tokens of a conversation sent whole: `turns` are pairs of a prompt and its answer,
    /// `text` is the new prompt. Answers that `recall` remembers under their text as the template
    /// puts it keep the tokens that the model chose. `most` is the most tokens allowed.
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
            // No further work for a conversation that cannot be answered.
            if tokens.len() > most {
                return Err(FormError::TooLong(most));
            }
            prompt.read(&tokens);
            let answer = self.answer(answer);
            match recall.tokens(&prompt, answer) {
                Some(chosen) => tokens.extend_from_slice(chosen),
                None => tokens.extend(tokenizer.encode(answer)?),
            }
            tokens.extend(self.next(tokenizer, next)?);
        }
        Ok(tokens)
    }

    /// An answer's text as the template puts it.
    pub(crate) fn answer<'a>(&self, text: &'a str) -> &'a str {
        if self.pattern.trims_answers { trim(text) } else { text }
    }

    fn text<'a>(&self, text: &'a str) -> &'a str {
        if self.pattern.trims { trim(text) } else { text }
    }

    /// Whether the template needs this token. In templates other than Gemma's, tokens that the
    /// vocabulary lacks are encoded as text, as their makers' tools do.
    fn needs(&self, name: &str) -> bool {
        self.pattern == Pattern::gemma() && self.pattern.next[0].contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{Answer, ContextLimits, Conversation};
    use crate::tokenizer::Vocabulary;

    /// A conversation with an answer whose tokens no text encodes to.
    #[test]
    fn a_conversation_sent_whole_has_the_tokens_of_one_that_was_kept() {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap();
        let form = Form::gemma(true);
        let odd: Vec<TokenId> =
            ["t", "h", "e"].iter().flat_map(|letter| tokenizer.encode(letter).unwrap()).collect();
        assert_ne!(odd, tokenizer.encode("the").unwrap());
        let room =
            ContextLimits { context: 400, most_context: 400, max_tokens: 20, drop_oldest: false };
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

    /// A console's conversation, one that this node remembers and one that it has never seen.
    #[test]
    fn a_stranger_gets_the_tokens_of_an_answer_with_whitespace_at_its_end() {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap();
        let room =
            ContextLimits { context: 400, most_context: 400, max_tokens: 20, drop_oldest: false };
        let [answers, prompts] = [true, false].map(|trims_answers| Pattern {
            trims: !trims_answers,
            trims_answers,
            ..Pattern::gemma()
        });
        for form in [Form::gemma(true), Form::of(answers), Form::of(prompts)] {
            for text in ["the other\n", " the other", "\n\nthe \n", "\n", "the"] {
                let mut talk = Conversation::default();
                let first = talk.ask(&form, &tokenizer, " One", room).unwrap().tokens;
                let mut answer = Answer::new(&tokenizer);
                for token in tokenizer.encode(text).unwrap() {
                    answer.push(token);
                }
                let kept = answer.kept(&tokenizer, &form).unwrap();
                talk.answered(kept.clone());
                let second = talk.ask(&form, &tokenizer, "Two", room).unwrap().tokens;
                let stranger = Recall::new([7; 32]);
                let mut recall = Recall::new([7; 32]);
                recall.remember(&first, form.answer(text), kept);
                // Whitespace at the beginning stays for those who remember it.
                let is_led = form.answer(text).len() < text.trim_end().len();
                for recall in [recall].into_iter().chain((!is_led).then_some(stranger)) {
                    let turns = [(" One".to_string(), text.to_string())];
                    let sent =
                        form.conversation(&tokenizer, None, &turns, "Two", (&recall, 400)).unwrap();
                    assert_eq!(sent, second, "{text:?} in {form:?}");
                }
            }
        }
    }
}
