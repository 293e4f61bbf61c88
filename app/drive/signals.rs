//! The signals that end a program: Ctrl-C, and the one to terminate.

use std::io;

use smol::future::block_on;
use smol::stream::StreamExt;

use async_signal::Signal;

/// Listens for them, so that they do not end the program by themselves.
pub(crate) struct Signals(async_signal::Signals);

impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals(async_signal::Signals::new([Signal::Int, Signal::Term])?))
    }

    /// The number of the next one; none where no more can come.
    pub(crate) async fn next(&mut self) -> Option<i32> {
        self.0.next().await?.ok().map(|signal| signal as i32)
    }

    /// The same, on a thread that does nothing else.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        block_on(self.next())
    }
}
