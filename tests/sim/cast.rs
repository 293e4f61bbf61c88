//! The hostile cast: what a peer can do to nodes that connect to it and to nodes that it connects
//! to. Its catalog is an honest node's, so that other nodes ask it. Members have the swarm's key
//! and use a channel like any node, except those that send bytes that are not frames. Strangers
//! have no key and send raw bytes.

use std::collections::{BTreeMap, VecDeque};

use potluck::id::{BlockKey, TokenId};
use potluck::kv::{KvShape, Plane};
use potluck::limits::{MAX_CHUNK_BYTES, MAX_PATH_TOKENS};
use potluck::transfer::{ByeReason, Channel, DraftTokens, Frame, Hello, Tokens, encode};
use xxhash_rust::xxh3::xxh3_64;

use super::engine::{NO_NUMBER, NO_TOKEN, fill, said_next};
use super::heap::{SECOND, mix};
use super::net::{End, Handle};
use super::world::{Event, Sim};

/// Wants per connection of a raid.
const RAID_WANTS: u64 = 2_000;

/// What a member of the cast does to nodes that connect to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mischief {
    /// It refuses connections.
    Refuses,
    /// It never answers a connection request.
    Unreachable,
    /// It accepts the connection and sends nothing.
    Mute,
    /// It sends a byte per second, so that its first frame never ends.
    Trickles,
    /// It sends a hello, accepts wants, and sends nothing more.
    GreetsOnly,
    /// It sends a hello, accepts wants, and answers only cancels.
    OnlyCancels,
    /// It sends a hello with another node's id.
    OtherName,
    /// It sends bytes that are not frames, without end.
    Babbles,
    /// It sends unsolicited frames, without end.
    Floods,
    /// It serves no one: all places are taken.
    Full,
    /// It has none of the blocks in its filter.
    HasNothing,
    /// It is always too busy.
    Busy,
    /// It offers blocks with another parent.
    OtherParent,
    /// It offers blocks of other tokens.
    OtherTokens,
    /// It offers planes of another length.
    OtherLength,
    /// It sends the bytes of another plane than its chunk checksums promise.
    BadChecksum,
    /// It closes the connection in the middle of a plane.
    Truncates,
    /// It sends one whole plane and half of the next.
    Stalls,
    /// It sends the bytes of another block, under the right key and with valid checksums.
    WrongBlock,
    /// It sends made-up bytes with valid checksums.
    WrongBytes,
    /// It sends whole planes of NaN.
    Poison,
    /// Its blocks are right, but its drafts never followed.
    WrongDrafts,
    /// Like `WrongDrafts`, except that the first three tokens are right.
    HalfDrafts,
    /// Like `WrongDrafts`, with tokens outside every vocabulary.
    StrangeDrafts,
    /// It sends unsolicited drafts.
    UnaskedDrafts,
}

impl Mischief {
    pub const ALL: [Mischief; 25] = [
        Mischief::Refuses,
        Mischief::Unreachable,
        Mischief::Mute,
        Mischief::Trickles,
        Mischief::GreetsOnly,
        Mischief::OnlyCancels,
        Mischief::OtherName,
        Mischief::Babbles,
        Mischief::Floods,
        Mischief::Full,
        Mischief::HasNothing,
        Mischief::Busy,
        Mischief::OtherParent,
        Mischief::OtherTokens,
        Mischief::OtherLength,
        Mischief::BadChecksum,
        Mischief::Truncates,
        Mischief::Stalls,
        Mischief::WrongBlock,
        Mischief::WrongBytes,
        Mischief::Poison,
        Mischief::WrongDrafts,
        Mischief::HalfDrafts,
        Mischief::StrangeDrafts,
        Mischief::UnaskedDrafts,
    ];

    /// Whether its bytes pass every check, so that answers may be wrong, with the peer named
    /// as the source.
    pub fn lies_in_content(self) -> bool {
        matches!(self, Mischief::WrongBlock | Mischief::WrongBytes | Mischief::Poison)
    }
}

/// What a member of the cast does on a connection that it opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Raid {
    /// Sends nothing.
    Mute,
    /// Sends a hello and nothing more.
    Idle,
    /// Sends a hello and keeps asking for blocks, both present and absent.
    Wants,
    /// Sends bytes that are not frames, without end.
    Garbage,
    /// Sends these bytes, and records what it receives.
    Stranger(Vec<u8>),
}

/// What an honest node would send.
#[derive(Clone, Debug)]
pub struct Truth {
    pub parent: BlockKey,
    pub tokens: Tokens,
    /// The prefix up to each of the tokens.
    pub prefixes: Vec<u64>,
}

