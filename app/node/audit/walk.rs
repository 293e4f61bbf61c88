//! One audit: a walk from a block whose preceding state is all here, or from the first token, block
//! by block to the one in question. Each block is computed into the audit's own slots and compared
//! with the cached one.
//!
//! Computing a block needs the global planes of all earlier blocks and the sliding planes of its
//! window. For a prompt longer than the window most sliding planes are not kept. A walk that must
//! start further back than its block therefore carries along the sliding planes that it has
//! computed. That costs more, so such blocks are audited just often enough to keep the total cost
//! at its share.

use std::mem;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::cache::{Cache, Link, Maker, Slot};
use crate::id::BlockKey;
use crate::kv::{BlockPages, KvShape, Page, Plane, Sequence, copy_tokens};
use crate::limits::BLOCK_TOKENS;

use super::super::ask::Job;
use super::super::io::Output;
use super::super::shared::Shared;
use super::requests::{Reason, Request};

/// A plane that the walk depends on.
enum Dependency {
    /// Not needed, or no longer needed.
    Nothing,
    /// In the cache, pinned.
    Pinned(Page),
    /// Computed by this walk.
    Own(Slot),
}

/// The block being computed.
struct Step {
    slots: [Slot; 2],
    /// The cache's planes of it, pinned.
    cached: [Option<(Page, Maker)>; 2],
}

/// A plane whose bytes differ from what this node computes.
pub(super) struct Difference {
    pub key: BlockKey,
    pub plane: Plane,
    pub maker: Maker,
    pub served: u64,
    pub computed: u64,
}

/// The result of a comparison.
pub(super) enum Verdict {
    /// All equal; the walk continues.
    Same,
    /// All equal, and the walk is finished.
    Done,
    /// Not equal: compute the same block once more.
    Unsure,
    /// Not equal, but it was computed on state from elsewhere.
    OnUnverifiedState,
    /// Two computations of the same block gave different bytes.
    Irreproducible,
    /// Not equal, twice in the same way, and computed only on state that was found equal.
    Differs(Vec<Difference>),
}

/// One audit.
pub(super) struct Walk {
    pub request: Request,
    /// The engine's current job.
    pub job: u64,
    pub abandoned: bool,
    /// The block that it starts at. At 0 it depends on nothing from elsewhere.
    pub from: usize,
    /// All blocks from the first one on.
    links: Vec<Link>,
    /// The state before the current block, block by block.
    dependencies: Vec<[Dependency; 2]>,
    step: Option<Step>,
    /// The digests of the first of two computations.
    digests: Option<[u64; 2]>,
}

impl Walk {
    /// Plans an audit. None if it is not worth it, or if blocks that it needs are gone.
    pub(super) fn plan(request: Request, shared: &mut Shared) -> Option<Walk> {
        let links = chain(&shared.cache, request.key)?;
        let makers =
            Plane::ALL.map(|plane| shared.cache.entry(&request.key, plane).map(|held| held.maker));
        let anchor = anchor(&shared.cache, &shared.config.shape, &links);
        let from = match request.why {
            Reason::Drawn => {
                let is_foreign = makers.iter().any(|maker| matches!(maker, Some(Maker::Peer(_))));
                // A retry was worth it the first time.
                let is_worth_it = request.tries > 0 || shared.audits.affords(links.len() - anchor);
                Some(anchor).filter(|_| is_foreign && is_worth_it)?
            }
            Reason::Warned(accused) => {
                Some(anchor).filter(|_| makers.contains(&Some(Maker::Peer(accused))))?
            }
            Reason::Accused | Reason::Doubted => 0,
        };
        let walk = Walk {
            request,
            job: 0,
            abandoned: false,
            from,
            links,
            dependencies: Vec::new(),
            step: None,
            digests: None,
        };
        walk.stand(shared)
    }

