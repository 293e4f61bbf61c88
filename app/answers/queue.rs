//! The prompt queue of one client, a console or a program. Each prompt has an id and is tokenized
//! when its turn comes.
//!
//! Promises: one prompt at a time is at the node, so that a turn of a conversation always has the
//! previous answer. The ids of pending prompts are unique. Prompts, conversations and the length of
//! their names are bounded.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::conversation::{ContextLimits, Conversation, TurnError};
use super::{Form, FormError};
use crate::id::TokenId;
use crate::limits::{MAX_CONVERSATION_NAME_BYTES, MAX_CONVERSATIONS, MAX_OPEN_PROMPTS};
use crate::node::AskId;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The first id assigned when a client gives none: beyond the numbers that scripts count with.
const FIRST_ASSIGNED: u64 = 1 << 32;

/// What a prompt asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Complete the text as it stands.
    Completion(String),
    /// Answer the text by itself, outside any conversation.
    Single(String),
    /// Answer the next turn of a conversation.
    Turn {
        /// The conversation's name.
        name: String,
        /// The turn's text.
        text: String,
    },
    /// Complete these tokens as a measurement, and keep nothing.
    Measurement(Vec<TokenId>),
}

/// A prompt with its tokens, ready for the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ready<H> {
    /// Its id.
    pub id: AskId,
    /// How to answer it, as the client gave it.
    pub how: H,
    /// All tokens, `<bos>` included.
    pub tokens: Vec<TokenId>,
    /// Turns of its conversation that were dropped to make room.
    pub dropped: usize,
    /// Whether it is a measurement.
    pub is_measurement: bool,
}

/// What it takes to tokenize prompts.
#[derive(Clone, Copy)]
pub(crate) struct PromptEncoding<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The model's chat template.
    pub form: &'a Form,
    /// Most tokens of a prompt and its answer together.
    pub context: usize,
    /// The longest context that this model allows, in tokens.
    pub most_context: usize,
}

/// The settings for an answer that the queue needs.
pub(crate) trait AnswerSettings {
    /// Maximum tokens of the answer.
    fn max_tokens(&self) -> usize;
    /// Whether a full conversation drops its oldest turns.
    fn drops_oldest(&self) -> bool;
    /// The system text of a conversation that begins with this prompt.
    fn system(&self) -> Option<&str>;
}

/// Why a prompt is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum QueueError {
    /// Another pending prompt has this id.
    #[error(
        "id {0} is in use: wait for its answer, use another, or leave it out to have one assigned"
    )]
    InUse(u64),
    /// Too many prompts are pending.
    #[error("{MAX_OPEN_PROMPTS} prompts wait already: ask again when one is answered")]
    Full,
    /// Too many conversations.
    #[error(
        "there are {MAX_CONVERSATIONS} conversations already: end one with new, or go on with one of them"
    )]
    TooManyConversations,
    /// The conversation's name is too long.
    #[error("a conversation's name may have {MAX_CONVERSATION_NAME_BYTES} bytes: shorten it")]
    LongName,
}

/// Why an accepted prompt cannot be answered.
#[derive(Debug, Error)]
pub(crate) enum PromptError {
    /// The text cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// It cannot be put into the chat template.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The conversation cannot take the turn.
    #[error(transparent)]
    Turn(#[from] TurnError),
}

struct Prompt<H> {
    id: AskId,
    wanted: Wanted,
    how: H,
}

/// An entry of the queue.
enum Entry<H> {
    Prompt(Prompt<H>),
    /// Forgets a conversation once the prompts before this are answered.
    Forget(String),
}

impl<H> Entry<H> {
    fn prompt(&self) -> Option<&Prompt<H>> {
        if let Entry::Prompt(prompt) = self { Some(prompt) } else { None }
    }

    fn is_turn_of(&self, name: &str) -> bool {
        matches!(self.prompt(), Some(Prompt { wanted: Wanted::Turn { name: other, .. }, .. }) if other == name)
    }
}

/// The queue; see the module header. `H` says how to make an answer.
pub(crate) struct PromptQueue<H> {
    waiting: VecDeque<Entry<H>>,
    /// The prompt at the node, and the conversation that waits for its answer.
    current: Option<(AskId, Option<String>)>,
    conversations: BTreeMap<String, Conversation>,
    next_assigned: u64,
}

impl<H> Default for PromptQueue<H> {
    fn default() -> PromptQueue<H> {
        PromptQueue {
            waiting: VecDeque::new(),
            current: None,
            conversations: BTreeMap::new(),
            next_assigned: FIRST_ASSIGNED,
        }
    }
}

impl<H: AnswerSettings> PromptQueue<H> {
    /// The number of pending prompts.
    pub(crate) fn open(&self) -> usize {
        self.prompts().count() + usize::from(self.current.is_some())
    }

    /// Whether no more prompts are accepted until one is answered.
    pub(crate) fn is_full(&self) -> bool {
        self.open() >= MAX_OPEN_PROMPTS
    }