/// One end of a connection that a member of the cast holds.
pub struct Cast {
    role: Role,
    channel: Channel,
    lines: Lines,
    /// Bytes to send outside the channel.
    raw: VecDeque<u8>,
    planes: u64,
    over: bool,
}

/// The frames of a member.
struct Lines {
    hello: Hello,
    out: VecDeque<Vec<u8>>,
    said: u64,
    greeted: bool,
}

#[derive(Clone)]
enum Role {
    Serves(Mischief),
    Raids(Raid),
}

impl Cast {
    fn put(&mut self, frame: &Frame, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode(frame, payload, &mut bytes);
        self.lines.out.push_back(bytes);
    }

    fn receive(&mut self, frame: &Frame, shape: &KvShape, truths: &BTreeMap<BlockKey, Truth>) {
        let Role::Serves(mischief) = self.role else { return };
        if self.over {
            return;
        }
        match frame {
            Frame::Hello(_)
                if matches!(mischief, Mischief::Mute | Mischief::Trickles | Mischief::Babbles) => {}
            Frame::Hello(_) => {
                self.lines.greeted = true;
                let mut hello = self.lines.hello;
                if mischief == Mischief::OtherName {
                    hello.node.0 += 77;
                }
                self.put(&Frame::Hello(hello), &[]);
                if mischief == Mischief::Full {
                    self.put(&Frame::Bye { reason: ByeReason::Full }, &[]);
                    self.over = true;
                }
            }
            Frame::Ping { nonce } if mischief != Mischief::GreetsOnly => {
                self.put(&Frame::Pong { nonce: *nonce }, &[])
            }
            Frame::FilterWant { segment } if mischief != Mischief::GreetsOnly => {
                let checksum = xxh3_64(&[]);
                self.put(
                    &Frame::FilterSegment { segment: *segment, generation: 0, checksum, len: 0 },
                    &[],
                );
            }
            Frame::Cancel { id } if mischief != Mischief::GreetsOnly => {
                self.put(&Frame::Stopped { id: *id }, &[])
            }
            Frame::Want { id, key, plane } => {
                self.answer(*id, *plane, shape, mischief, truths.get(key).cloned())
            }
            Frame::DraftWant { id, parent, begun } => {
                let right = || {
                    Vec::from_iter(
                        truths
                            .values()
                            .find_map(|truth| after(truth, parent, begun))
                            .into_iter()
                            .flatten(),
                    )
                };
                self.suggest(*id, mischief, right);
            }
            Frame::HabitWant { id, recent } => {
                let last = recent.last().copied();
                self.suggest(*id, mischief, || {
                    core::iter::successors(last, |word| said_next(*word)).skip(1).collect()
                });
            }
            _ => {}
        }
    }

    /// Answers a draft request to which `right` would be a good answer.
    fn suggest(&mut self, id: u32, mischief: Mischief, right: impl FnOnce() -> Vec<TokenId>) {
        let wrong = (0..MAX_PATH_TOKENS as u32).map(|at| TokenId(at % 7));
        let (id, tokens) = match mischief {
            Mischief::WrongDrafts => (id, wrong.collect()),
            Mischief::HalfDrafts => {
                (id, right().into_iter().take(3).chain(wrong).take(MAX_PATH_TOKENS).collect())
            }
            Mischief::StrangeDrafts => {
                (id, right().into_iter().take(1).chain([NO_TOKEN; 40]).collect())
            }
            Mischief::UnaskedDrafts => (id + 1, DraftTokens::new()),
            _ => return,
        };
        self.put(&Frame::Draft { id, tokens }, &[]);
    }