    /// Pins the state that the first block is computed on.
    fn stand(mut self, shared: &mut Shared) -> Option<Walk> {
        let window = shared.config.shape.first_sliding(self.from * BLOCK_TOKENS) / BLOCK_TOKENS;
        for (at, link) in self.links.iter().enumerate().take(self.from) {
            self.dependencies.push(Plane::ALL.map(|plane| {
                let is_needed = plane == Plane::Global || at >= window;
                let held = if is_needed { shared.cache.hold(link, plane) } else { None };
                held.map_or(Dependency::Nothing, |(page, _)| Dependency::Pinned(page))
            }));
        }
        if self.dependencies.iter().any(|[global, _]| matches!(global, Dependency::Nothing)) {
            self.let_go(shared);
            return None;
        }
        Some(self)
    }

    /// Has the engine compute the current block. False if there is no room, or the block is gone.
    pub(super) fn step(&mut self, shared: &mut Shared) -> bool {
        let at = self.dependencies.len();
        let Some(link) = self.links.get(at).cloned() else { return false };
        if self.step.is_none() {
            let Some(slots) = reserve_both(shared) else { return false };
            self.step = Some(Step {
                slots,
                cached: Plane::ALL.map(|plane| shared.cache.hold(&link, plane)),
            });
        }
        let Some(step) =
            self.step.as_ref().filter(|step| step.cached[Plane::Global as usize].is_some())
        else {
            return false;
        };
        let mut blocks: Vec<BlockPages> = self
            .dependencies
            .iter()
            .map(|[global, sliding]| pages(global.page(), sliding.page()))
            .collect();
        blocks.push(pages(Some(step.slots[0].page()), Some(step.slots[1].page())));
        let sequence = Arc::new(Sequence { shape: shared.config.shape.clone(), blocks });
        shared.jobs += 1;
        self.job = shared.jobs;
        let (tokens, first) = (link.tokens.to_vec(), at * BLOCK_TOKENS);
        shared.out.push_back(Output::Engine(Job {
            id: self.job,
            tokens,
            first,
            sequence,
            judge: None,
            audits: Some(link.key),
        }));
        true
    }

    /// The engine has computed the current block: compares it, and advances by one block if
    /// all is equal.
    pub(super) fn compare(&mut self, shared: &mut Shared) -> Verdict {
        let (Some(link), Some(step)) = (self.links.get(self.dependencies.len()), &self.step) else {
            return Verdict::Done;
        };
        let shape = &shared.config.shape;
        let computed = Plane::ALL.map(|plane| {
            packed(shape, plane, link.tokens.len(), step.slots[plane as usize].page())
        });
        let digests = [xxh3_64(&computed[0]), xxh3_64(&computed[1])];
        let mut differences = Vec::new();
        for plane in Plane::ALL {
            let (bytes, Some((page, maker))) =
                (&computed[plane as usize], &step.cached[plane as usize])
            else {
                continue;
            };
            let page = page.read();
            let served = &page[..bytes.len()];
            if served != *bytes {
                let (served, computed) = (xxh3_64(served), digests[plane as usize]);
                differences.push(Difference {
                    key: link.key,
                    plane,
                    maker: *maker,
                    served,
                    computed,
                });
            }
        }
        match self.digests.take() {
            Some(before) if before != digests => Verdict::Irreproducible,
            _ if differences.is_empty() => self.go_on(shared),
            _ if self.from > 0 => Verdict::OnUnverifiedState,
            None => {
                self.digests = Some(digests);
                Verdict::Unsure
            }
            Some(_) => Verdict::Differs(differences),
        }
    }

