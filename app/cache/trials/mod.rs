//! Trials of the eviction policy: real caches, driven as a node drives them, over traces of
//! prompts; alone, and as a swarm whose nodes know what the others held when they last announced
//! it. The measure is the number of tokens computed. docs/inside/eviction.md has the figures; the
//! test `table`, which `make eviction` runs, measures them again.

mod baseline;
mod mmlu;
mod thresholds;
mod traces;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use super::*;
use crate::id::{BlockKey, Fingerprint, NodeId, TokenId};
use crate::kv::{KvFormat, KvShape};
use crate::limits::BLOCK_TOKENS;

pub(super) use baseline::Baseline;

/// One prompt and its answer, at one node of the swarm.
struct Ask {
    node: usize,
    prompt: Vec<TokenId>,
    answer: Vec<TokenId>,
}

/// The window of the published models, with small planes.
static SHAPE: LazyLock<Arc<KvShape>> = LazyLock::new(|| {
    Arc::new(KvShape::new(&[Plane::Global, Plane::Sliding], 1, 1, 512, KvFormat::F32).unwrap())
});

static SECRET: LazyLock<ChainSecret> = LazyLock::new(|| ChainSecret::derive(b""));

/// The key before every first block.
static BEGINNING: LazyLock<BlockKey> = LazyLock::new(|| root(&SECRET, Fingerprint([7; 16])));

/// The parameters of a swarm.
#[derive(Clone, Copy)]
struct Setting {
    nodes: usize,
    /// Sliding slots of each node, which has half as many again global ones.
    slots: usize,
    /// Prompts of the whole swarm between two rounds of announcements.
    stale: usize,
}

/// The cost of a trace, per prompt.
#[derive(Clone, Copy, Debug)]
struct Cost {
    computed: f64,
    /// Planes fetched from peers.
    fetched: f64,
}

/// The planes of one prompt that are pinned at its node.
type Pins = BTreeSet<(BlockKey, Plane)>;

struct Swarm {
    caches: Vec<Cache>,
    /// What each node has announced.
    told: Vec<BTreeSet<(BlockKey, Plane)>>,
    stale: usize,
    prompts: usize,
    computed: usize,
    fetched: usize,
}

/// Runs a trace and returns its cost.
fn run(setting: Setting, baseline: Option<&Baseline>, trace: &[Ask]) -> Cost {
    let mut swarm = Swarm::new(setting, baseline);
    for ask in trace {
        swarm.ask(ask);
    }
    let each = |sum: usize| sum as f64 / trace.len() as f64;
    Cost { computed: each(swarm.computed), fetched: each(swarm.fetched) }
}

impl Swarm {
    fn new(setting: Setting, baseline: Option<&Baseline>) -> Swarm {
        let [global, sliding] = Plane::ALL.map(|plane| SHAPE.plane_bytes(plane, BLOCK_TOKENS));
        let budget = setting.slots * sliding + (setting.slots + setting.slots / 2) * global;
        let cache = |_| {
            let mut cache = Cache::new(SHAPE.clone(), *BEGINNING, budget).unwrap();
            cache.policy.baseline = baseline.cloned();
            cache
        };
        Swarm {
            caches: (0..setting.nodes).map(cache).collect(),
            told: vec![BTreeSet::new(); setting.nodes],
            stale: setting.stale,
            prompts: 0,
            computed: 0,
            fetched: 0,
        }
    }

    /// Runs one prompt to the end of its answer. Returns how many tokens had to be computed before
    /// its first token.
    fn ask(&mut self, ask: &Ask) -> usize {
        let me = ask.node;
        if let Some(Baseline::Foresight { now, .. }) = &mut self.caches[me].policy.baseline {
            *now = self.prompts;
        }
        let (resume, links) = self.resume(me, &ask.prompt);
        let near = SHAPE.first_sliding(resume);
        let mut pins = Pins::new();
        let mut wanted = Vec::new();
        for (block, link) in links[..resume.div_ceil(BLOCK_TOKENS)].iter().enumerate() {
            for plane in Plane::ALL
                .into_iter()
                .filter(|plane| *plane == Plane::Global || (block + 1) * BLOCK_TOKENS > near)
            {
                if self.caches[me].pin(link, plane).is_some() {
                    pins.insert((link.key, plane));
                } else {
                    wanted.push((link, plane));
                }
            }
        }
        for (link, plane) in wanted {
            self.fetch(me, link, plane);
            pins.insert((link.key, plane));
        }
        let computed = ask.prompt.len() - resume;
        self.computed += computed;
        let mut tokens = ask.prompt.clone();
        self.compute(me, &mut pins, &tokens, resume);
        let prompt_end = tokens.len();
        tokens.extend(&ask.answer);
        self.compute(me, &mut pins, &tokens, prompt_end);
        for (key, plane) in pins {
            assert!(self.caches[me].unpin(&key, plane));
        }
        self.prompts += 1;
        if self.prompts.is_multiple_of(self.stale) {
            self.tell();
        }
        computed
    }

    fn tell(&mut self) {
        for (cache, told) in self.caches.iter_mut().zip(&mut self.told) {
            while let Some(change) = cache.poll_change() {
                let what = (change.key, change.plane);
                if change.added {
                    told.insert(what)
                } else {
                    told.remove(&what)
                };
            }
        }
    }

