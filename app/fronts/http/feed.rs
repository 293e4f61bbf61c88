//! An answer on its way to a client: the part not sent yet. A client that reads slowly never
//! keeps the node waiting: text that arrives meanwhile is sent as one piece, bounded by the
//! answer's length.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use smol::Task;
use smol::future;

use crate::http::{Answered, ApiError, ReplyFormat, comment, failed};
use crate::node::Progress;

/// What has arrived and is not sent yet.
#[derive(Default)]
struct Unsent {
    text: String,
    progress: Option<Progress>,
    /// A keep-alive is due.
    idle: bool,
    end: Option<Result<Answered, ApiError>>,
    /// Whether anything has arrived yet.
    begun: bool,
    waker: Option<Waker>,
}

/// The unsent part of an answer; see the module header.
#[derive(Default)]
pub(super) struct Feed(RefCell<Unsent>);

impl Feed {
    /// Adds text.
    pub(super) fn text(&self, text: &str) {
        self.with(|unsent| unsent.text += text);
    }

    /// Sets the prompt's progress.
    pub(super) fn progress(&self, progress: Progress) {
        self.with(|unsent| unsent.progress = Some(progress));
    }

    /// Asks for a keep-alive: nothing has arrived for a while.
    pub(super) fn idle(&self) {
        self.with(|unsent| unsent.idle = true);
    }

    /// Ends the answer.
    pub(super) fn end(&self, end: Result<Answered, ApiError>) {
        self.with(|unsent| unsent.end = Some(end));
    }

    fn with(&self, change: impl FnOnce(&mut Unsent)) {
        let mut unsent = self.0.borrow_mut();
        change(&mut unsent);
        unsent.begun = true;
        if let Some(waker) = unsent.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the first news. Fails if that is a refusal.
    pub(super) async fn begun(&self) -> Result<(), ApiError> {
        self.wait(|unsent| unsent.begun).await;
        match &self.0.borrow().end {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits for the whole answer.
    pub(super) async fn whole(&self) -> Result<(String, Answered), ApiError> {
        self.wait(|unsent| unsent.end.is_some()).await;
        let mut unsent = self.0.borrow_mut();
        let text = std::mem::take(&mut unsent.text);
        match unsent.end.take() {
            Some(Ok(answered)) => Ok((text, answered)),
            Some(Err(error)) => Err(error),
            None => unreachable!("the wait above ends only once it is set"),
        }
    }

    async fn wait(&self, is_here: impl Fn(&Unsent) -> bool) {
        future::poll_fn(|context| {
            let mut unsent = self.0.borrow_mut();
            if is_here(&unsent) {
                return Poll::Ready(());
            }
            unsent.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The next piece for the client; none at the end.
    fn poll_piece(
        &self,
        format: &ReplyFormat,
        usage: bool,
        context: &Context<'_>,
    ) -> Poll<Option<String>> {
        let mut unsent = self.0.borrow_mut();
        if !unsent.text.is_empty() {
            unsent.idle = false;
            return Poll::Ready(Some(format.text(&std::mem::take(&mut unsent.text))));
        }
        if let Some(progress) = unsent.progress.take() {
            unsent.idle = false;
            return Poll::Ready(Some(comment(&progress)));
        }
        match unsent.end.take() {
            Some(Ok(answered)) => return Poll::Ready(Some(format.last(&answered, usage))),
            Some(Err(error)) => return Poll::Ready(Some(failed(&error))),
            None => {}
        }
        if std::mem::take(&mut unsent.idle) {
            return Poll::Ready(Some(": waiting\n\n".to_string()));
        }
        unsent.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A response's body.
pub(super) enum Out {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// Piece by piece.
    Pieces(Pieces),
}

/// An answer's pieces.
pub(super) struct Pieces {
    pub(super) feed: Rc<Feed>,
    pub(super) format: ReplyFormat,
    pub(super) usage: bool,
    /// The task that feeds it. Dropped when the client goes away, which stops the answer.
    pub(super) _source: Task<()>,
    pub(super) stage: Stage,
}

/// How far a stream has been sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Text,
    Over,
}

impl Out {
    pub(super) fn of(text: impl Into<Bytes>) -> Out {
        Out::Whole(Some(text.into()))
    }
}

impl Pieces {
    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<String>> {
        if self.stage == Stage::Head {
            self.stage = Stage::Text;
            if let Some(first) = self.format.first() {
                return Poll::Ready(Some(first));
            }
        }
        if self.stage == Stage::Over {
            return Poll::Ready(None);
        }
        let piece = self.feed.poll_piece(&self.format, self.usage, context);
        if let Poll::Ready(Some(text)) = &piece
            && text.ends_with("[DONE]\n\n")
        {
            self.stage = Stage::Over;
        }
        piece
    }
}

impl Body for Out {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Out::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Out::Pieces(pieces) => pieces
                .poll_next(context)
                .map(|piece| piece.map(|text| Ok(Frame::data(text.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Out::Whole(bytes) => bytes.is_none(),
            Out::Pieces(pieces) => pieces.stage == Stage::Over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Out::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Out::Pieces(_) => SizeHint::default(),
        }
    }
}