    fn answer(
        &mut self,
        id: u32,
        plane: Plane,
        shape: &KvShape,
        mischief: Mischief,
        truth: Option<Truth>,
    ) {
        if matches!(mischief, Mischief::GreetsOnly | Mischief::OnlyCancels) {
            return;
        }
        let Some(Truth { mut parent, mut tokens, prefixes }) = truth else {
            return self.put(&Frame::Absent { id }, &[]);
        };
        let mut bytes = plane_bytes(shape, plane, &prefixes);
        match mischief {
            Mischief::HasNothing => return self.put(&Frame::Absent { id }, &[]),
            Mischief::Busy => return self.put(&Frame::Busy { id }, &[]),
            Mischief::OtherParent => parent = BlockKey([3; 16]),
            Mischief::OtherTokens => {
                tokens.iter_mut().for_each(|token| *token = TokenId(token.0 + 1))
            }
            Mischief::OtherLength => drop(bytes.pop()),
            Mischief::WrongBlock => {
                let others: Vec<u64> = prefixes.iter().map(|prefix| mix(*prefix)).collect();
                bytes = plane_bytes(shape, plane, &others);
            }
            Mischief::WrongBytes => bytes.iter_mut().for_each(|byte| *byte = (*byte ^ 0x55) & 0x7f),
            Mischief::Poison => bytes.fill(NO_NUMBER),
            _ => {}
        }
        self.planes += 1;
        let digest = xxh3_64(&bytes);
        self.put(
            &Frame::Found { id, plane, parent, tokens, bytes: bytes.len() as u32, digest },
            &[],
        );
        let half = matches!(mischief, Mischief::Truncates)
            || (mischief == Mischief::Stalls && self.planes >= 2);
        for (at, chunk) in bytes.chunks(MAX_CHUNK_BYTES).enumerate() {
            let offset = (at * MAX_CHUNK_BYTES) as u32;
            let checksum = xxh3_64(chunk) ^ u64::from(mischief == Mischief::BadChecksum);
            self.put(&Frame::Chunk { id, offset, checksum, len: chunk.len() as u16 }, chunk);
        }
        if half {
            self.lines.out.pop_back();
            self.over = true;
        }
    }
}

/// The tokens of a block after `begun`, if the block continues them under this parent.
fn after(truth: &Truth, parent: &BlockKey, begun: &[TokenId]) -> Option<Vec<TokenId>> {
    let follows = truth.parent == *parent
        && truth.tokens.len() > begun.len()
        && truth.tokens.starts_with(begun);
    follows.then(|| truth.tokens[begun.len()..].to_vec())
}

/// A member's next frame on its channel: a queued one, or one made up for its role.
fn next_frame(
    member: &mut Lines,
    role: &Role,
    truths: &BTreeMap<BlockKey, Truth>,
    bytes: &mut Vec<u8>,
) -> bool {
    if let Some(frame) = member.out.pop_front() {
        bytes.extend(frame);
        return true;
    }
    member.said += 1;
    let said = member.said;
    match role {
        Role::Serves(Mischief::Floods) if member.greeted => {
            encode(&Frame::Pong { nonce: said }, &[], bytes)
        }
        Role::Raids(Raid::Idle | Raid::Wants) if said == 1 => {
            encode(&Frame::Hello(member.hello), &[], bytes)
        }
        Role::Raids(Raid::Wants) if said <= RAID_WANTS => {
            let known = truths.keys().nth(said as usize % truths.len().max(1)).copied();
            let key =
                known.filter(|_| said.is_multiple_of(2)).unwrap_or(BlockKey([said as u8; 16]));
            encode(
                &Frame::Want { id: said as u32, key, plane: Plane::ALL[said as usize % 2] },
                &[],
                bytes,
            );
        }
        _ => return false,
    }
    true
}

/// The packed bytes of a plane of a block whose tokens end at these prefixes.
pub fn plane_bytes(shape: &KvShape, plane: Plane, prefixes: &[u64]) -> Vec<u8> {
    let count = prefixes.len();
    let mut bytes = vec![0; shape.plane_bytes(plane, count)];
    let mut row = Vec::new();
    for (layer, _) in shape.layers().iter().enumerate().filter(|(_, of)| **of == plane) {
        for head in 0..shape.kv_heads() {
            let span = shape.head_span(layer, head, count);
            let salt = mix((layer * 4_096 + head) as u64 + 1);
            let ranges = [span.keys, span.key_scales, span.values, span.value_scales];
            for (at, prefix) in prefixes.iter().enumerate() {
                row.resize(ranges.iter().map(|range| range.len() / count).sum(), 0);
                fill(*prefix, salt, &mut row);
                let mut rest = &row[..];
                for range in &ranges {
                    let len = range.len() / count;
                    let (part, after) = rest.split_at(len);
                    rest = after;
                    bytes[range.start + at * len..range.start + (at + 1) * len]
                        .copy_from_slice(part);
                }
            }
        }
    }
    bytes
}

impl Sim {
    fn new_cast(&mut self, who: usize, role: Role) -> u64 {
        self.accepted += 1;
        let config = &self.stations[who].config;
        let hello = Hello::new(config.node, config.boot, config.epochs.epoch, config.fingerprint);
        let ephemeral =
            blake3::derive_key("potluck simulator's cast", &self.accepted.to_le_bytes());
        let channel = match role {
            Role::Serves(_) => Channel::responder(&config.keys, ephemeral),
            Role::Raids(_) => Channel::initiator(config.keys.current(), ephemeral),
        };
        let raw = match &role {
            Role::Raids(Raid::Stranger(bytes)) => bytes.iter().copied().collect(),
            _ => VecDeque::new(),
        };
        let cast = Cast {
            role,
            channel,
            lines: Lines { hello, out: VecDeque::new(), said: 0, greeted: false },
            raw,
            planes: 0,
            over: false,
        };
        self.casts.insert(self.accepted, cast);
        self.accepted
    }

