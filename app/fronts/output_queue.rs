//! A node's standard output and standard error, written by their own thread, so that a reader that
//! stalls keeps nobody waiting.
//!
//! Promises: output appears in order across both streams. At most `MAX_STREAM_OUTPUT_BYTES` are
//! queued; pieces that do not fit are dropped whole and counted, and the count is reported once
//! there is room again. On drop, queued output gets a moment to be written.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};

use crate::limits::MAX_STREAM_OUTPUT_BYTES;

use super::LAST_WORDS;
use super::terminal::{OutputError, eprint, print};

/// Standard output and standard error, written directly or through an [`OutputQueue`].
pub(super) struct Streams {
    queue: Option<OutputQueue>,
    broken: Option<OutputError>,
}

impl Streams {
    /// Writes block until done.
    pub(super) fn direct() -> Streams {
        Streams { queue: None, broken: None }
    }

    /// Writes never block.
    pub(super) fn through(queue: OutputQueue) -> Streams {
        Streams { queue: Some(queue), broken: None }
    }

    /// Writes requested output to standard output.
    pub(super) fn print(&mut self, text: impl Display) {
        match &self.queue {
            Some(queue) => queue.push(Stream::Output, text.to_string()),
            None => {
                if let Err(error) = print(text) {
                    self.broken.get_or_insert(error);
                }
            }
        }
    }

    /// Writes everything else to standard error.
    pub(super) fn eprint(&mut self, text: impl Display) {
        match &self.queue {
            Some(queue) => queue.push(Stream::Error, text.to_string()),
            None => eprint(text),
        }
    }

    /// How many pieces were dropped since the last call, once there is room to report it.
    pub(super) fn recovered(&self) -> Option<u64> {
        self.queue.as_ref()?.recovered()
    }

    /// Fails if a write has failed since the last call.
    pub(super) fn check(&mut self) -> Result<(), OutputError> {
        self.queue.as_ref().map_or(Ok(()), OutputQueue::check)?;
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Waits while too much output is unread to take more input.
    pub(super) async fn has_room(&self) {
        if let Some(queue) = &self.queue {
            while queue.is_behind() {
                queue.moved().await;
            }
        }
    }

    /// Waits until everything is written, or nothing more can be.
    pub(super) async fn drained(&self) {
        if let Some(queue) = &self.queue {
            queue.drained().await;
        }
    }
}

/// Writes to standard error while there is no console, at start or at end. Waits only a moment for
/// a reader that stalls.
pub(crate) fn eprint_briefly(text: impl Display) {
    let text = text.to_string();
    if text.is_empty() {
        return;
    }
    match OutputQueue::start() {
        Ok(queue) => queue.push(Stream::Error, text),
        Err(_) => eprint(text),
    }
}

/// One of the two streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    Output,
    Error,
}

/// The writing thread's queue; see the module header.
pub(super) struct OutputQueue {
    shared: Arc<Shared>,
    /// Signals that output was written or a write failed.
    moved: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    moved: Sender<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Stream, String)>,
    /// Bytes queued or being written.
    bytes: usize,
    left_out: u64,
    error: Option<io::Error>,
    failed: bool,
    closed: bool,
}

impl OutputQueue {
    pub(super) fn start() -> io::Result<OutputQueue> {
        OutputQueue::to(|stream, text| match stream {
            Stream::Output => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            // If standard error fails, there is nobody to tell.
            Stream::Error => io::stderr().lock().write_all(text.as_bytes()).or(Ok(())),
        })
    }

    /// The same for a socket, which carries both streams as one. Gives up a client that reads
    /// nothing for as long as `timeout`.
    pub(super) fn to_socket(socket: UnixStream, timeout: Duration) -> io::Result<OutputQueue> {
        socket.set_write_timeout(Some(timeout))?;
        OutputQueue::to(move |_, text| (&socket).write_all(text.as_bytes()))
    }

