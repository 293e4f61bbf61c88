//! The serving side of one connection: takes wants, sends planes out of pinned pages.
//!
//! The node answers each [`ServeEvent::Want`] exactly once, with [`found`](Server::found),
//! [`absent`](Server::absent) or [`busy`](Server::busy). A plane that `found` accepted stays
//! pinned until [`poll_finished`](Server::poll_finished) names it: after its last chunk is sent,
//! after it is cancelled, or after the connection ends ([`close`](Server::close)). A want keeps
//! its place in the table until then, so the table bounds how much a peer can pin and how many
//! replies it can cause.
//!
//! Planes are sent one after another in the order of their wants, not in turns; a want that the
//! node is still looking up is skipped. The peer works through a prefix from its head, so a whole
//! block now is worth more to it than a part of each.

use heapless::{Deque, Vec as Bounded};

use super::serving::{Phase, Segment, Sending, Serving};
use super::{ByeReason, DraftTokens, Fault, Frame, Hello, RecentTokens, Tokens, encode};
use crate::id::{BlockKey, Millis};
use crate::kv::{Page, Plane};
use crate::limits::{
    HELLO_TIMEOUT_MS, IDLE_TIMEOUT_MS, MAX_FILTER_WANTS_IN_FLIGHT, MAX_WANTS_IN_FLIGHT,
    STALL_TIMEOUT_MS,
};

/// What a frame means to the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServeEvent {
    /// The peer has identified itself, and may be served.
    Ready(Hello),
    /// The peer wants a plane. Answer with `found`, `absent` or `busy`.
    Want {
        /// The id to answer with.
        id: u32,
        /// The block.
        key: BlockKey,
        /// Which of its planes.
        plane: Plane,
    },
    /// A want that the node has not answered yet was cancelled. An answer is still due:
    /// `absent` will do.
    Cancelled {
        /// The want.
        id: u32,
    },
    /// The peer wants a segment of this node's filter. Answer with `filter_segment`.
    FilterWant {
        /// The segment's number.
        segment: u8,
    },
    /// The peer asks which tokens once followed a block. Answer with `draft`.
    DraftWant {
        /// The id to answer with.
        id: u32,
        /// The block, or the root of the chain.
        parent: BlockKey,
        /// The tokens after it that the peer knows.
        begun: Tokens,
    },
    /// The peer asks which tokens are likely to follow. Answer with `draft`.
    HabitWant {
        /// The id to answer with.
        id: u32,
        /// The last tokens of the peer's text.
        recent: RecentTokens,
    },
    /// The peer has closed the connection: close this side.
    Closed(ByeReason),
    /// Nothing that the node needs to know.
    Nothing,
}

/// The serving side of one connection.
pub struct Server {
    local: Hello,
    peer: Option<Hello>,
    hello_sent: bool,
    pong: Option<u64>,
    refused: Deque<u32, MAX_WANTS_IN_FLIGHT>,
    wants: Bounded<Serving, MAX_WANTS_IN_FLIGHT>,
    filter_wants: usize,
    segments: Deque<Segment, MAX_FILTER_WANTS_IN_FLIGHT>,
    /// The draft request of either kind that is not answered yet, and its answer.
    draft_want: Option<u32>,
    draft: Option<DraftTokens>,
    bye: Option<ByeReason>,
    closed: bool,
    /// When a frame was last received or sent.
    active: Millis,
    waiting_since: Option<Millis>,
}

impl Server {
    /// The serving side of a connection accepted at `now`; `local` is this node's hello.
    pub fn new(local: Hello, now: Millis) -> Server {
        Server {
            local,
            peer: None,
            hello_sent: false,
            pong: None,
            refused: Deque::new(),
            wants: Bounded::new(),
            filter_wants: 0,
            segments: Deque::new(),
            draft_want: None,
            draft: None,
            bye: None,
            closed: false,
            active: now,
            waiting_since: None,
        }
    }

    /// The peer's hello, once received.
    pub(crate) fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Since when nothing has been requested or due on a connection whose peer has said hello:
    /// closing it loses nothing.
    pub(crate) fn idle_since(&self) -> Option<Millis> {
        let idle = self.peer.is_some()
            && !self.closed
            && self.wants.is_empty()
            && self.filter_wants == 0
            && !self.has_output();
        idle.then_some(self.active)
    }

    /// Takes one frame. After a fault the peer gets a `Bye` with its reason, and further input
    /// is ignored. The caller sends what `poll_send` still has, unpins what `poll_finished`
    /// names, and closes.
    pub fn on_frame(&mut self, frame: Frame, now: Millis) -> Result<ServeEvent, Fault> {
        if self.closed {
            return Ok(ServeEvent::Nothing);
        }
        self.active = now;
        let event = self.take(frame);
        match &event {
            Ok(ServeEvent::Closed(_)) => self.close(),
            Ok(_) => self.note_waiting(),
            Err(fault) => self.bye(fault.reason()),
        }
        event
    }