    pub(super) fn cast_accepts(&mut self, who: usize) -> u64 {
        let mischief = self.stations[who].mischief.expect("only members of the cast have mischief");
        self.count(match mischief {
            Mischief::Refuses | Mischief::Unreachable => "connect refused",
            mischief if mischief.lies_in_content() => "peer lies in content",
            Mischief::Mute
            | Mischief::Trickles
            | Mischief::GreetsOnly
            | Mischief::OnlyCancels
            | Mischief::Stalls => "peer falls silent",
            Mischief::HasNothing | Mischief::Busy | Mischief::Full => "peer declines",
            _ => "peer breaks rules",
        });
        let cast = self.new_cast(who, Role::Serves(mischief));
        if mischief == Mischief::Trickles {
            self.heap.push(self.now + SECOND, Event::CastTick { who, cast });
        }
        cast
    }

    pub(super) fn cast_ticks(&mut self, who: usize, cast: u64) {
        let Some((id, side)) = self.net.by_handle.get(&(who, Handle::Cast(cast))).copied() else {
            return;
        };
        let Some(member) = self.casts.get_mut(&cast) else { return };
        // Part of a handshake answer that never ends.
        member.raw.extend(if member.lines.said == 0 { [48, 0].as_slice() } else { &[1] });
        member.lines.said += 1;
        self.heap.push(self.now + SECOND, Event::CastTick { who, cast });
        self.pump(id, side);
    }

    pub(super) fn cast_hears(&mut self, cast: u64, bytes: &[u8]) {
        let Some(mut member) = self.casts.remove(&cast) else { return };
        let shape = self.stations[0].config.shape.clone();
        if matches!(member.role, Role::Raids(Raid::Stranger(_))) {
            self.overheard.extend_from_slice(bytes);
        } else if !member.over {
            let mut heard = Vec::new();
            let mut frames = member.channel.received(bytes);
            let fault = loop {
                match frames.next_frame() {
                    Ok(Some((frame, _))) => heard.push(frame),
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            for frame in &heard {
                member.receive(frame, &shape, &self.truths);
            }
            member.over |= fault;
        }
        self.casts.insert(cast, member);
    }

    /// Appends the next bytes that a member of the cast sends; false if there are none.
    pub(super) fn cast_says(&mut self, cast: u64, out: &mut Vec<u8>) -> bool {
        let Some(member) = self.casts.get_mut(&cast) else { return false };
        match member.role {
            Role::Serves(Mischief::Babbles) | Role::Raids(Raid::Garbage) => {
                out.extend([0xff; 1_024])
            }
            Role::Serves(Mischief::Trickles | Mischief::Mute)
            | Role::Raids(Raid::Mute | Raid::Stranger(_)) => {
                out.extend(member.raw.drain(..));
            }
            _ => {
                let Cast { role, channel, lines, .. } = member;
                channel.writable();
                let bytes = channel.send(|bytes| next_frame(lines, role, &self.truths, bytes));
                out.extend(bytes.into_iter().flatten());
                if member.over && out.is_empty() {
                    self.cast_hangs_up(cast);
                }
            }
        }
        !out.is_empty()
    }

    fn cast_hangs_up(&mut self, cast: u64) {
        let handle = Handle::Cast(cast);
        let found = self.net.by_handle.iter().find(|((_, of), _)| *of == handle).map(|(_, at)| *at);
        let stalls = matches!(
            self.casts.get(&cast).map(|member| &member.role),
            Some(Role::Serves(Mischief::Stalls))
        );
        if let Some((id, side)) = found.filter(|_| !stalls) {
            self.end_side(id, side);
            self.casts.remove(&cast);
        }
    }

    /// The bystander `who` opens `count` connections to `victim`. Returns how many were accepted.
    pub fn raid(&mut self, who: usize, victim: usize, raid: &Raid, count: usize) -> usize {
        let mut taken = 0;
        for _ in 0..count {
            self.count("raid");
            let cast = self.new_cast(who, Role::Raids(raid.clone()));
            let Some(handle) = self.accept(victim, self.stations[who].addr) else { continue };
            let caller =
                End { who, handle: Handle::Cast(cast), life: self.stations[who].life, gone: false };
            self.join_ends(caller, victim, handle);
            self.drain(victim);
            taken += 1;
        }
        taken
    }
}
