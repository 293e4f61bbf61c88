//! An engine without arithmetic. The KV bytes of a token are a hash of the whole prefix up to it,
//! and so is the next token. The engine compares every row that attention would read with what that
//! prefix must give, so it detects every wrong, stale or missing byte where it is used.
//!
//! While a job runs, its rows hold the engine's own pattern, to catch writes into a page in use.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use potluck::id::{Fingerprint, TokenId};
use potluck::kv::{KvFormat, KvShape, Plane};
use potluck::limits::BLOCK_TOKENS;
use potluck::pace::Pace;
use potluck::sampler::Sampling;
use xxhash_rust::xxh3::xxh3_64;

use super::heap::{Micros, mix};
use super::host::{JobDone, Outside, Task, TaskDone, TaskFault};

/// A row of only these bytes stands for NaN: the job fails.
pub const NO_NUMBER: u8 = 0xff;

/// Tokens of answers are below this, unless they are in the manner.
pub const VOCABULARY: u64 = 50_000;

/// Text in a manner: from this token on there are the words of a few set phrases, and from `NAMES`
/// on `VOCABULARY` names. A phrase is always said to its end. Which name comes after it, and which
/// phrase after that, depends on the whole text, so no two texts are alike. An answer is in the
/// manner if the text before it ends so.
pub const MANNER: u32 = 60_000;
pub const PHRASES: u32 = 12;
pub const WORDS: u32 = 12;
pub const NAMES: u32 = MANNER + PHRASES * WORDS;

/// A token outside every vocabulary: a job with it fails.
pub const NO_TOKEN: TokenId = TokenId(u32::MAX);

/// The hash of the empty prefix.
pub fn root(fingerprint: Fingerprint) -> u64 {
    mix(u64::from_le_bytes(fingerprint.0[..8].try_into().expect("eight bytes")))
}

/// The prefix `before` extended by `token`.
pub fn extend(before: u64, token: TokenId) -> u64 {
    mix(before.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(token.0).wrapping_add(0x1234_5678_9abc))
}

/// The token that follows a prefix that ends with `last`.
pub fn chosen(prefix: u64, last: TokenId) -> TokenId {
    let drawn = mix(prefix ^ 0x00c0_ffee);
    match (said_next(last), last.0) {
        (Some(word), _) => word,
        (None, ..MANNER) => TokenId((drawn % VOCABULARY) as u32),
        (None, ..NAMES) => TokenId(NAMES + (drawn % VOCABULARY) as u32),
        (None, _) => TokenId(MANNER + (drawn % u64::from(PHRASES)) as u32 * WORDS),
    }
}

/// The word that follows `last` within a phrase, if any.
pub fn said_next(last: TokenId) -> Option<TokenId> {
    let in_phrase = (MANNER..NAMES).contains(&last.0);
    (in_phrase && (last.0 - MANNER) % WORDS + 1 < WORDS).then_some(TokenId(last.0 + 1))
}

/// The same with sampling: a different `luck` now and then gives a different token.
/// Within a phrase it breaks off for a name.
pub fn drawn(prefix: u64, last: TokenId, luck: Option<u64>) -> TokenId {
    let moved =
        luck.map(|luck| mix(prefix ^ mix(luck ^ 0x1_0cc))).filter(|draw| draw.is_multiple_of(6));
    match (moved, said_next(last)) {
        (Some(draw), Some(_)) => TokenId(NAMES + (mix(draw) % VOCABULARY) as u32),
        (Some(draw), None) => chosen(prefix ^ draw, last),
        (None, _) => chosen(prefix, last),
    }
}

/// The seed of a draw; `None` for greedy decoding.
pub fn luck(sampling: &Sampling) -> Option<u64> {
    (sampling.temperature > 0.0).then_some(sampling.seed)
}

/// Gemma 3 270M's 18 layers with heads of `head_dim` values instead of 256, which makes a block
/// `256 / head_dim` times smaller.
pub fn shape_270m(head_dim: usize, window: usize) -> Arc<KvShape> {
    let layers: Vec<Plane> =
        (0..18).map(|layer| if layer % 6 == 5 { Plane::Global } else { Plane::Sliding }).collect();
    Arc::new(KvShape::new(&layers, 1, head_dim, window, KvFormat::Int8).expect("a good shape"))
}

/// Two sliding layers and a global one, of 68 bytes per token each.
pub fn shape_small(window: usize) -> Arc<KvShape> {
    shape_of(&[Plane::Sliding, Plane::Global, Plane::Sliding], window)
}