    /// The current block is right, so the next one may depend on it.
    fn go_on(&mut self, shared: &mut Shared) -> Verdict {
        let Some(Step { slots: [global, sliding], cached }) = self.step.take() else {
            return Verdict::Done;
        };
        if let Some(link) = self.links.get(self.dependencies.len()) {
            shared.audits.found_right(link.key);
        }
        let is_foreign = cached.iter().flatten().any(|(_, maker)| matches!(maker, Maker::Peer(_)));
        shared.stats.blocks_audited += u64::from(is_foreign);
        let [kept_global, kept_sliding] = cached;
        let mut stand = |slot: Slot, kept: Option<(Page, Maker)>| match kept {
            Some((page, _)) => {
                shared.cache.release(slot);
                Dependency::Pinned(page)
            }
            None => Dependency::Own(slot),
        };
        self.dependencies.push([stand(global, kept_global), stand(sliding, kept_sliding)]);
        let next = self.dependencies.len();
        let window = shared.config.shape.first_sliding(next * BLOCK_TOKENS) / BLOCK_TOKENS;
        for (link, [_, sliding]) in self.links.iter().zip(&mut self.dependencies).take(window) {
            mem::replace(sliding, Dependency::Nothing).let_go(
                &link.key,
                Plane::Sliding,
                &mut shared.cache,
            );
        }
        if next == self.links.len() { Verdict::Done } else { Verdict::Same }
    }

    /// Releases everything.
    pub(super) fn let_go(self, shared: &mut Shared) {
        let present = self.links.get(self.dependencies.len()).map(|link| link.key);
        if let (Some(key), Some(Step { slots, cached })) = (present, self.step) {
            slots.into_iter().for_each(|slot| shared.cache.release(slot));
            for (plane, _) in Plane::ALL.into_iter().zip(cached).filter(|(_, kept)| kept.is_some())
            {
                shared.cache.unpin(&key, plane);
            }
        }
        for (link, planes) in self.links.iter().zip(self.dependencies) {
            for (plane, dependency) in Plane::ALL.into_iter().zip(planes) {
                dependency.let_go(&link.key, plane, &mut shared.cache);
            }
        }
    }
}

impl Dependency {
    fn page(&self) -> Option<&Page> {
        match self {
            Dependency::Nothing => None,
            Dependency::Pinned(page) => Some(page),
            Dependency::Own(slot) => Some(slot.page()),
        }
    }

    fn let_go(self, key: &BlockKey, plane: Plane, cache: &mut Cache) {
        match self {
            Dependency::Nothing => {}
            Dependency::Pinned(_) => drop(cache.unpin(key, plane)),
            Dependency::Own(slot) => cache.release(slot),
        }
    }
}

fn pages(global: Option<&Page>, sliding: Option<&Page>) -> BlockPages {
    BlockPages { global: global.cloned(), sliding: sliding.cloned() }
}

fn reserve_both(shared: &mut Shared) -> Option<[Slot; 2]> {
    match (shared.reserve(Plane::Global), shared.reserve(Plane::Sliding)) {
        (Some(global), Some(sliding)) => Some([global, sliding]),
        (global, sliding) => {
            global.into_iter().chain(sliding).for_each(|slot| shared.cache.release(slot));
            None
        }
    }
}

/// The blocks from the first one to `key`; none if one of them is missing.
fn chain(cache: &Cache, key: BlockKey) -> Option<Vec<Link>> {
    let (mut links, mut next) = (Vec::new(), key);
    loop {
        let held = cache.entry(&next, Plane::Global)?;
        links.push(Link { key: next, parent: held.parent, tokens: held.tokens });
        if held.parent == cache.root() {
            links.reverse();
            return Some(links);
        }
        next = held.parent;
    }
}

/// The last block of the chain that can be computed on the state that is here.
fn anchor(cache: &Cache, shape: &KvShape, links: &[Link]) -> usize {
    let is_here = |at: &usize| {
        let window = shape.first_sliding(at * BLOCK_TOKENS) / BLOCK_TOKENS;
        links[window..*at].iter().all(|link| cache.holds(link, Plane::Sliding))
    };
    (0..links.len()).rev().find(is_here).unwrap_or(0)
}

/// The bytes of a plane's first `tokens` tokens, laid out as the cache stores a block
/// of that length.
fn packed(shape: &KvShape, plane: Plane, tokens: usize, page: &Page) -> Vec<u8> {
    let mut bytes = vec![0; shape.plane_bytes(plane, tokens)];
    copy_tokens(shape, plane, tokens, (&page.read(), BLOCK_TOKENS), (&mut bytes, tokens));
    bytes
}
