//! Turns a byte stream into frames, through one buffer of fixed size.

use super::frame::MAX_FRAME_BYTES;
use super::{Fault, Frame};
use crate::limits::{MAX_CHUNK_BYTES, MAX_FRAME_HEADER_BYTES};

/// Cuts the bytes of a connection into frames. Its one buffer holds the longest frame; how the
/// bytes were split on the wire makes no difference. A header over the limits is a fault as soon as
/// it is seen, before anything is allocated for it.
pub struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    header: Option<Frame>,
}

impl Decoder {
    /// An empty decoder. Its buffer is allocated with the first bytes: a refused
    /// connection needs none.
    pub fn new() -> Decoder {
        Decoder { buffer: Box::default(), start: 0, end: 0, header: None }
    }

    /// The free part of the buffer, for a socket to read into. Never empty after
    /// [`next_frame`](Self::next_frame) has returned `None`.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; MAX_FRAME_BYTES].into_boxed_slice();
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Whether all received bytes have been taken as frames.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && self.header.is_none()
    }

    /// Records that `count` bytes were read into [`spare`](Self::spare).
    ///
    /// # Panics
    /// When the buffer has less room: a bug in the caller.
    pub(crate) fn filled(&mut self, count: usize) {
        assert!(
            count <= self.buffer.len() - self.end,
            "{count} bytes reported for a smaller buffer"
        );
        self.end += count;
    }

    /// Takes as many of `bytes` as the buffer has room for, and returns how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = bytes.len().min(spare.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// The next complete frame and its payload; `None` when more bytes are needed. After a fault
    /// the connection has no more frames.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, &[u8])>, Fault> {
        let Some(frame) = self.advance()? else { return Ok(None) };
        let payload = self.payload(&frame);
        Ok(Some((frame, payload)))
    }

    /// As [`next_frame`](Self::next_frame), but without the payload: [`payload`](Self::payload)
    /// returns it until more bytes are pushed.
    pub(super) fn advance(&mut self) -> Result<Option<Frame>, Fault> {
        let header = match self.header.take() {
            Some(header) => header,
            None => match self.next_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let payload = header.payload_len();
        if self.end - self.start < payload {
            self.header = Some(header);
            return Ok(None);
        }
        self.start += payload;
        Ok(Some(header))
    }

    /// The payload of `frame`, which [`advance`](Self::advance) has just returned.
    pub(super) fn payload(&self, frame: &Frame) -> &[u8] {
        &self.buffer[self.start - frame.payload_len()..self.start]
    }

    fn next_header(&mut self) -> Result<Option<Frame>, Fault> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length > MAX_FRAME_HEADER_BYTES {
            return Err(Fault::HeaderTooLong(length));
        }
        let Some(header) = rest.get(..length) else { return Ok(None) };
        let (frame, trailing) =
            postcard::take_from_bytes::<Frame>(header).map_err(|_| Fault::Header)?;
        if !trailing.is_empty() {
            return Err(Fault::Header);
        }
        if frame.payload_len() > MAX_CHUNK_BYTES {
            return Err(Fault::PayloadTooLong(frame.payload_len()));
        }
        self.start += 2 + length;
        Ok(Some(frame))
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode;
    use super::*;

    /// Feeds `stream` in pieces of the sizes in `cuts`, over and over; returns the frames and the
    /// fault that ended them.
    fn decode(stream: &[u8], cuts: &[usize]) -> (Vec<(Frame, Vec<u8>)>, Option<Fault>) {
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        let mut rest = stream;
        for cut in cuts.iter().cycle() {
            loop {
                match decoder.next_frame() {
                    Ok(Some((frame, payload))) => frames.push((frame, payload.to_vec())),
                    Ok(None) => break,
                    Err(fault) => return (frames, Some(fault)),
                }
            }
            if rest.is_empty() {
                return (frames, None);
            }
            let taken = decoder.push(&rest[..(*cut).min(rest.len())]);
            assert!(taken > 0, "the buffer has no room although no frame is complete");
            rest = &rest[taken..];
        }
        unreachable!("cycles")
    }

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        for len in [0, 1, MAX_CHUNK_BYTES as u16, 77] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            encode(&Frame::Ping { nonce: u64::from(len) }, &[], &mut out);
            encode(&Frame::Chunk { id: 1, offset: 0, checksum: 0, len }, &payload, &mut out);
        }
        out
    }

    #[test]
    fn a_stranger_that_speaks_http_is_turned_away_at_its_first_bytes() {
        let (frames, fault) = decode(b"GET / HTTP/1.1\r\n", &[3]);
        assert_eq!((frames.len(), fault), (0, Some(Fault::HeaderTooLong(0x4547))));
    }

    #[test]
    fn a_header_with_bytes_after_it_is_refused() {
        let mut bytes = Vec::new();
        encode(&Frame::Cancel { id: 1 }, &[], &mut bytes);
        bytes[0] += 1;
        bytes.push(0);
        assert_eq!(decode(&bytes, &[64]).1, Some(Fault::Header));
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_before_it_arrives() {
        let frame = Frame::Chunk { id: 1, offset: 0, checksum: 0, len: MAX_CHUNK_BYTES as u16 + 1 };
        let header = postcard::to_allocvec(&frame).unwrap();
        let mut bytes = (header.len() as u16).to_le_bytes().to_vec();
        bytes.extend(header);
        assert_eq!(decode(&bytes, &[64]).1, Some(Fault::PayloadTooLong(MAX_CHUNK_BYTES + 1)));
    }

    proptest! {
        #![proptest_config(super::super::tests::cases(256))]

        #[test]
        fn how_the_stream_was_cut_makes_no_difference(cuts in prop::collection::vec(1usize..40_000, 1..6)) {
            let stream = stream();
            let whole = decode(&stream, &[usize::MAX]);
            prop_assert_eq!(whole.0.len(), 8);
            prop_assert_eq!(decode(&stream, &cuts), whole);
        }

        #[test]
        fn random_bytes_never_panic_and_end_the_same_however_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            small in prop::collection::vec(0u8..16, 0..400),
            cuts in prop::collection::vec(1usize..50, 1..6),
        ) {
            for stream in [bytes, small] {
                prop_assert_eq!(decode(&stream, &cuts), decode(&stream, &[usize::MAX]));
            }
        }
    }
}
