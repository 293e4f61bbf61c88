//! The prompts of one asker, a console or a program: named, in a row, each put into tokens when its turn comes.
//!
//! Promises: one prompt at a time is at the node, so that a turn of a conversation always finds the answer before it. Each prompt has an
//! id of its own while it is due. Prompts, conversations and their names are bounded.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::conversation::{Conversation, Room, TurnError};
use super::{Form, FormError};
use crate::id::TokenId;
use crate::limits::{MAX_CONVERSATION_NAME_BYTES, MAX_CONVERSATIONS, MAX_OPEN_PROMPTS};
use crate::node::AskId;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The first id that is drawn where an asker gives none: beyond those that scripts count with.
const FIRST_DRAWN: u64 = 1 << 32;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// The text goes on as it stands.
    Completion(String),
    /// An answer to the text, which remembers nothing and is not remembered.
    Single(String),
    /// An answer to the next turn of a conversation.
    Turn {
        /// Of the conversation.
        name: String,
        /// What is said.
        text: String,
    },
    /// These tokens go on, as a measurement: nothing is kept of it.
    Measurement(Vec<TokenId>),
}

/// A prompt with its tokens, ready for the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ready<H> {
    /// Its name.
    pub id: AskId,
    /// How it is to be answered, as it was given.
    pub how: H,
    /// All tokens, `<bos>` included.
    pub tokens: Vec<TokenId>,
    /// Turns of its conversation that were forgotten for it.
    pub dropped: usize,
    /// Whether it is a measurement.
    pub is_measurement: bool,
}

/// How prompts are put into tokens.
#[derive(Clone, Copy)]
pub(crate) struct Speech<'a> {
    /// The model's.
    pub tokenizer: &'a Tokenizer,
    /// The form of its chats.
    pub form: &'a Form,
    /// Tokens of the longest prompt and answer.
    pub context: usize,
    /// Tokens that the context could have at most, with this model.
    pub most_context: usize,
}

/// What a desk must know of how an answer is to be made.
pub(crate) trait How {
    /// Tokens of the answer, at most.
    fn max_tokens(&self) -> usize;
    /// Whether a full conversation forgets its oldest turns.
    fn drops_oldest(&self) -> bool;
    /// What the model is told before a conversation that begins with this prompt.
    fn system(&self) -> Option<&str>;
}

/// Why a prompt is not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum DeskError {
    /// Another prompt with this id is due.
    #[error("id {0} is in use: wait for its answer, take another, or leave it out to have one drawn")]
    InUse(u64),
    /// Too many are due.
    #[error("{MAX_OPEN_PROMPTS} prompts wait already: ask again when one is answered")]
    Full,
    /// Too many conversations.
    #[error("there are {MAX_CONVERSATIONS} conversations already: end one with new, or go on with one of them")]
    TooManyConversations,
    /// A name that nobody means.
    #[error("a conversation's name may have {MAX_CONVERSATION_NAME_BYTES} bytes: shorten it")]
    LongName,
}

/// Why a prompt that was taken cannot be answered.
#[derive(Debug, Error)]
pub(crate) enum PromptError {
    /// The text cannot be put into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// It cannot be put into the model's form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The conversation has no next turn.
    #[error(transparent)]
    Turn(#[from] TurnError),
}

struct Prompt<H> {
    id: AskId,
    wanted: Wanted,
    how: H,
}

/// What waits for its turn.
enum Waiting<H> {
    Prompt(Prompt<H>),
    /// A conversation is forgotten, once what was asked before is answered.
    Forget(String),
}

impl<H> Waiting<H> {
    fn prompt(&self) -> Option<&Prompt<H>> {
        if let Waiting::Prompt(prompt) = self { Some(prompt) } else { None }
    }

    fn is_turn_of(&self, name: &str) -> bool {
        matches!(self.prompt(), Some(Prompt { wanted: Wanted::Turn { name: other, .. }, .. }) if other == name)
    }
}

/// See the file's head. `H` says how an answer is to be made.
pub(crate) struct Desk<H> {
    waiting: VecDeque<Waiting<H>>,
    /// The prompt at the node, and the conversation that waits for its answer.
    current: Option<(AskId, Option<String>)>,
    conversations: BTreeMap<String, Conversation>,
    next_drawn: u64,
}

impl<H> Default for Desk<H> {
    fn default() -> Desk<H> {
        Desk { waiting: VecDeque::new(), current: None, conversations: BTreeMap::new(), next_drawn: FIRST_DRAWN }
    }
}

impl<H: How> Desk<H> {
    /// Prompts that are due.
    pub(crate) fn open(&self) -> usize {
        self.prompts().count() + usize::from(self.current.is_some())
    }

