//! A bounded queue to a receiver that may stop reading: messages that do not fit are
//! dropped and counted.
//!
//! Promises: sending never waits. Notes take at most half of the queue, so that answers and
//! messages that end a node still fit if notes are not read. The number of dropped messages is
//! reported with the next note.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smol::channel::{Receiver, Sender, bounded};

use crate::limits::MAX_MAILBOX_MESSAGES;

/// How important a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Priority {
    /// Nothing is lost that cannot be looked up elsewhere.
    Note,
    /// Somebody is waiting for it.
    Answer,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    sender: Sender<T>,
    dropped: Arc<AtomicU64>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { sender: self.sender.clone(), dropped: self.dropped.clone() }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> (Mailbox<T>, Receiver<T>) {
        let (sender, receiver) = bounded(MAX_MAILBOX_MESSAGES);
        (Mailbox { sender, dropped: Arc::default() }, receiver)
    }

    /// Sends the message, or drops and counts it.
    pub(crate) fn send(&self, message: T, priority: Priority) {
        let room = match priority {
            Priority::Note => MAX_MAILBOX_MESSAGES / 2,
            Priority::Answer => MAX_MAILBOX_MESSAGES,
        };
        if self.sender.len() >= room || self.sender.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of messages dropped since the last call; 0 while there is no room to report it.
    pub(crate) fn dropped(&self) -> u64 {
        if self.sender.len() >= MAX_MAILBOX_MESSAGES / 2 {
            0
        } else {
            self.dropped.swap(0, Ordering::Relaxed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_nobody_takes_are_counted_and_leave_room_for_answers() {
        let (mailbox, receiver) = Mailbox::new();
        (0..MAX_MAILBOX_MESSAGES).for_each(|at| mailbox.send(at, Priority::Note));
        assert_eq!(receiver.len(), MAX_MAILBOX_MESSAGES / 2);
        assert_eq!(mailbox.dropped(), 0, "it is reported when it fits");
        (0..MAX_MAILBOX_MESSAGES / 2).for_each(|at| mailbox.send(at, Priority::Answer));
        assert_eq!(receiver.len(), MAX_MAILBOX_MESSAGES, "every answer fits");
        mailbox.send(7, Priority::Answer);
        assert_eq!(receiver.len(), MAX_MAILBOX_MESSAGES);
        while receiver.try_recv().is_ok() {}
        assert_eq!(mailbox.dropped(), MAX_MAILBOX_MESSAGES as u64 / 2 + 1);
        assert_eq!(mailbox.dropped(), 0);
    }

    #[test]
    fn a_listener_that_has_gone_keeps_nobody() {
        let (mailbox, receiver) = Mailbox::new();
        drop(receiver);
        (0..10 * MAX_MAILBOX_MESSAGES).for_each(|at| mailbox.send(at, Priority::Answer));
    }
}