    fn take(&mut self, frame: Frame) -> Result<ServeEvent, Fault> {
        if self.peer.is_none() {
            return match frame {
                Frame::Hello(theirs) => {
                    self.local.check(&theirs)?;
                    self.peer = Some(theirs);
                    Ok(ServeEvent::Ready(theirs))
                }
                Frame::Bye { reason } => Ok(ServeEvent::Closed(reason)),
                other => Err(Fault::NotHello(other.name())),
            };
        }
        match frame {
            Frame::Want { id, key, plane } => self.take_want(id, key, plane),
            Frame::Cancel { id } => Ok(self.take_cancel(id)),
            Frame::FilterWant { segment } => {
                if self.filter_wants == MAX_FILTER_WANTS_IN_FLIGHT {
                    return Err(Fault::Flood);
                }
                self.filter_wants += 1;
                Ok(ServeEvent::FilterWant { segment })
            }
            Frame::Ping { nonce } => match self.pong.replace(nonce) {
                None => Ok(ServeEvent::Nothing),
                Some(_) => Err(Fault::Flood),
            },
            Frame::DraftWant { id, parent, begun } => match self.draft_want.replace(id) {
                None => Ok(ServeEvent::DraftWant { id, parent, begun }),
                Some(_) => Err(Fault::Flood),
            },
            Frame::HabitWant { id, recent } => match self.draft_want.replace(id) {
                None => Ok(ServeEvent::HabitWant { id, recent }),
                Some(_) => Err(Fault::Flood),
            },
            Frame::Bye { reason } => Ok(ServeEvent::Closed(reason)),
            other => Err(Fault::Unexpected(other.name())),
        }
    }

    fn take_want(&mut self, id: u32, key: BlockKey, plane: Plane) -> Result<ServeEvent, Fault> {
        if self.find(id).is_some() {
            return Err(Fault::DuplicateWant(id));
        }
        let serving = Serving { id, key, plane, phase: Phase::Asked, reply: None, unpin: false };
        if self.wants.push(serving).is_err() {
            self.refused.push_back(id).map_err(|_| Fault::Flood)?;
            return Ok(ServeEvent::Nothing);
        }
        Ok(ServeEvent::Want { id, key, plane })
    }

    fn take_cancel(&mut self, id: u32) -> ServeEvent {
        // For an unknown id the final frame crossed the cancel; for one with a reply it is about to
        // go out. Neither needs anything more.
        let Some(want) = self.find(id) else { return ServeEvent::Nothing };
        match want.phase {
            Phase::Asked => {
                want.phase = Phase::Withdrawn;
                want.reply = Some(Frame::Stopped { id });
                ServeEvent::Cancelled { id }
            }
            Phase::Sending(_) => {
                want.phase = Phase::Over;
                want.unpin = true;
                want.reply = Some(Frame::Stopped { id });
                ServeEvent::Nothing
            }
            Phase::Withdrawn | Phase::Over => ServeEvent::Nothing,
        }
    }

    /// Answers a want: the plane is the first `bytes` bytes of `page`. If true, it stays pinned
    /// until `poll_finished` names it. If false, the peer has cancelled or is gone, and the node
    /// unpins it at once. Reads the plane once, for its digest.
    ///
    /// # Panics
    /// When the page is shorter than `bytes`: a bug in the caller.
    #[must_use]
    pub fn found(
        &mut self,
        id: u32,
        parent: BlockKey,
        tokens: Tokens,
        page: Page,
        bytes: usize,
    ) -> bool {
        let Some(want) = self.find(id) else { return false };
        let taken = match want.phase {
            Phase::Asked => {
                want.phase = Phase::Sending(Sending::new(parent, tokens, page, bytes));
                true
            }
            Phase::Withdrawn => {
                want.phase = Phase::Over;
                false
            }
            Phase::Sending(_) | Phase::Over => false,
        };
        self.sweep();
        self.note_waiting();
        taken
    }

    /// Answers a want: this node does not hold the plane.
    pub fn absent(&mut self, id: u32) {
        self.end_unserved(id, Frame::Absent { id });
    }

    /// Answers a want: this node is too busy.
    pub fn busy(&mut self, id: u32) {
        self.end_unserved(id, Frame::Busy { id });
    }

    fn end_unserved(&mut self, id: u32, word: Frame) {
        let Some(want) = self.find(id) else { return };
        match want.phase {
            Phase::Asked => {
                want.phase = Phase::Over;
                want.reply = Some(word);
            }
            Phase::Withdrawn => want.phase = Phase::Over,
            Phase::Sending(_) | Phase::Over => {}
        }
        self.sweep();
        self.note_waiting();
    }

    /// Answers a `FilterWant` with a copy of the segment; empty if the filter has no such segment.
    ///
    /// # Panics
    /// When the segment is longer than `FILTER_SEGMENT_BYTES`: a bug in the caller.
    pub fn filter_segment(&mut self, segment: u8, generation: u64, bytes: &[u8]) {
        if self.segments.len() < self.filter_wants {
            let pushed = self.segments.push_back(Segment::new(segment, generation, bytes));
            assert!(pushed.is_ok(), "as many places as wants");
        }
        self.note_waiting();
    }