    /// Whether no more are taken until one is answered.
    pub(crate) fn is_full(&self) -> bool {
        self.open() >= MAX_OPEN_PROMPTS
    }

    /// Takes a prompt, by the name `id` or by one that is drawn.
    ///
    /// # Errors
    /// [`DeskError`].
    pub(crate) fn take(&mut self, id: Option<u64>, wanted: Wanted, how: H) -> Result<AskId, DeskError> {
        if self.is_full() {
            return Err(DeskError::Full);
        }
        if let Wanted::Turn { name, .. } = &wanted {
            self.check_name(name)?;
        }
        let id = match id {
            Some(id) if self.is_in_use(id) => return Err(DeskError::InUse(id)),
            Some(id) => id,
            None => self.draw(),
        };
        self.waiting.push_back(Waiting::Prompt(Prompt { id: AskId(id), wanted, how }));
        Ok(AskId(id))
    }

    /// The next prompt for the node, when none is there: or why it cannot be answered, after which the next is asked for.
    pub(crate) fn next(&mut self, speech: Speech<'_>) -> Option<Result<Ready<H>, (AskId, H, PromptError)>> {
        if self.current.is_some() {
            return None;
        }
        let Prompt { id, wanted, how } = loop {
            match self.waiting.pop_front()? {
                Waiting::Prompt(prompt) => break prompt,
                Waiting::Forget(name) => drop(self.conversations.remove(&name)),
            }
        };
        let is_measurement = matches!(wanted, Wanted::Measurement(_));
        let name = if let Wanted::Turn { name, .. } = &wanted { Some(name.clone()) } else { None };
        Some(match self.tokens(wanted, &how, speech) {
            Err(error) => Err((id, how, error)),
            Ok((tokens, dropped)) => {
                self.current = Some((id, name));
                Ok(Ready { id, how, tokens, dropped, is_measurement })
            }
        })
    }

    /// The prompt at the node has its answer, of which a conversation keeps these tokens; none where it was stopped or failed, and the
    /// conversation forgets the turn.
    pub(crate) fn ended(&mut self, id: AskId, kept: Option<Vec<TokenId>>) {
        let Some((_, name)) = self.current.take_if(|(current, _)| *current == id) else { return };
        let Some(talk) = name.and_then(|name| self.conversations.get_mut(&name)) else { return };
        match kept {
            Some(tokens) => talk.answered(tokens),
            None => talk.withdraw(),
        }
    }

    /// Whether the prompt at the node is a turn of a conversation.
    pub(crate) fn is_in_conversation(&self, id: AskId) -> bool {
        matches!(&self.current, Some((current, Some(_))) if *current == id)
    }

