//! Answers as whoever asks sees them: one way in for consoles, pipes and programs. No terminal, socket, file or clock here.
//!
//! An [`Answer`] gathers the tokens that the node generates and gives their text as it comes.

mod answer;

pub use answer::Answer;
