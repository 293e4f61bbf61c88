//! A peer that means ill, or is ill: it speaks the transfer protocol as far as its mischief lets it.

use std::sync::Arc;

use potluck::id::{BlockKey, Millis, NodeId, TokenId};
use potluck::kv::{KvShape, Page, Plane};
use potluck::limits::BLOCK_TOKENS;
use potluck::transfer::{ByeReason, Decoder, Hello, ServeEvent, Server, Tokens};

/// What a peer does to those that connect to it. Its catalog stays that of an honest node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mischief {
    /// No connection to it can be made.
    Refuses,
    /// It never answers a connection request.
    Unreachable,
    /// It takes the connection and says nothing.
    Mute,
    /// It sends a byte a second, so that its first frame never ends.
    Trickles,
    /// It says hello, takes wants, and says nothing more.
    GreetsOnly,
    /// It says hello as another node.
    OtherName,
    /// It sends what is no frame, without end.
    Babbles,
    /// It has nothing of what its filter names.
    HasNothing,
    /// It is always too busy.
    Busy,
    /// It offers blocks with another parent.
    OtherParent,
    /// It offers blocks of other tokens.
    OtherTokens,
    /// It offers planes of another length.
    OtherLength,
    /// It sends whole planes of bytes that are no numbers.
    Poison,
}

/// One connection to such a peer.
pub struct Impostor {
    mischief: Mischief,
    server: Server,
    decoder: Decoder,
    since: Millis,
    said: u64,
    shape: Arc<KvShape>,
}

/// What an honest node would have answered.
pub type Truth = Option<(BlockKey, Tokens)>;

impl Impostor {
    pub fn new(mischief: Mischief, hello: Hello, shape: &Arc<KvShape>, now: Millis) -> Impostor {
        let hello = if mischief == Mischief::OtherName { Hello { node: NodeId(hello.node.0 + 77), ..hello } } else { hello };
        let server = Server::new(hello, now);
        Impostor { mischief, server, decoder: Decoder::new(), since: now, said: 0, shape: shape.clone() }
    }

    pub fn hear(&mut self, mut bytes: &[u8], truth: impl Fn(&BlockKey) -> Truth, now: Millis) {
        while !bytes.is_empty() {
            let taken = self.decoder.push(bytes);
            bytes = &bytes[taken..];
            while let Ok(Some((frame, _))) = self.decoder.next_frame() {
                match self.server.on_frame(frame, now) {
                    Ok(ServeEvent::Want { id, key, plane }) => self.answer(id, plane, truth(&key)),
                    Ok(ServeEvent::FilterWant { segment }) => self.server.filter_segment(segment, 0, &[]),
                    Ok(ServeEvent::Closed(_)) | Err(_) => self.server.bye(ByeReason::Leaving),
                    Ok(_) => {}
                }
            }
        }
    }

    fn answer(&mut self, id: u32, plane: Plane, truth: Truth) {
        let Some((parent, tokens)) = truth else { return self.server.absent(id) };
        let bytes = self.shape.plane_bytes(plane, tokens.len());
        let page = Page::carve(1, self.shape.plane_bytes(plane, BLOCK_TOKENS)).remove(0);
        let found = |server: &mut Server, parent, tokens, bytes| {
            let _ = server.found(id, parent, tokens, page.clone(), bytes);
        };
        match self.mischief {
            Mischief::HasNothing => self.server.absent(id),
            Mischief::Busy => self.server.busy(id),
            Mischief::OtherParent => found(&mut self.server, BlockKey([3; 16]), tokens, bytes),
            Mischief::OtherTokens => {
                let tokens = tokens.iter().map(|token| TokenId(token.0 + 1)).collect();
                found(&mut self.server, parent, tokens, bytes);
            }
            Mischief::OtherLength => found(&mut self.server, parent, tokens, bytes - 1),
            _ => {
                page.write().fill(super::fake::NO_NUMBER);
                found(&mut self.server, parent, tokens, bytes);
            }
        }
    }

    pub fn say(&mut self, now: Millis, out: &mut Vec<u8>) -> bool {
        match self.mischief {
            Mischief::Mute => false,
            Mischief::Trickles => {
                let due = (now - self.since).0 / 1_000 > self.said;
                self.said += u64::from(due);
                out.extend(due.then_some(1));
                due
            }
            Mischief::Babbles => {
                out.extend([0xff; 4_000]);
                true
            }
            Mischief::GreetsOnly if self.said > 0 => false,
            _ => {
                let any = self.server.poll_send(now, out);
                self.said += u64::from(any);
                while self.server.poll_finished().is_some() {}
                any
            }
        }
    }
}