    /// Gives up the prompts that have not come to the node, the last first.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = (AskId, H)> {
        let (mut given_up, mut left) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            match waiting {
                Waiting::Prompt(prompt) => given_up.push((prompt.id, prompt.how)),
                forget => left.push_back(forget),
            }
        }
        self.waiting = left;
        given_up.into_iter().rev()
    }

    /// Forgets a conversation, once what was asked in it so far is answered. What is asked in it from now on begins a new one.
    pub(crate) fn forget(&mut self, name: &str) {
        let is_at_node = matches!(&self.current, Some((_, Some(current))) if current == name);
        let last_turn = self.waiting.iter().rposition(|waiting| waiting.is_turn_of(name));
        if last_turn.is_none() && !is_at_node {
            self.conversations.remove(name);
            return;
        }
        // Once is enough, however often it is said.
        let from = last_turn.map_or(0, |at| at + 1);
        let is_said = self.waiting.range(from..).any(|waiting| matches!(waiting, Waiting::Forget(other) if other == name));
        if !is_said {
            self.waiting.push_back(Waiting::Forget(name.to_string()));
        }
    }

    fn prompts(&self) -> impl Iterator<Item = &Prompt<H>> {
        self.waiting.iter().filter_map(Waiting::prompt)
    }

    fn tokens(&mut self, wanted: Wanted, how: &H, speech: Speech<'_>) -> Result<(Vec<TokenId>, usize), PromptError> {
        let Speech { tokenizer, form, context, most_context } = speech;
        Ok(match wanted {
            Wanted::Completion(text) => (tokenizer.encode_prompt(&text)?, 0),
            Wanted::Single(text) => (form.first(tokenizer, how.system(), &text)?, 0),
            Wanted::Measurement(tokens) => (tokens, 0),
            Wanted::Turn { name, text } => {
                let room = Room { context, most_context, max_tokens: how.max_tokens(), drop_oldest: how.drops_oldest() };
                let system = how.system().map(str::to_string);
                let talk = self.conversations.entry(name.clone()).or_default();
                if talk.is_new() {
                    *talk = Conversation::new(system);
                }
                let asked = talk.ask(form, tokenizer, &text, room);
                // One whose first turn is refused has not begun, and keeps no place.
                if asked.is_err() && talk.is_new() {
                    self.conversations.remove(&name);
                }
                let asked = asked?;
                (asked.tokens, asked.dropped)
            }
        })
    }

    fn check_name(&self, name: &str) -> Result<(), DeskError> {
        if name.len() > MAX_CONVERSATION_NAME_BYTES {
            return Err(DeskError::LongName);
        }
        let waiting = self.prompts().filter_map(|prompt| match &prompt.wanted {
            Wanted::Turn { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let mut names: Vec<&str> = self.conversations.keys().map(String::as_str).chain(waiting).chain([name]).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_CONVERSATIONS { Err(DeskError::TooManyConversations) } else { Ok(()) }
    }

    /// Whether a prompt of this name is due.
    pub(crate) fn is_in_use(&self, id: u64) -> bool {
        let current = self.current.iter().map(|(id, _)| *id);
        self.prompts().map(|prompt| prompt.id).chain(current).any(|open| open.0 == id)
    }

    fn draw(&mut self) -> u64 {
        loop {
            let id = self.next_drawn;
            self.next_drawn = self.next_drawn.checked_add(1).unwrap_or(FIRST_DRAWN);
            if !self.is_in_use(id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Vocabulary;

    /// Answers of ten tokens, and what the model is told before.
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Ten(Option<&'static str>);

    impl How for Ten {
        fn max_tokens(&self) -> usize {
            10
        }

        fn drops_oldest(&self) -> bool {
            false
        }

        fn system(&self) -> Option<&str> {
            self.0
        }
    }

    fn turn(name: &str, text: &str) -> Wanted {
        Wanted::Turn { name: name.to_string(), text: text.to_string() }
    }

    /// Lets the desk have what it needs to speak.
    fn with(check: impl FnOnce(&mut Desk<Ten>, Speech<'_>)) {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).unwrap();
        check(&mut Desk::default(), Speech { tokenizer: &tokenizer, form: &Form::gemma(true), context: 200, most_context: 200 });
    }

    #[test]
    fn an_id_in_use_is_refused_and_an_absent_one_is_drawn() {
        with(|desk, speech| {
            let text = || Wanted::Completion("the".to_string());
            assert_eq!(desk.take(Some(7), text(), Ten(None)), Ok(AskId(7)));
            assert_eq!(desk.take(Some(7), text(), Ten(None)), Err(DeskError::InUse(7)));
            let drawn = desk.take(None, text(), Ten(None)).unwrap();
            assert_eq!(desk.take(Some(drawn.0 + 1), text(), Ten(None)).unwrap().0, drawn.0 + 1);
            assert_eq!(desk.take(None, text(), Ten(None)).unwrap().0, drawn.0 + 2, "an id that is in use was drawn");
            let first = desk.next(speech).unwrap().unwrap();
            assert_eq!((first.id, first.tokens), (AskId(7), speech.tokenizer.encode_prompt("the").unwrap()));
            assert_eq!(desk.take(Some(7), text(), Ten(None)), Err(DeskError::InUse(7)), "it is at the node");
            assert!(desk.next(speech).is_none(), "one at a time");
            desk.ended(AskId(7), None);
            assert_eq!(desk.take(Some(7), text(), Ten(None)), Ok(AskId(7)));
            assert_eq!(desk.open(), 4);
            assert_eq!(desk.give_up().map(|(id, _)| id.0).collect::<Vec<_>>(), [7, drawn.0 + 2, drawn.0 + 1, drawn.0]);
            assert_eq!(desk.open(), 0);
        });
    }

    #[test]
    fn a_conversation_whose_first_turn_is_refused_has_not_begun() {
        with(|desk, speech| {
            desk.take(Some(1), turn("a", &"one two ".repeat(400)), Ten(Some("Kind"))).unwrap();
            assert!(desk.next(speech).unwrap().is_err(), "no context holds it");
            assert!(desk.conversations.is_empty(), "it keeps a place");
            desk.take(Some(2), turn("a", "One"), Ten(None)).unwrap();
            let first = desk.next(speech).unwrap().unwrap();
            assert_eq!(first.tokens, speech.form.first(speech.tokenizer, None, "One").unwrap(), "what it was told is kept");
        });
    }

    #[test]
    fn turns_wait_for_one_another_and_conversations_do_not_mix() {
        with(|desk, speech| {
            for (id, name, text) in [(1, "a", "One"), (2, "a", "Two"), (3, "b", "One"), (4, "a", "Three")] {
                desk.take(Some(id), turn(name, text), Ten(Some("Kind"))).unwrap();
            }
            let first = desk.next(speech).unwrap().unwrap();
            let answer = vec![TokenId(401), TokenId(402)];
            desk.ended(first.id, Some(answer.clone()));
            let second = desk.next(speech).unwrap().unwrap();
            let said = [first.tokens.clone(), answer].concat();
            assert_eq!((second.id, &second.tokens[..said.len()]), (AskId(2), &said[..]));
            desk.ended(second.id, None);
            let other = desk.next(speech).unwrap().unwrap();
            assert_eq!((other.id, &other.tokens), (AskId(3), &first.tokens));
            desk.ended(other.id, Some(vec![]));
            let third = desk.next(speech).unwrap().unwrap();
            assert_eq!((third.id, &third.tokens[..said.len()]), (AskId(4), &said[..]), "a turn that was stopped is forgotten");
            assert_ne!(third.tokens, second.tokens);
            desk.ended(third.id, Some(vec![TokenId(9)]));
            for text in ["Four", "Five"] {
                desk.take(None, turn("a", text), Ten(Some("Kind"))).unwrap();
            }
            (0..3).for_each(|_| desk.forget("a"));
            desk.take(None, turn("a", "One"), Ten(Some("Kind"))).unwrap();
            assert_eq!(desk.open(), 3);
            let lengths = [0, 1].map(|_| {
                let ready = desk.next(speech).unwrap().unwrap();
                desk.ended(ready.id, Some(vec![TokenId(9)]));
                ready.tokens.len()
            });
            assert!(third.tokens.len() < lengths[0] && lengths[0] < lengths[1], "what was asked before is answered before");
            assert_eq!(desk.next(speech).unwrap().unwrap().tokens, first.tokens, "a new conversation");
            desk.forget("a");
            assert_eq!(desk.give_up().count(), 0);
        });
    }

    #[test]
    fn what_cannot_be_answered_says_why_and_the_next_is() {
        with(|desk, speech| {
            desk.take(Some(1), turn("", &"word ".repeat(500)), Ten(None)).unwrap();
            desk.take(Some(2), Wanted::Single("Hi".to_string()), Ten(None)).unwrap();
            let (id, how, error) = desk.next(speech).unwrap().unwrap_err();
            assert_eq!((id, how), (AskId(1), Ten(None)));
            assert!(error.to_string().contains("this turn alone"), "{error}");
            assert_eq!(desk.next(speech).unwrap().unwrap().id, AskId(2));
        });
    }

    #[test]
    fn prompts_conversations_and_names_are_bounded() {
        with(|desk, speech| {
            for at in 0..MAX_CONVERSATIONS {
                desk.take(None, turn(&at.to_string(), "Hi"), Ten(None)).unwrap();
            }
            assert_eq!(desk.take(None, turn("one more", "Hi"), Ten(None)), Err(DeskError::TooManyConversations));
            assert_eq!(desk.take(None, turn(&"x".repeat(65), "Hi"), Ten(None)), Err(DeskError::LongName));
            while !desk.is_full() {
                desk.take(None, turn("0", "Hi"), Ten(None)).unwrap();
            }
            assert_eq!(desk.take(None, turn("0", "Hi"), Ten(None)), Err(DeskError::Full));
            let first = desk.next(speech).unwrap().unwrap();
            assert!(desk.is_full(), "the one at the node is due too");
            desk.ended(first.id, Some(Vec::new()));
            desk.give_up().for_each(drop);
            desk.forget("0");
            desk.take(None, turn("one more", "Hi"), Ten(None)).unwrap();
        });
    }
}
