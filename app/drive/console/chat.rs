//! A console's conversation, and which command a mistyped line means.

use crate::config::nearest;
use crate::console;
use crate::node::AskId;
use crate::tokenizer::{Role, Turn};

/// Words that other consoles have, and what they are here.
const ELSEWHERE: [(&str, &str); 6] =
    [("?", "help"), ("exit", "quit"), ("logout", "quit"), ("halt", "poweroff"), ("shutdown", "poweroff"), ("restart", "reboot")];

/// The command that a word looks like, when it is no more than a slip of the finger away.
pub(super) fn slip(text: &str) -> Option<&'static str> {
    let typed = text.to_ascii_lowercase();
    if let Some((_, word)) = ELSEWHERE.iter().find(|(other, _)| *other == typed) {
        return Some(word);
    }
    let (word, changes) = nearest(&typed, console::words(), |word| word)?;
    (changes <= 1 && !text.contains(char::is_whitespace)).then_some(word)
}

/// A conversation: the turns so far, and the one that waits for its answer.
#[derive(Default)]
pub(super) struct Chat {
    turns: Vec<Turn>,
    waiting: Option<(AskId, Vec<Turn>)>,
}

impl Chat {
    /// The conversation with one more turn of the person's.
    pub(super) fn with(&self, text: String) -> Result<Vec<Turn>, String> {
        if self.waiting.is_some() {
            return Err("the last turn is still being answered: wait, or type stop".to_string());
        }
        let mut turns = self.turns.clone();
        turns.push(Turn { role: Role::User, text });
        Ok(turns)
    }

    /// These turns wait for their answer.
    pub(super) fn asked(&mut self, id: AskId, turns: Vec<Turn>) {
        self.waiting = Some((id, turns));
    }

    /// An answer that was stopped or failed leaves the conversation as it was before the turn.
    pub(super) fn answered(&mut self, id: AskId, text: Option<String>) {
        if let Some((_, mut turns)) = self.waiting.take_if(|(waiting, _)| *waiting == id)
            && let Some(text) = text
        {
            turns.push(Turn { role: Role::Model, text });
            self.turns = turns;
        }
    }
}
