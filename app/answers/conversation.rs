//! A conversation as the tokens that the model has seen and generated.
//!
//! Promise: an answer is kept as the tokens that the model chose ([`Answer::kept`](super::Answer)),
//! except for whitespace at its end that the template trims. So the next turn's prompt begins with
//! the whole of the last prompt and its answer, and their KV state is reused.

use thiserror::Error;

use super::{Form, FormError};
use crate::id::TokenId;
use crate::tokenizer::Tokenizer;

/// A person's turn and the model's answer.
#[derive(Clone, Debug)]
struct Turn {
    text: String,
    /// From the end of the previous answer to where the model speaks; in the first turn, from
    /// the start.
    asked: Vec<TokenId>,
    answer: Vec<TokenId>,
}

/// How much a conversation may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContextLimits {
    /// Most tokens of a prompt and its answer together.
    pub context: usize,
    /// The longest context that this model allows, in tokens.
    pub most_context: usize,
    /// Maximum tokens of an answer.
    pub max_tokens: usize,
    /// Whether a full conversation drops its oldest turns.
    pub drop_oldest: bool,
}

/// The next prompt of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnPrompt {
    /// The whole prompt, from the start.
    pub tokens: Vec<TokenId>,
    /// Turns that were dropped to make room.
    pub(crate) dropped: usize,
}

/// Why a turn is refused.
#[derive(Debug, Error)]
pub enum TurnError {
    /// The conversation has grown too long.
    #[error(
        "the conversation would have {tokens} tokens, and the context takes {context}: new begins another one, and set drop-oldest \
         on lets this one go on without its oldest turns"
    )]
    Full {
        /// Tokens of the conversation with the new turn.
        tokens: usize,
        /// Most tokens of a prompt and its answer together.
        context: usize,
    },
    /// The turn alone is too long.
    #[error("this turn alone has {tokens} tokens, and the context takes {context}: {}", shorter(*.context, *.most_context))]
    TooLong {
        /// Tokens of the turn.
        tokens: usize,
        /// Most tokens of a prompt and its answer together.
        context: usize,
        /// The longest context that this model allows, in tokens.
        most_context: usize,
    },
    /// The turn cannot be put into the chat template.
    #[error(transparent)]
    Form(#[from] FormError),
}

/// The turns of a conversation; see the module header.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    system: Option<String>,
    turns: Vec<Turn>,
    /// The turn being answered, and the turns that are kept before it.
    open: Option<(Turn, Vec<Turn>)>,
}

impl Conversation {
    /// A new conversation, with an optional system text.
    pub fn new(system: Option<String>) -> Conversation {
        Conversation { system, ..Conversation::default() }
    }

    /// Whether it has no turns.
    pub(crate) fn is_new(&self) -> bool {
        self.turns.is_empty()
    }

    /// Opens the next turn and returns its prompt. The turn stays open until it is answered
    /// or withdrawn.
    ///
    /// # Errors
    /// [`TurnError`]; the conversation is unchanged.
    pub fn ask(
        &mut self,
        form: &Form,
        tokenizer: &Tokenizer,
        text: &str,
        room: ContextLimits,
    ) -> Result<TurnPrompt, TurnError> {
        let mut kept = self.turns.clone();
        let mut turn = Turn { text: text.to_string(), asked: Vec::new(), answer: Vec::new() };
        turn.asked = if kept.is_empty() {
            self.first(form, tokenizer, text)?
        } else {
            form.next(tokenizer, text)?
        };
        let tokens = length(&kept) + turn.asked.len();
        let ContextLimits { context, most_context, .. } = room;
        let mut dropped = 0;
        if room.drop_oldest && tokens + room.max_tokens.min(context / 4) > context {
            // Halves the conversation at once, because every drop means computing the rest again.
            while !kept.is_empty() && length(&kept) + turn.asked.len() > context / 2 {
                kept.remove(0);
                dropped += 1;
                let first = kept.first_mut().unwrap_or(&mut turn);
                first.asked = self.first(form, tokenizer, &first.text)?;
            }
        }
        let tokens = length(&kept) + turn.asked.len();
        if tokens >= context {
            let is_alone = kept.is_empty();
            let too_long = TurnError::TooLong { tokens, context, most_context };
            return Err(if is_alone { too_long } else { TurnError::Full { tokens, context } });
        }
        let said = kept.iter().flat_map(|turn| turn.asked.iter().chain(&turn.answer));
        let tokens = said.chain(&turn.asked).copied().collect();
        self.open = Some((turn, kept));
        Ok(TurnPrompt { tokens, dropped })
    }