    /// Answers a `DraftWant` or a `HabitWant`.
    pub fn draft(&mut self, id: u32, tokens: DraftTokens) {
        if self.draft_want == Some(id) {
            self.draft = Some(tokens);
        }
        self.note_waiting();
    }

    /// Ends the connection from this side: the peer gets a `Bye` and nothing else.
    pub(crate) fn bye(&mut self, reason: ByeReason) {
        if !self.closed {
            self.close();
            self.bye = Some(reason);
        }
    }

    /// Ends the connection without a `Bye` (the socket is gone): all pages are ready to be
    /// unpinned. Wants that the node has not answered yet are dropped.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.waiting_since = None;
        for want in &mut self.wants {
            want.unpin |= matches!(want.phase, Phase::Sending(_));
            want.reply = None;
            want.phase = Phase::Over;
        }
        self.sweep();
    }

    /// Appends the next frame to `out`, at most one chunk; false when there is nothing to send.
    /// Call it when the socket can take more.
    pub fn poll_send(&mut self, now: Millis, out: &mut Vec<u8>) -> bool {
        if self.closed {
            // A caller with another model gets this node's hello, so that it can list this node.
            if self.bye == Some(ByeReason::Fingerprint) && !self.hello_sent {
                self.hello_sent = true;
                encode(&Frame::Hello(self.local), &[], out);
                return true;
            }
            let Some(reason) = self.bye.take() else { return false };
            encode(&Frame::Bye { reason }, &[], out);
            return true;
        }
        let sent = self.send_one(out);
        if sent {
            self.active = now;
            self.sweep();
            self.waiting_since = self.has_output().then_some(now);
        }
        sent
    }

    fn send_one(&mut self, out: &mut Vec<u8>) -> bool {
        if self.peer.is_none() {
            return false;
        }
        if !self.hello_sent {
            self.hello_sent = true;
            encode(&Frame::Hello(self.local), &[], out);
        } else if let Some(nonce) = self.pong.take() {
            encode(&Frame::Pong { nonce }, &[], out);
        } else if let Some(id) = self.refused.pop_front() {
            encode(&Frame::Busy { id }, &[], out);
        } else if let Some(word) = self.wants.iter_mut().find_map(|want| want.reply.take()) {
            encode(&word, &[], out);
        } else if let Some((id, tokens)) = self.draft_want.zip(self.draft.take()) {
            self.draft_want = None;
            encode(&Frame::Draft { id, tokens }, &[], out);
        } else if let Some(segment) = self.segments.pop_front() {
            self.filter_wants -= 1;
            segment.encode(out);
        } else {
            return self.wants.iter_mut().any(|want| want.send(out));
        }
        true
    }

    /// A plane whose bytes this side will not read again: the node unpins it. Call it until `None`
    /// after every `on_frame`, answer and `poll_send`, and after the connection has ended.
    pub fn poll_finished(&mut self) -> Option<(BlockKey, Plane)> {
        let want = self.wants.iter_mut().find(|want| want.unpin)?;
        want.unpin = false;
        let finished = (want.key, want.plane);
        self.sweep();
        Some(finished)
    }

    /// When to call `on_deadline` if nothing happens before; `None` once the connection has ended.
    pub fn deadline(&self) -> Option<Millis> {
        if self.closed {
            return None;
        }
        Some(match (&self.peer, self.waiting_since) {
            (None, _) => self.active + Millis(HELLO_TIMEOUT_MS),
            (Some(_), Some(since)) => since + Millis(STALL_TIMEOUT_MS),
            (Some(_), None) => self.active + Millis(IDLE_TIMEOUT_MS),
        })
    }

    /// Handles the deadline. A peer that did not say hello, does not read, or has been idle for too
    /// long is a fault, as in `on_frame`.
    pub fn on_deadline(&mut self, now: Millis) -> Result<(), Fault> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let fault = match (&self.peer, self.waiting_since) {
            (None, _) => Fault::Silent,
            (Some(_), Some(_)) => Fault::Stalled,
            (Some(_), None) => Fault::Idle,
        };
        self.bye(fault.reason());
        Err(fault)
    }

    fn find(&mut self, id: u32) -> Option<&mut Serving> {
        self.wants.iter_mut().find(|want| want.id == id)
    }

    fn sweep(&mut self) {
        self.wants.retain(|want| {
            !(matches!(want.phase, Phase::Over) && want.reply.is_none() && !want.unpin)
        });
    }

    fn has_output(&self) -> bool {
        self.peer.is_some()
            && (!self.hello_sent
                || self.pong.is_some()
                || self.draft.is_some()
                || !self.refused.is_empty()
                || !self.segments.is_empty()
                || self
                    .wants
                    .iter()
                    .any(|want| want.reply.is_some() || matches!(want.phase, Phase::Sending(_))))
    }

    /// Starts the stall timer when output starts waiting for the peer to read it.
    fn note_waiting(&mut self) {
        if self.waiting_since.is_none() && !self.closed && self.has_output() {
            self.waiting_since = Some(self.active);
        }
    }
}