    /// Queues a prompt under `id`, or under an assigned id.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) fn take(
        &mut self,
        id: Option<u64>,
        wanted: Wanted,
        how: H,
    ) -> Result<AskId, QueueError> {
        if self.is_full() {
            return Err(QueueError::Full);
        }
        if let Wanted::Turn { name, .. } = &wanted {
            self.check_name(name)?;
        }
        let id = match id {
            Some(id) if self.is_in_use(id) => return Err(QueueError::InUse(id)),
            Some(id) => id,
            None => self.assign_id(),
        };
        self.waiting.push_back(Entry::Prompt(Prompt { id: AskId(id), wanted, how }));
        Ok(AskId(id))
    }

    /// The next prompt for the node, if the node has none from here. If that prompt cannot be
    /// answered, returns why; the caller then asks for the next.
    pub(crate) fn next(
        &mut self,
        encoding: PromptEncoding<'_>,
    ) -> Option<Result<Ready<H>, (AskId, H, PromptError)>> {
        if self.current.is_some() {
            return None;
        }
        let Prompt { id, wanted, how } = loop {
            match self.waiting.pop_front()? {
                Entry::Prompt(prompt) => break prompt,
                Entry::Forget(name) => drop(self.conversations.remove(&name)),
            }
        };
        let is_measurement = matches!(wanted, Wanted::Measurement(_));
        let name = if let Wanted::Turn { name, .. } = &wanted { Some(name.clone()) } else { None };
        Some(match self.tokens(wanted, &how, encoding) {
            Err(error) => Err((id, how, error)),
            Ok((tokens, dropped)) => {
                self.current = Some((id, name));
                Ok(Ready { id, how, tokens, dropped, is_measurement })
            }
        })
    }

    /// Ends the prompt at the node. Its conversation keeps these tokens of the answer; none if the
    /// prompt was stopped or failed, which discards the turn.
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

    /// Removes the prompts that have not reached the node, and returns them, the last first.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = (AskId, H)> {
        let (mut given_up, mut left) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            match waiting {
                Entry::Prompt(prompt) => given_up.push((prompt.id, prompt.how)),
                forget => left.push_back(forget),
            }
        }
        self.waiting = left;
        given_up.into_iter().rev()
    }

    /// Forgets a conversation once its pending turns are answered. Later turns begin a new one.
    pub(crate) fn forget(&mut self, name: &str) {
        let is_at_node = matches!(&self.current, Some((_, Some(current))) if current == name);
        let last_turn = self.waiting.iter().rposition(|waiting| waiting.is_turn_of(name));
        if last_turn.is_none() && !is_at_node {
            self.conversations.remove(name);
            return;
        }
        // One entry is enough, even if asked repeatedly.
        let from = last_turn.map_or(0, |at| at + 1);
        let is_said = self
            .waiting
            .range(from..)
            .any(|waiting| matches!(waiting, Entry::Forget(other) if other == name));
        if !is_said {
            self.waiting.push_back(Entry::Forget(name.to_string()));
        }
    }

    fn prompts(&self) -> impl Iterator<Item = &Prompt<H>> {
        self.waiting.iter().filter_map(Entry::prompt)
    }

    fn tokens(
        &mut self,
        wanted: Wanted,
        how: &H,
        encoding: PromptEncoding<'_>,
    ) -> Result<(Vec<TokenId>, usize), PromptError> {
        let PromptEncoding { tokenizer, form, context, most_context } = encoding;
        Ok(match wanted {
            Wanted::Completion(text) => (tokenizer.encode_prompt(&text)?, 0),
            Wanted::Single(text) => (form.first(tokenizer, how.system(), &text)?, 0),
            Wanted::Measurement(tokens) => (tokens, 0),
            Wanted::Turn { name, text } => {
                let room = ContextLimits {
                    context,
                    most_context,
                    max_tokens: how.max_tokens(),
                    drop_oldest: how.drops_oldest(),
                };
                let system = how.system().map(str::to_string);
                let talk = self.conversations.entry(name.clone()).or_default();
                if talk.is_new() {
                    *talk = Conversation::new(system);
                }
                let asked = talk.ask(form, tokenizer, &text, room);
                // A conversation whose first turn is refused has not begun, and takes no place.
                if asked.is_err() && talk.is_new() {
                    self.conversations.remove(&name);
                }
                let asked = asked?;
                (asked.tokens, asked.dropped)
            }
        })
    }

    fn check_name(&self, name: &str) -> Result<(), QueueError> {
        if name.len() > MAX_CONVERSATION_NAME_BYTES {
            return Err(QueueError::LongName);
        }
        let waiting = self.prompts().filter_map(|prompt| match &prompt.wanted {
            Wanted::Turn { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let mut names: Vec<&str> =
            self.conversations.keys().map(String::as_str).chain(waiting).chain([name]).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_CONVERSATIONS { Err(QueueError::TooManyConversations) } else { Ok(()) }
    }

    /// Whether a pending prompt has this id.
    pub(crate) fn is_in_use(&self, id: u64) -> bool {
        let current = self.current.iter().map(|(id, _)| *id);
        self.prompts().map(|prompt| prompt.id).chain(current).any(|open| open.0 == id)
    }

    fn assign_id(&mut self) -> u64 {
        loop {
            let id = self.next_assigned;
            self.next_assigned = self.next_assigned.checked_add(1).unwrap_or(FIRST_ASSIGNED);
            if !self.is_in_use(id) {
                return id;
            }
        }
    }
}
