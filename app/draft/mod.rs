//! Drafts: likely next tokens of an answer, guessed cheaply and checked together by the engine in
//! one pass.
//!
//! Promise: no answer depends on a draft. A token counts only after the engine has chosen it at its
//! place, so a wrong guess costs time and a right one saves it. This module decides where guesses
//! come from, how reliable each source is, and how many tokens are worth checking. It knows neither
//! the blocks nor the peers that the guesses are read from.
//!
//! - [`Path`]: the tokens expected next, and their source.
//! - [`Record`]: how often a source was right.
//! - [`Costs`]: how long a pass over a number of rows takes, as measured.
//! - [`Account`]: what drafts have cost and saved one answer. It bounds the cost of wrong ones.
//! - [`echo()`]: what followed the last words at their earlier occurrence.
//! - [`Habits`]: what followed the same words in this node's answers; a peer may ask for it.
//! - [`length()`]: how many tokens to check in the next step.

mod account;
mod costs;
mod echo;
mod habit;
mod length;
mod path;

pub(crate) use account::Account;
pub(crate) use costs::Costs;
pub(crate) use echo::echo;
pub(crate) use habit::Habits;
pub(crate) use length::{Outlook, length};
pub(crate) use path::Path;

use serde::Serialize;

/// Where a draft comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Blocks of this node's own slab: what once followed here.
    Slab,
    /// A peer: what once followed there.
    Peer,
    /// The prompt and the answer so far: what followed the same words before.
    Echo,
    /// This node's answers: what has followed the same words.
    Habit,
    /// A peer's answers: what has followed the same words there.
    PeerHabit,
}

impl Source {
    /// Whether it guesses by similarity, instead of repeating what followed the same text.
    fn is_guess(self) -> bool {
        matches!(self, Source::Echo | Source::Habit | Source::PeerHabit)
    }
}

/// Counts of drafted tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Tokens given to the engine to be checked.
    pub drafted: u64,
    /// Of those, how many were right.
    pub accepted: u64,
    /// Of those, how many were wrong or came after a wrong one.
    pub wrong: u64,
}

/// The counts by source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// [`Source::Slab`].
    pub slab: Counts,
    /// [`Source::Peer`].
    pub peers: Counts,
    /// [`Source::Echo`].
    pub(crate) echo: Counts,
    /// [`Source::Habit`].
    pub(crate) habit: Counts,
    /// [`Source::PeerHabit`].
    pub peer_habit: Counts,
}

impl Tally {
    /// Counts one draft of `drafted` tokens, of which the first `accepted` were right.
    pub(crate) fn note(&mut self, source: Source, drafted: usize, accepted: usize) {
        let counts = match source {
            Source::Slab => &mut self.slab,
            Source::Peer => &mut self.peers,
            Source::Echo => &mut self.echo,
            Source::Habit => &mut self.habit,
            Source::PeerHabit => &mut self.peer_habit,
        };
        counts.drafted += drafted as u64;
        counts.accepted += accepted as u64;
        counts.wrong += drafted.saturating_sub(accepted) as u64;
    }

    /// The sum of all sources.
    pub fn all(&self) -> Counts {
        let sources = [self.slab, self.peers, self.echo, self.habit, self.peer_habit];
        sources.into_iter().fold(Counts::default(), |sum, counts| Counts {
            drafted: sum.drafted + counts.drafted,
            accepted: sum.accepted + counts.accepted,
            wrong: sum.wrong + counts.wrong,
        })
    }
}

/// Tokens after which both counts of a record are halved, so that it adapts to changes.
const MEMORY: f32 = 64.0;

/// How often a source was right, token by token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Record {
    right: f32,
    wrong: f32,
}

impl Record {
    /// The prior of a source that repeats exactly what followed the same tokens once: it will
    /// follow again unless the answer is sampled at random.
    pub(crate) const SOUND: Record = Record { right: 1.0, wrong: 0.25 };

    /// The prior of a source that guesses by similarity: it must prove its worth first.
    pub(crate) const GUESS: Record = Record { right: 0.5, wrong: 1.0 };

    /// Counts `right` right tokens and, if `wrong`, one wrong one. What comes after a wrong token
    /// says nothing.
    pub(crate) fn note(&mut self, right: usize, wrong: bool) {
        self.right += right as f32;
        self.wrong += f32::from(u8::from(wrong));
        if self.right + self.wrong > MEMORY {
            (self.right, self.wrong) = (self.right / 2.0, self.wrong / 2.0);
        }
    }

    /// The chance that its next token is right.
    pub(crate) fn chance(&self) -> f32 {
        self.right / (self.right + self.wrong)
    }
}

impl Default for Record {
    fn default() -> Record {
        Record::SOUND
    }
}

#[cfg(test)]
mod tests;