    fn to(
        write: impl Fn(Stream, &str) -> io::Result<()> + Send + 'static,
    ) -> io::Result<OutputQueue> {
        let (sender, moved) = bounded(1);
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), moved: sender });
        let theirs = shared.clone();
        thread::Builder::new().name("output".to_string()).spawn(move || theirs.write_all(write))?;
        Ok(OutputQueue { shared, moved })
    }

    /// Queues a piece of output, or drops it.
    fn push(&self, stream: Stream, text: String) {
        let mut state = self.shared.lock();
        if state.left_out > 0 || state.bytes + text.len() > MAX_STREAM_OUTPUT_BYTES {
            state.left_out += 1;
            return;
        }
        state.bytes += text.len();
        state.waiting.push_back((stream, text));
        self.shared.changed.notify_all();
    }

    /// How many pieces were dropped, once half of the room is free again; from then on output is
    /// queued again.
    fn recovered(&self) -> Option<u64> {
        let mut state = self.shared.lock();
        let has_room = state.bytes <= MAX_STREAM_OUTPUT_BYTES / 2;
        (has_room && state.left_out > 0).then(|| std::mem::take(&mut state.left_out))
    }

    /// Why a write failed, reported once.
    fn check(&self) -> Result<(), OutputError> {
        self.shared.lock().error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn is_behind(&self) -> bool {
        self.shared.lock().is_behind()
    }

    async fn drained(&self) {
        while self.shared.lock().is_busy() {
            self.moved().await;
        }
    }

    async fn moved(&self) {
        // The sender lives as long as the receiver.
        let _ = self.moved.recv().await;
    }
}

impl State {
    fn is_behind(&self) -> bool {
        !self.failed && self.bytes > MAX_STREAM_OUTPUT_BYTES / 4
    }

    fn is_busy(&self) -> bool {
        !self.failed && self.bytes > 0
    }
}

impl Drop for OutputQueue {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        while state.is_busy() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes queued output until the queue closes or a write fails.
    fn write_all(&self, write: impl Fn(Stream, &str) -> io::Result<()>) {
        loop {
            let mut state = self.lock();
            let (stream, text) = loop {
                match state.waiting.pop_front() {
                    Some(next) => break next,
                    None if state.closed => return,
                    None => {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                    }
                }
            };
            drop(state);
            let result = write(stream, &text);
            let mut state = self.lock();
            let was_behind = state.is_behind();
            state.bytes -= text.len();
            state.failed = result.is_err();
            state.error = result.err();
            let (failed, moved) =
                (state.failed, (was_behind && !state.is_behind()) || !state.is_busy());
            drop(state);
            self.changed.notify_all();
            if moved {
                let _ = self.moved.try_send(());
            }
            if failed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use smol::future::block_on;

    use super::*;

    /// A queue whose reader takes one piece for each token, and the pieces it has taken.
    fn queue() -> (OutputQueue, std::sync::mpsc::Sender<bool>, Receiver<String>) {
        let (go, gate) = channel::<bool>();
        let (taken, out) = channel();
        let gate = Mutex::new(gate);
        let queue = OutputQueue::to(move |_, text| {
            if !gate.lock().unwrap().recv().unwrap_or(true) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            taken.send(text.to_string()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        (queue.unwrap(), go, out)
    }

    #[test]
    fn what_nobody_reads_is_left_out_and_counted_and_the_rest_comes_in_order() {
        let (queue, go, out) = queue();
        let piece = "x".repeat(MAX_STREAM_OUTPUT_BYTES / 4);
        (0..10).for_each(|_| queue.push(Stream::Output, piece.clone()));
        assert_eq!(queue.shared.lock().left_out, 6);
        queue.push(
            Stream::Error,
            "small, but it must not jump over those that were left out".to_string(),
        );
        assert_eq!(queue.recovered(), None, "there is no room");
        (0..2).for_each(|_| go.send(true).unwrap());
        assert_eq!((out.recv().unwrap(), out.recv().unwrap()), (piece.clone(), piece));
        let recovered = loop {
            if let Some(count) = queue.recovered() {
                break count;
            }
            thread::yield_now();
        };
        assert_eq!(recovered, 7);
        queue.push(Stream::Output, "again".to_string());
        drop(go);
        block_on(queue.drained());
        assert_eq!(out.try_iter().last().as_deref(), Some("again"));
        assert!(queue.check().is_ok());
    }

    #[test]
    fn a_reader_that_has_gone_is_noticed_once() {
        let (queue, go, _out) = queue();
        ["one", "two"].iter().for_each(|text| queue.push(Stream::Output, (*text).to_string()));
        go.send(false).unwrap();
        block_on(queue.moved());
        assert!(queue.check().is_err_and(|error| error.is_unread()));
        assert!(queue.check().is_ok());
        block_on(queue.drained());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a reader that is late")]
    fn an_end_waits_a_moment_for_a_reader_and_no_longer() {
        let (queue, go, out) = queue();
        queue.push(Stream::Output, "last words".to_string());
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            go.send(true)
        });
        drop(queue);
        assert_eq!(out.try_recv().as_deref(), Ok("last words"));
        late.join().unwrap().unwrap();
    }
}