pub fn shape_of(layers: &[Plane], window: usize) -> Arc<KvShape> {
    Arc::new(KvShape::new(layers, 1, 32, window, KvFormat::Int8).expect("a good shape"))
}

/// A defect of a machine whose engine gives wrong bytes, with valid checksums and under its own id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Another CPU or build: this share of blocks is always wrong in the same way.
    OtherBits { percent: u64 },
    /// Broken memory: this share of jobs writes wrong bytes, different ones in each job.
    BadMemory { percent: u64 },
}

impl Flaw {
    /// The mask that changes a row which job `job` computes in block `block`.
    fn mask(self, job: u64, block: u64) -> u8 {
        match self {
            Flaw::OtherBits { percent } => u8::from(mix(block ^ 0xf1a5) % 100 < percent),
            Flaw::BadMemory { percent } if mix(job ^ 0xbad) % 100 < percent => {
                1 + (mix(job) % 0x40) as u8
            }
            Flaw::BadMemory { .. } => 0,
        }
    }
}

/// One plane of one token.
pub type Cell = (Plane, usize);

/// What a job read before its own tokens.
#[derive(Default, Debug)]
pub struct Seen {
    /// Rows that this engine never computed.
    pub foreign: Vec<Cell>,
    /// Rows with other bytes than the prefix gives.
    pub bad: Vec<Cell>,
    /// A hash of the wrong bytes.
    pub taint: u64,
    /// A row was NaN.
    pub poison: bool,
    /// Broken rules: missing pages, and pages written to during the job.
    pub broken: Vec<String>,
}

/// The running job.
struct Running {
    task: Task,
    began: Micros,
    ends: Micros,
    abandoned: bool,
    /// Prefixes up to each token of the sequence, the job's own tokens included.
    prefixes: Vec<u64>,
    seen: Seen,
}

/// One layer of one head: the location of its rows in a page.
struct Lane {
    plane: Plane,
    salt: u64,
    ranges: [Range<usize>; 4],
}

impl Lane {
    fn at(&self, position: usize) -> [Range<usize>; 4] {
        let row = position % BLOCK_TOKENS;
        self.ranges.clone().map(|all| {
            let len = all.len() / BLOCK_TOKENS;
            all.start + row * len..all.start + (row + 1) * len
        })
    }
}

pub struct Engine {
    shape: Arc<KvShape>,
    lanes: Vec<Lane>,
    pub micros_per_token: Micros,
    /// Fixed cost of a job.
    pub micros_per_job: Micros,
    /// What a drafted row adds to a decode step, in percent of a token: such a step reads the
    /// weights once for all of its rows.
    pub percent_per_row: u64,
    /// A machine's costs, which replace those two: the same tables as for `potluck run --pace`.
    pub pace: Option<Pace>,
    /// Tokens run so far.
    pub ran: u64,
    /// Of those, in jobs that were abandoned.
    pub ran_in_vain: u64,
    /// Every prefix whose last token was computed here.
    computed: BTreeSet<u64>,
    /// Its bytes are wrong. Then what they were computed on is not checked.
    pub flaw: Option<Flaw>,
    /// Results computed on wrong bytes are wrong, as with a real model.
    pub spreads: bool,
    /// A real model that runs the jobs instead.
    pub outside: Option<Outside>,
    running: Option<Running>,
    row: Vec<u8>,
}

