//! The signals that end a program: SIGINT (Ctrl-C) and SIGTERM.

use std::io;

use smol::future::block_on;
use smol::stream::StreamExt;

use async_signal::Signal;

/// Catches the signals, so that they do not end the program by themselves.
pub(crate) struct Signals(async_signal::Signals);

impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals(async_signal::Signals::new([Signal::Int, Signal::Term])?))
    }

    /// The number of the next signal; none if no more can come.
    pub(crate) async fn next(&mut self) -> Option<i32> {
        self.0.next().await?.ok().map(|signal| signal as i32)
    }

    /// The same, blocking a thread that does nothing else.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        block_on(self.next())
    }
}
