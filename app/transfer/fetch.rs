//! The fetching side of one connection: requests planes, checks what arrives, writes it into pages.
//!
//! No chunk is written to a page before its checksum matches, and no plane is done before the page
//! itself has the digest that `Found` named. A want has no deadline: the node cancels it when
//! something better is in sight. A cancelled want gives its page back at once. Its place in the
//! table stays taken until the peer's final frame for it, so that chunks already in flight are
//! recognised, counted against the plane's length, and dropped. That frame must come within
//! `STALL_TIMEOUT_MS`.

use heapless::Vec as Bounded;
use xxhash_rust::xxh3::xxh3_64;

use super::meter::Meter;
use super::wanted::{Expected, Phase, Wanted};
use super::{ByeReason, DraftTokens, Fault, Frame, Hello, RecentTokens, Sample, Tokens, encode};
use crate::id::{BlockKey, Millis};
use crate::kv::Page;
use crate::limits::{
    FILTER_SEGMENT_BYTES, MAX_FILTER_SEGMENTS, MAX_FILTER_WANTS_IN_FLIGHT, MAX_WANTS_IN_FLIGHT,
    STALL_TIMEOUT_MS,
};

/// What a frame means to the node.
#[expect(clippy::large_enum_variant, reason = "one at a time, taken apart where it is received")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchEvent<'a> {
    /// The peer has identified itself, and serves this node.
    Ready(Hello),
    /// The next bytes of a plane are in its page.
    Progress {
        /// The want.
        id: u32,
        /// Bytes in the page so far.
        bytes: usize,
    },
    /// The plane is in its page, complete and checked.
    Done {
        /// The want.
        id: u32,
    },
    /// The peer does not hold the plane.
    Absent {
        /// The want.
        id: u32,
    },
    /// The peer is too busy.
    Busy {
        /// The want.
        id: u32,
    },
    /// A segment of the peer's filter; empty if its filter has no such segment.
    FilterSegment {
        /// The segment's number.
        segment: u8,
        /// The generation of the filter that it was copied from.
        generation: u64,
        /// The segment.
        bytes: &'a [u8],
    },
    /// The tokens that once followed, or are likely to follow, according to the peer.
    Draft {
        /// The request.
        id: u32,
        /// The tokens.
        tokens: DraftTokens,
    },
    /// The peer has closed the connection: close this side. The results of open wants stay unknown.
    Closed(ByeReason),
    /// Nothing that the node needs to know.
    Nothing,
}

/// The connection already has as many wants in flight as the limits allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{MAX_WANTS_IN_FLIGHT} wants are in flight on this connection")]
pub struct Full;

/// What a draft request asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Which tokens once followed the block `parent` and then `begun`.
    Followed {
        /// The block, or the root of the chain.
        parent: BlockKey,
        /// The tokens after it that are already known.
        begun: Tokens,
    },
    /// Which tokens are likely to follow `recent`, judging by the peer's answers.
    Habit {
        /// The last tokens of the text.
        recent: RecentTokens,
    },
}

/// The current draft request.
enum DraftWant {
    None,
    Queued(u32, Question),
    Asked(u32),
}

/// The fetching side of one connection.
pub struct Fetcher {
    local: Hello,
    peer: Option<Hello>,
    hello_sent: Option<Millis>,
    wants: Bounded<Wanted, MAX_WANTS_IN_FLIGHT>,
    /// One bit for every segment still to request, and for every one requested.
    segments_wanted: u64,
    segments_asked: u64,
    draft_want: DraftWant,
    meter: Meter,
    bye: Option<ByeReason>,
    closed: bool,
}

impl Fetcher {
    /// The fetching side of a new connection; `local` is this node's hello.
    pub fn new(local: Hello) -> Fetcher {
        Fetcher {
            local,
            peer: None,
            hello_sent: None,
            wants: Bounded::new(),
            segments_wanted: 0,
            segments_asked: 0,
            draft_want: DraftWant::None,
            meter: Meter::default(),
            bye: None,
            closed: false,
        }
    }