impl Engine {
    pub fn new(shape: &Arc<KvShape>, micros_per_token: Micros) -> Engine {
        let mut lanes = Vec::new();
        for (layer, plane) in shape.layers().iter().enumerate() {
            for head in 0..shape.kv_heads() {
                let span = shape.head_span(layer, head, BLOCK_TOKENS);
                let salt = mix((layer * 4_096 + head) as u64 + 1);
                lanes.push(Lane {
                    plane: *plane,
                    salt,
                    ranges: [span.keys, span.key_scales, span.values, span.value_scales],
                });
            }
        }
        Engine {
            shape: shape.clone(),
            lanes,
            micros_per_token,
            micros_per_job: 0,
            percent_per_row: 15,
            pace: None,
            ran: 0,
            ran_in_vain: 0,
            computed: BTreeSet::new(),
            flaw: None,
            spreads: false,
            outside: None,
            running: None,
            row: Vec::new(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Forgets what the machine loses in a power failure.
    pub fn forget_all(&mut self) {
        self.running = None;
        self.computed.clear();
    }

    pub fn drop_job(&mut self) {
        self.running = None;
    }

    /// Writes into the page under computation, which is forbidden.
    pub fn spoil_job(&mut self) {
        let Some(Running { task, .. }) = &self.running else { return };
        let pages = &task.sequence.blocks[task.first / BLOCK_TOKENS];
        if let Some(page) = Plane::ALL.iter().find_map(|plane| pages.plane(*plane)) {
            page.write().iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    /// Begins a job; `prefixes` has one entry for each token up to the job's last. Returns
    /// when it ends.
    pub fn begin(&mut self, task: Task, prefixes: Vec<u64>, now: Micros) -> Micros {
        assert!(self.running.is_none(), "two jobs at once");
        let count = task.tokens.len() as u64;
        let drafted = task.rows.saturating_sub(1) as u64;
        let tokens = self.micros_per_token * (count - drafted)
            + self.micros_per_token * drafted * self.percent_per_row / 100;
        let flat = tokens + self.micros_per_job;
        let paced = self
            .pace
            .as_ref()
            .map(|pace| pace.job_micros(task.first, task.tokens.len(), task.rows));
        let ends = now + paced.unwrap_or(flat).max(1);
        let mut seen = Seen::default();
        if self.outside.is_none() {
            self.inspect(&task, &prefixes, &mut seen);
            let scratch = scratch(task.id);
            let positions = task.first..task.first + task.tokens.len();
            self.write(&task, positions, &mut seen, |_, _, row| row.fill(scratch));
        }
        self.ran += count;
        self.running = Some(Running { task, began: now, ends, abandoned: false, prefixes, seen });
        ends
    }

    /// Abandons job `id`: it ends at the next layer boundary. Returns when, if that job is running.
    pub fn abandon(&mut self, id: u64, now: Micros) -> Option<Micros> {
        let layers = self.shape.layers().len() as u64;
        let running =
            self.running.as_mut().filter(|running| running.task.id == id && !running.abandoned)?;
        let layer = ((running.ends - running.began) / layers).max(1);
        running.abandoned = true;
        running.ends =
            running.ends.min(running.began + (now - running.began).div_ceil(layer) * layer);
        Some(running.ends)
    }

    /// Ends the running job if it is due.
    pub fn finish(&mut self, now: Micros) -> Option<(Task, TaskDone, Seen)> {
        let Running { task, began, abandoned, prefixes, mut seen, .. } =
            self.running.take_if(|running| running.ends <= now)?;
        if let Some(outside) = &mut self.outside {
            // The real time says nothing about the simulated machine.
            let done = JobDone { micros: now - began, ..outside(&task.job) };
            let done = TaskDone {
                id: task.id,
                result: Ok(Vec::new()),
                micros: now - began,
                outside: Some(done),
            };
            return Some((task, done, seen));
        }
        let positions = task.first..task.first + task.tokens.len();
        self.check_scratch(&task, positions.clone(), &mut seen);
        let micros = now - began;
        if abandoned {
            self.ran_in_vain += task.tokens.len() as u64;
            let done =
                TaskDone { id: task.id, result: Err(TaskFault::Abandoned), micros, outside: None };
            return Some((task, done, seen));
        }
        seen.taint = 0;
        self.inspect(&task, &prefixes, &mut seen);
        let (flaw, taint) = (self.flaw, if self.spreads { seen.taint } else { 0 });
        self.write(&task, positions.clone(), &mut seen, |at, salt, row| {
            fill(prefixes[at] ^ taint, salt, row);
            let mask = flaw.map_or(0, |flaw| flaw.mask(task.id, prefixes[at - at % BLOCK_TOKENS]));
            row[0] ^= mask;
        });
        self.computed.extend(&prefixes[positions.clone()]);
        let taint = if seen.bad.is_empty() { 0 } else { 0x0bad };
        let luck = task.job.judge.as_ref().and_then(|judge| luck(&judge.sampling));
        let result = if seen.poison {
            Err(TaskFault::Failed("no number".to_string()))
        } else if task.tokens.contains(&NO_TOKEN) {
            Err(TaskFault::Failed("a token outside the vocabulary".to_string()))
        } else {
            let unjudged = task.tokens.len() - task.rows.min(task.tokens.len());
            Ok(positions
                .zip(&task.tokens)
                .skip(unjudged)
                .map(|(at, last)| drawn(prefixes[at] ^ taint, *last, luck))
                .collect())
        };
        let done = TaskDone { id: task.id, result, micros, outside: None };
        Some((task, done, seen))
    }

    /// Compares every row that the job's tokens attend to and that the job does not write itself.
    fn inspect(&mut self, task: &Task, prefixes: &[u64], seen: &mut Seen) {
        let mut row = std::mem::take(&mut self.row);
        for plane in Plane::ALL {
            if self.shape.plane_bytes(plane, 1) == 0 {
                continue;
            }
            let first =
                if plane == Plane::Global { 0 } else { self.shape.first_sliding(task.first) };
            let mut position = first.min(task.first);
            while position < task.first {
                let block = position / BLOCK_TOKENS;
                let end = ((block + 1) * BLOCK_TOKENS).min(task.first);
                let Some(page) =
                    task.sequence.blocks.get(block).and_then(|pages| pages.plane(plane))
                else {
                    seen.broken.push(format!("{plane:?} of tokens {position} to {end} is missing"));
                    position = end;
                    continue;
                };
                let page = page.read();
                for (at, prefix) in (position..end).zip(&prefixes[position..end]) {
                    if !self.computed.contains(prefix) {
                        seen.foreign.push((plane, at));
                    }
                    let (mut good, mut number) = (true, false);
                    for lane in self.lanes.iter().filter(|lane| lane.plane == plane) {
                        let ranges = lane.at(at);
                        let len: usize = ranges.iter().map(Range::len).sum();
                        row.resize(len, 0);
                        fill(*prefix, lane.salt, &mut row);
                        let mut rest = &row[..];
                        for range in ranges {
                            let (expected, after) = rest.split_at(range.len());
                            rest = after;
                            if page[range.clone()] != *expected {
                                good = false;
                                seen.taint ^= mix(xxh3_64(&page[range.clone()]) ^ at as u64);
                                number |= page[range].iter().any(|byte| *byte != NO_NUMBER);
                            }
                        }
                    }
                    if !good && self.flaw.is_none() {
                        seen.bad.push((plane, at));
                        seen.poison |= !number;
                    }
                }
                position = end;
            }
        }
        self.row = row;
    }

    /// Writes the rows of `positions` in every layer; calls `with` with the position, the layer's
    /// salt and the row.
    fn write(
        &mut self,
        task: &Task,
        positions: Range<usize>,
        seen: &mut Seen,
        with: impl Fn(usize, u64, &mut [u8]),
    ) {
        let mut row = std::mem::take(&mut self.row);
        for at in positions {
            for plane in
                Plane::ALL.into_iter().filter(|plane| self.shape.plane_bytes(*plane, 1) > 0)
            {
                let Some(page) = task
                    .sequence
                    .blocks
                    .get(at / BLOCK_TOKENS)
                    .and_then(|pages| pages.plane(plane))
                else {
                    seen.broken.push(format!(
                        "{plane:?} of token {at}, which is being computed, has no page"
                    ));
                    continue;
                };
                let mut page = page.write();
                for lane in self.lanes.iter().filter(|lane| lane.plane == plane) {
                    let ranges = lane.at(at);
                    row.resize(ranges.iter().map(Range::len).sum(), 0);
                    with(at, lane.salt, &mut row);
                    let mut rest = &row[..];
                    for range in ranges {
                        let (bytes, after) = rest.split_at(range.len());
                        rest = after;
                        page[range].copy_from_slice(bytes);
                    }
                }
            }
        }
        self.row = row;
    }

    fn check_scratch(&self, task: &Task, positions: Range<usize>, seen: &mut Seen) {
        let scratch = scratch(task.id);
        for at in positions {
            for lane in &self.lanes {
                let page = task
                    .sequence
                    .blocks
                    .get(at / BLOCK_TOKENS)
                    .and_then(|pages| pages.plane(lane.plane));
                let Some(page) = page.map(|page| page.read()) else { continue };
                if lane
                    .at(at)
                    .into_iter()
                    .any(|range| page[range].iter().any(|byte| *byte != scratch))
                {
                    seen.broken.push(format!(
                        "{:?} of token {at} was written to while it was being computed",
                        lane.plane
                    ));
                    return;
                }
            }
        }
    }
}

fn scratch(id: u64) -> u8 {
    0x80 | (mix(id) & 0x3f) as u8
}

/// The bytes of one row.
pub fn fill(prefix: u64, salt: u64, row: &mut [u8]) {
    let mut state = mix(prefix ^ salt);
    for bytes in row.chunks_mut(8) {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..bytes.len()]);
    }
}