    /// Where `me` can get a plane from: first itself, then the peers in turn. A peer that announced
    /// it but no longer has it is skipped.
    fn source(&self, me: usize, link: &Link, plane: Plane) -> Option<usize> {
        if self.caches[me].holds(link, plane) {
            return Some(me);
        }
        let nodes = self.caches.len();
        let mut peers =
            (0..nodes).map(|turn| (turn + self.prompts) % nodes).filter(|&peer| peer != me);
        peers.find(|&peer| {
            self.told[peer].contains(&(link.key, plane)) && self.caches[peer].holds(link, plane)
        })
    }

    /// The furthest token at which work can resume, short of the last, and the links of the blocks
    /// up to there. The last of them may be ragged, or whole if work resumes within it.
    fn resume(&self, me: usize, prompt: &[TokenId]) -> (usize, Vec<Link>) {
        let here = |link: &Link, plane| self.source(me, link, plane).is_some();
        let chain = Chain::of(&SECRET, *BEGINNING, prompt);
        let mut links: Vec<Link> =
            chain.blocks.into_iter().take_while(|link| here(link, Plane::Global)).collect();
        let (whole, last) = (links.len(), prompt.len() - 1);
        let parent = links.last().map_or(*BEGINNING, |link| link.key);
        let rest = &prompt[whole * BLOCK_TOKENS..prompt.len().min((whole + 1) * BLOCK_TOKENS - 1)];
        let ragged = (1..=rest.len()).rev().map(|count| link(&SECRET, parent, &rest[..count]));
        links.extend(ragged.into_iter().find(|link| here(link, Plane::Global)));
        let sliding: Vec<bool> = links.iter().map(|link| here(link, Plane::Sliding)).collect();
        let can = |resume: usize| {
            let first = SHAPE.first_sliding(resume) / BLOCK_TOKENS;
            sliding[first.min(resume.div_ceil(BLOCK_TOKENS))..resume.div_ceil(BLOCK_TOKENS)]
                .iter()
                .all(|here| *here)
        };
        let end = |blocks: usize| {
            links[..blocks].iter().map(|link| link.tokens.len()).sum::<usize>().min(last)
        };
        let resume = (0..=links.len()).rev().map(end).find(|&resume| can(resume)).unwrap_or(0);
        (resume, links)
    }

    fn reserve(&mut self, me: usize, plane: Plane) -> Slot {
        let told = &self.told;
        let spared = |copy: &PeerCopy| {
            let holds = |peer: &usize| *peer != me && told[*peer].contains(&(copy.key, plane));
            outranked(id(me), &copy.stem, (0..told.len()).filter(holds).map(id))
        };
        self.caches[me].reserve(plane, &spared).unwrap()
    }

    fn fetch(&mut self, me: usize, link: &Link, plane: Plane) {
        let peer = self.source(me, link, plane).unwrap();
        self.caches[peer].pin_key(&link.key, plane).unwrap();
        let slot = self.reserve(me, plane);
        assert!(matches!(
            self.caches[me].commit(link, slot, Maker::Peer(id(peer))),
            Committed::Inserted
        ));
        self.caches[me].pin(link, plane).unwrap();
        self.caches[peer].unpin(&link.key, plane);
        self.fetched += 1;
    }

    /// Computes the tokens from `from` on and shares the whole blocks; the ragged end gets its
    /// own copy.
    fn compute(&mut self, me: usize, pins: &mut Pins, tokens: &[TokenId], from: usize) {
        let chain = Chain::of(&SECRET, *BEGINNING, tokens);
        for block in from / BLOCK_TOKENS..tokens.len().div_ceil(BLOCK_TOKENS) {
            for slot in Plane::ALL.map(|plane| self.reserve(me, plane)) {
                let (cache, plane) = (&mut self.caches[me], slot.plane());
                let Some(link) = chain.blocks.get(block) else {
                    cache.release(slot);
                    continue;
                };
                if let Some(slot) = cache.commit(link, slot, Maker::Own).into_slot() {
                    cache.release(slot);
                }
                if pins.insert((link.key, plane)) {
                    cache.pin(link, plane).unwrap();
                }
            }
            let left = SHAPE.first_sliding((block + 1) * BLOCK_TOKENS) / BLOCK_TOKENS;
            for link in chain
                .blocks
                .iter()
                .take(left)
                .rev()
                .take_while(|link| pins.remove(&(link.key, Plane::Sliding)))
            {
                self.caches[me].unpin(&link.key, Plane::Sliding);
            }
        }
        for plane in chain.ragged.is_some().then_some(Plane::ALL).into_iter().flatten() {
            let Some(link) =
                chain.ragged.as_ref().filter(|link| !self.caches[me].holds(link, plane))
            else {
                continue;
            };
            let slot = self.reserve(me, plane);
            if let Some(slot) = self.caches[me].commit(link, slot, Maker::Own).into_slot() {
                self.caches[me].release(slot);
                return;
            }
        }
    }
}

fn id(node: usize) -> NodeId {
    NodeId(1 + node as u64)
}