    /// The peer's hello, once received.
    pub(crate) fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// How many more wants there is room for.
    pub fn room(&self) -> usize {
        if self.closed { 0 } else { self.wants.capacity() - self.wants.len() }
    }

    /// Whether no plane or filter segment is wanted, sent or not.
    pub(crate) fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.segments_wanted == 0 && self.segments_asked == 0
    }

    /// Requests a plane, to be written to the first `expected.bytes` bytes of `page`. Wants made
    /// before the peer has said hello go out right after this side's own hello. An id is used once
    /// on a connection.
    ///
    /// # Panics
    /// When the page is too short or the id is in use: a bug in the caller.
    pub fn want(&mut self, id: u32, expected: Expected, page: Page) -> Result<(), Full> {
        assert!(
            page.read().len() >= expected.bytes,
            "the page has no room for {} bytes",
            expected.bytes
        );
        assert!(self.find(id).is_none(), "the id {id} is in use");
        if self.closed {
            return Err(Full);
        }
        self.wants.push(Wanted { id, expected, phase: Phase::Queued(page) }).map_err(|_| Full)
    }

    /// Cancels a want; its page is free when this returns, and nothing more is reported for it.
    /// An id that has ended is ignored. A long silence of the peer counts as a measurement of
    /// its goodput.
    pub fn cancel(&mut self, id: u32, now: Millis) {
        if let Some(index) = self.find(id) {
            self.meter.stalled(now);
            self.withdraw(index, now);
            self.note_idle();
        }
    }

    /// Requests a segment of the peer's filter. Numbers beyond the largest filter are ignored.
    pub fn want_filter(&mut self, segment: u8) {
        if usize::from(segment) < MAX_FILTER_SEGMENTS && !self.closed {
            self.segments_wanted |= 1 << segment & !self.segments_asked;
        }
    }

    /// Asks for a draft. Replaces a request that has not gone out yet. False, and nothing is asked,
    /// while a request that has gone out is not answered. An id is used once on a connection.
    pub fn want_draft(&mut self, id: u32, question: Question) -> bool {
        let takes = !self.closed && !matches!(self.draft_want, DraftWant::Asked(_));
        if takes {
            self.draft_want = DraftWant::Queued(id, question);
        }
        takes
    }

    /// The oldest measurement not taken yet.
    pub fn poll_sample(&mut self) -> Option<Sample> {
        self.meter.poll_sample()
    }

    /// Takes one frame and its payload. After a fault the peer gets a `Bye` with its reason, and
    /// further input is ignored: no page is written any more, the results of open wants are
    /// unknown, and the caller closes.
    pub fn on_frame<'a>(
        &mut self,
        frame: Frame,
        payload: &'a [u8],
        now: Millis,
    ) -> Result<FetchEvent<'a>, Fault> {
        if self.closed {
            return Ok(FetchEvent::Nothing);
        }
        let event = self.take(frame, payload, now);
        match &event {
            Ok(FetchEvent::Closed(_)) => self.close(),
            Ok(_) => self.note_idle(),
            Err(fault) => self.bye(fault.reason()),
        }
        event
    }

    fn take<'a>(
        &mut self,
        frame: Frame,
        payload: &'a [u8],
        now: Millis,
    ) -> Result<FetchEvent<'a>, Fault> {
        if self.peer.is_none() {
            return match frame {
                Frame::Hello(theirs) => {
                    self.local.check(&theirs)?;
                    self.peer = Some(theirs);
                    if let Some(sent) = self.hello_sent {
                        self.meter.round_trip(now - sent);
                    }
                    Ok(FetchEvent::Ready(theirs))
                }
                Frame::Bye { reason } => Ok(FetchEvent::Closed(reason)),
                other => Err(Fault::NotHello(other.name())),
            };
        }
        match frame {
            Frame::Found { id, plane, parent, tokens, bytes, digest } => {
                let index = self.answered(id, "Found")?;
                self.wants[index].found(plane, &parent, &tokens, bytes, digest)?;
                self.end_if_complete(index)
            }
            Frame::Chunk { id, offset, checksum, len } => {
                let index = self.answered(id, "Chunk")?;
                let landed = self.wants[index].chunk(offset, checksum, len, payload)?;
                if landed {
                    self.meter.landed(payload.len(), now);
                }
                self.end_if_complete(index)
            }
            Frame::Absent { id } => self.end_unserved(id, "Absent", FetchEvent::Absent { id }, now),
            Frame::Busy { id } => self.end_unserved(id, "Busy", FetchEvent::Busy { id }, now),
            Frame::Stopped { id } => {
                let index = self.answered(id, "Stopped")?;
                if !matches!(self.wants[index].phase, Phase::Draining { cancel_sent: true, .. }) {
                    return Err(Fault::UnknownId { frame: "Stopped", id });
                }
                self.wants.remove(index);
                Ok(FetchEvent::Nothing)
            }
            Frame::FilterSegment { segment, generation, checksum, .. } => {
                self.take_segment(segment, generation, checksum, payload)
            }
            Frame::Draft { id, tokens } => match self.draft_want {
                DraftWant::Asked(asked) if asked == id => {
                    self.draft_want = DraftWant::None;
                    Ok(FetchEvent::Draft { id, tokens })
                }
                _ => Err(Fault::UnknownId { frame: "Draft", id }),
            },
            Frame::Bye { reason } => Ok(FetchEvent::Closed(reason)),
            other => Err(Fault::Unexpected(other.name())),
        }
    }

    /// The index of a want that the peer may refer to: one that was sent.
    fn answered(&self, id: u32, frame: &'static str) -> Result<usize, Fault> {
        self.find(id)
            .filter(|&index| !matches!(self.wants[index].phase, Phase::Queued(_)))
            .ok_or(Fault::UnknownId { frame, id })
    }

    fn end_if_complete<'a>(&mut self, index: usize) -> Result<FetchEvent<'a>, Fault> {
        let want = &self.wants[index];
        let (id, bytes) = (want.id, want.expected.bytes);
        match &want.phase {
            Phase::Receiving { page, digest, offset } if *offset == bytes => {
                if xxh3_64(&page.read()[..bytes]) != *digest {
                    return Err(Fault::Digest(id));
                }
                self.wants.remove(index);
                Ok(FetchEvent::Done { id })
            }
            Phase::Receiving { offset: 0, .. } => Ok(FetchEvent::Nothing),
            Phase::Receiving { offset, .. } => Ok(FetchEvent::Progress { id, bytes: *offset }),
            Phase::Draining { offset: Some(offset), .. } if *offset == bytes => {
                self.wants.remove(index);
                Ok(FetchEvent::Nothing)
            }
            Phase::Draining { .. } | Phase::Queued(_) | Phase::Asked(_) => Ok(FetchEvent::Nothing),
        }
    }

    fn end_unserved<'a>(
        &mut self,
        id: u32,
        name: &'static str,
        event: FetchEvent<'a>,
        now: Millis,
    ) -> Result<FetchEvent<'a>, Fault> {
        let index = self.answered(id, name)?;
        let event = match self.wants[index].phase {
            Phase::Asked(_) => event,
            Phase::Draining { offset: None, .. } => FetchEvent::Nothing,
            _ => return Err(Fault::Unexpected(name)),
        };
        self.wants.remove(index);
        self.meter.answered(now);
        Ok(event)
    }

    fn take_segment<'a>(
        &mut self,
        segment: u8,
        generation: u64,
        checksum: u64,
        bytes: &'a [u8],
    ) -> Result<FetchEvent<'a>, Fault> {
        let bit = 1u64.checked_shl(u32::from(segment)).unwrap_or(0);
        if self.segments_asked & bit == 0 {
            return Err(Fault::UnknownId { frame: "FilterSegment", id: u32::from(segment) });
        }
        if bytes.len() > FILTER_SEGMENT_BYTES {
            return Err(Fault::SegmentTooLong(bytes.len()));
        }
        if xxh3_64(bytes) != checksum {
            return Err(Fault::SegmentChecksum(segment));
        }
        self.segments_asked &= !bit;
        Ok(FetchEvent::FilterSegment { segment, generation, bytes })
    }

    /// Ends the connection from this side: the peer gets a `Bye` and nothing else.
    pub(crate) fn bye(&mut self, reason: ByeReason) {
        if !self.closed {
            self.close();
            self.bye = Some(reason);
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.meter.idle();
    }

    /// Appends the next frame to `out`; false when there is nothing to send. Call it when the
    /// socket can take more.
    pub fn poll_send(&mut self, now: Millis, out: &mut Vec<u8>) -> bool {
        let Some(frame) = self.next_frame(now) else { return false };
        encode(&frame, &[], out);
        true
    }

    fn next_frame(&mut self, now: Millis) -> Option<Frame> {
        if self.closed {
            return self.bye.take().map(|reason| Frame::Bye { reason });
        }
        if self.hello_sent.is_none() {
            self.hello_sent = Some(now);
            return Some(Frame::Hello(self.local));
        }
        for want in &mut self.wants {
            if let Phase::Draining { cancel_sent: cancel_sent @ false, .. } = &mut want.phase {
                *cancel_sent = true;
                return Some(Frame::Cancel { id: want.id });
            }
        }
        if let DraftWant::Queued(id, ref question) = self.draft_want {
            let frame = match question.clone() {
                Question::Followed { parent, begun } => Frame::DraftWant { id, parent, begun },
                Question::Habit { recent } => Frame::HabitWant { id, recent },
            };
            self.draft_want = DraftWant::Asked(id);
            return Some(frame);
        }
        for want in &mut self.wants {
            if let Phase::Queued(page) = &want.phase {
                want.phase = Phase::Asked(page.clone());
                self.meter.asked(now);
                return Some(Frame::Want {
                    id: want.id,
                    key: want.expected.key,
                    plane: want.expected.plane,
                });
            }
        }
        self.next_filter_want()
    }

    fn next_filter_want(&mut self) -> Option<Frame> {
        if self.segments_wanted == 0
            || self.segments_asked.count_ones() as usize >= MAX_FILTER_WANTS_IN_FLIGHT
        {
            return None;
        }
        let segment = self.segments_wanted.trailing_zeros();
        self.segments_wanted &= !(1 << segment);
        self.segments_asked |= 1 << segment;
        Some(Frame::FilterWant { segment: segment as u8 })
    }

    /// When to call `on_deadline` if nothing happens before.
    pub fn deadline(&self) -> Option<Millis> {
        if self.closed {
            return None;
        }
        self.wants.iter().filter_map(Wanted::deadline).min()
    }

    /// Handles the deadline. A peer that has not sent its final frame for a cancelled want in time
    /// is a fault, as in `on_frame`.
    pub fn on_deadline(&mut self, now: Millis) -> Result<(), Fault> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        self.bye(Fault::Stalled.reason());
        Err(Fault::Stalled)
    }

    fn withdraw(&mut self, index: usize, now: Millis) {
        let want = &mut self.wants[index];
        let offset = match &want.phase {
            Phase::Queued(_) => {
                self.wants.remove(index);
                return;
            }
            Phase::Asked(_) => None,
            Phase::Receiving { offset, .. } => Some(*offset),
            Phase::Draining { .. } => return,
        };
        want.phase = Phase::Draining {
            cancel_sent: false,
            offset,
            deadline: now + Millis(STALL_TIMEOUT_MS),
        };
    }

    fn note_idle(&mut self) {
        let busy = |want: &Wanted| matches!(want.phase, Phase::Asked(_) | Phase::Receiving { .. });
        if !self.wants.iter().any(busy) {
            self.meter.idle();
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.wants.iter().position(|want| want.id == id)
    }
}