    /// Closes the open turn with its answer.
    pub fn answered(&mut self, answer: Vec<TokenId>) {
        if let Some((turn, kept)) = self.open.take() {
            self.turns = kept;
            self.turns.push(Turn { answer, ..turn });
        }
    }

    /// Discards the open turn.
    pub(crate) fn withdraw(&mut self) {
        self.open = None;
    }

    fn first(
        &self,
        form: &Form,
        tokenizer: &Tokenizer,
        text: &str,
    ) -> Result<Vec<TokenId>, FormError> {
        form.first(tokenizer, self.system.as_deref(), text)
    }
}

/// Advice for a turn that is too long for a context of this many tokens, which could have `most`.
fn shorter(context: usize, most: usize) -> String {
    let raise = if context < most {
        format!(", or raise --context (to {most} at most)")
    } else {
        String::new()
    };
    format!("shorten it{raise}")
}

fn length(turns: &[Turn]) -> usize {
    turns.iter().map(|turn| turn.asked.len() + turn.answer.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;
    use crate::tokenizer::Vocabulary;

    const ROOM: ContextLimits =
        ContextLimits { context: 400, most_context: 400, max_tokens: 20, drop_oldest: false };

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap()
    }

    /// The tokens of a text in Gemma's template, control tokens included.
    fn written(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
        let mut tokens: Vec<TokenId> = tokenizer.bos().into_iter().collect();
        tokens.extend(tokenizer.encode_said(&[crate::tokenizer::Said::Template(text)]).unwrap());
        tokens
    }

    #[test]
    fn a_conversation_is_what_was_asked_and_what_was_chosen() {
        let tokenizer = tokenizer();
        let mut talk = Conversation::new(Some("Be brief. ".to_string()));
        let form = Form::gemma(true);
        let first = talk.ask(&form, &tokenizer, "  Who?\n", ROOM).unwrap();
        let text = "<start_of_turn>user\nBe brief. \n\nWho?<end_of_turn>\n<start_of_turn>model\n";
        assert_eq!(first, TurnPrompt { tokens: written(&tokenizer, text), dropped: 0 });
        // No text encodes to these tokens, because these letters merge.
        let odd: Vec<TokenId> =
            ["t", "h", "e"].iter().flat_map(|letter| tokenizer.encode(letter).unwrap()).collect();
        assert_ne!(odd, tokenizer.encode("the").unwrap());
        talk.answered(odd.clone());
        let second = talk.ask(&form, &tokenizer, "<eos>", ROOM).unwrap().tokens;
        let said = [first.tokens, odd].concat();
        assert_eq!(
            second[..said.len()],
            said,
            "the kept tokens are not those that the model chose"
        );
        let marks = second[said.len()..].iter().filter(|token| tokenizer.is_end(**token)).count();
        assert_eq!(marks, 2, "of the answer and of the turn; <eos> in a text is text");
        assert_eq!(
            tokenizer.decode(&second[said.len()..]),
            "\n<start_of_turn>user\n<eos>\n<start_of_turn>model\n"
        );
    }

    #[test]
    fn a_turn_that_is_withdrawn_was_never_said() {
        let (tokenizer, form) = (tokenizer(), Form::gemma(true));
        let mut talk = Conversation::default();
        let first = talk.ask(&form, &tokenizer, "One", ROOM).unwrap();
        talk.withdraw();
        assert!(talk.is_new());
        assert_eq!(talk.ask(&form, &tokenizer, "One", ROOM).unwrap(), first);
        talk.answered(vec![TokenId(9)]);
        let second = talk.ask(&form, &tokenizer, "Two", ROOM).unwrap();
        talk.withdraw();
        assert_eq!(talk.ask(&form, &tokenizer, "Two", ROOM).unwrap(), second);
    }

    #[test]
    fn a_full_conversation_says_new_or_forgets_its_oldest_turns() {
        let (tokenizer, form) = (tokenizer(), Form::gemma(true));
        let mut talk = Conversation::new(Some("Kind".to_string()));
        let answer = |at: usize| vec![TokenId(400 + at as u32); 60];
        let mut turns = 0;
        let full = loop {
            match talk.ask(&form, &tokenizer, &format!("Turn {turns}"), ROOM) {
                Ok(_) => talk.answered(answer(turns)),
                Err(error) => break error.to_string(),
            }
            turns += 1;
        };
        assert!(
            turns > 2
                && full.contains("new begins another one")
                && full.contains("set drop-oldest on"),
            "{turns}: {full}"
        );
        let room = ContextLimits { drop_oldest: true, ..ROOM };
        let asked = talk.ask(&form, &tokenizer, "Next", room).unwrap();
        assert!(asked.dropped > 0 && asked.tokens.len() <= ROOM.context / 2, "{asked:?}");
        // The same as a conversation that began with the oldest remaining turn.
        let mut fresh = Conversation::new(Some("Kind".to_string()));
        for at in asked.dropped..turns {
            fresh.ask(&form, &tokenizer, &format!("Turn {at}"), ROOM).unwrap();
            fresh.answered(answer(at));
        }
        assert_eq!(fresh.ask(&form, &tokenizer, "Next", ROOM).unwrap().tokens, asked.tokens);
        talk.withdraw();
        let again = talk.ask(&form, &tokenizer, "Next", room).unwrap();
        assert_eq!(again, asked, "a withdrawn turn drops nothing");
        talk.answered(answer(99));
        assert_eq!(talk.ask(&form, &tokenizer, "Last", room).unwrap().dropped, 0);
        let long = "word ".repeat(500);
        for room in [ROOM, room] {
            let mut talk = Conversation::default();
            let mut said = |room| talk.ask(&form, &tokenizer, &long, room).unwrap_err().to_string();
            assert!(
                said(room).ends_with("the context takes 400: shorten it"),
                "nothing can be raised: {}",
                said(room)
            );
            let said = said(ContextLimits { most_context: 8_192, ..room });
            assert!(
                said.starts_with("this turn alone")
                    && said.ends_with("shorten it, or raise --context (to 8192 at most)"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_a_form_does_not_take_is_refused_with_what_to_do() {
        let tokenizer = tokenizer();
        let pattern = Pattern { system: Err("No system role".to_string()), ..Pattern::gemma() };
        let mut talk = Conversation::new(Some("Kind".to_string()));
        let said = talk.ask(&Form::of(pattern), &tokenizer, "Hi", ROOM).unwrap_err().to_string();
        assert!(said.contains("takes no system text: No system role"), "{said}");
        let mut vocabulary = Vocabulary::synthetic(600, 1);
        let start = vocabulary.find("<start_of_turn>").unwrap().0 as usize;
        vocabulary.tokens[start] = "<mask2>".to_string();
        let other = Tokenizer::from_vocabulary(&vocabulary).unwrap();
        let said = Conversation::default()
            .ask(&Form::gemma(false), &other, "Hi", ROOM)
            .unwrap_err()
            .to_string();
        assert!(said.contains("no <start_of_turn>") && said.contains("--raw"), "{said}");
    }
}
