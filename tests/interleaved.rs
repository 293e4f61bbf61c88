//! Hit ≡ miss with several concurrent prompts: sequences take turns on the pages of one small
//! cache; blocks are copied to another node's cache as a fetch copies them, evicted, and fetched
//! again. Every logit and every byte of KV state must match one undisturbed run.

use std::path::PathBuf;
use std::sync::Arc;

use potluck::cache::{Cache, Chain, ChainSecret, Committed, Link, Maker, Slot, link, root};
use potluck::id::{BlockKey, Fingerprint, TokenId};
use potluck::kv::{BlockPages, Page, Plane, Sequence, copy_tokens};
use potluck::limits::BLOCK_TOKENS;
use potluck::model::convert::{ConvertType, convert};
use potluck::model::{Logits, Model, Precision, open};

/// Capacity of each cache in blocks: enough for four of the prompts below at once.
const BLOCKS: usize = 44;

fn model(precision: Precision) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let tiny = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3-tiny");
    convert(&tiny, &path, ConvertType::Q8_0, &mut |_| {}).unwrap();
    let opened = open(&path).unwrap();
    Model::new(opened.config, opened.weights, precision).unwrap()
}

/// A seeded pseudo-random number generator.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn tokens(seed: u64, len: usize, vocab: usize) -> Vec<TokenId> {
    let mut draw = Draw(seed);
    (0..len).map(|_| TokenId(draw.below(vocab) as u32)).collect()
}

/// The result of one undisturbed run on private pages.
struct Truth {
    tokens: Vec<TokenId>,
    logits: Vec<f32>,
    pages: Arc<Sequence>,
}

impl Truth {
    fn new(model: &Model, tokens: Vec<TokenId>) -> Truth {
        let pages = Arc::new(Sequence::private(model.kv_shape(), tokens.len()));
        let logits = model.forward(&tokens, 0, &pages, Logits::All).unwrap();
        Truth { tokens, logits, pages }
    }

    /// The bytes of `count` tokens of one plane of a block, packed.
    fn bytes(&self, block: usize, plane: Plane, count: usize) -> Vec<u8> {
        packed(&self.pages, self.pages.blocks[block].plane(plane).unwrap(), plane, count)
    }
}

fn packed(sequence: &Sequence, page: &Page, plane: Plane, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; sequence.shape.plane_bytes(plane, count)];
    copy_tokens(&sequence.shape, plane, count, (&page.read(), BLOCK_TOKENS), (&mut bytes, count));
    bytes
}

/// Where a plane of one block of a prompt is stored.
enum Place {
    Pinned(BlockKey, Page),
    Private(Slot),
}

impl Place {
    fn page(&self) -> &Page {
        match self {
            Place::Pinned(_, page) => page,
            Place::Private(slot) => slot.page(),
        }
    }
}

/// A prompt in progress on pages of a cache.
struct Run<'t> {
    truth: &'t Truth,
    chain: Chain,
    places: Vec<[Option<Place>; 2]>,
    ready: usize,
}

/// A node's cache and model without the node's own logic: this tests what every node relies on.
struct Bench<'m> {
    model: &'m Model,
    secret: ChainSecret,
    cache: Cache,
}

impl<'m> Bench<'m> {
    fn new(model: &'m Model) -> Bench<'m> {
        let secret = ChainSecret::derive(b"interleaved");
        let shape = model.kv_shape();
        let bytes: usize =
            Plane::ALL.iter().map(|&plane| shape.plane_bytes(plane, BLOCK_TOKENS)).sum();
        let cache =
            Cache::new(shape.clone(), root(&secret, Fingerprint([1; 16])), BLOCKS * bytes).unwrap();
        Bench { model, secret, cache }
    }

    fn reserve(&mut self, plane: Plane) -> Slot {
        self.cache.reserve(plane, &|_| false).unwrap()
    }

    /// Begins a prompt with as many of its blocks as are cached, including a ragged block of length
    /// `ragged`. Never resumes beyond the last token, because that gives the first logits.
    fn begin<'t>(&mut self, truth: &'t Truth, ragged: usize) -> Run<'t> {
        let chain = Chain::of(&self.secret, self.cache.root(), &truth.tokens);
        let shape = self.model.kv_shape().clone();
        let whole =
            chain.blocks.iter().take_while(|link| self.cache.holds(link, Plane::Global)).count();
        let whole = whole.min((truth.tokens.len() - 1) / BLOCK_TOKENS);
        let sliding = |cache: &Cache, resume: usize| {
            let mut near = chain.blocks[..resume / BLOCK_TOKENS]
                .iter()
                .skip(shape.first_sliding(resume) / BLOCK_TOKENS);
            near.all(|link| cache.holds(link, Plane::Sliding))
        };
        let whole =
            (0..=whole).rev().find(|whole| sliding(&self.cache, whole * BLOCK_TOKENS)).unwrap();
        let mut run = Run { truth, chain, places: Vec::new(), ready: whole * BLOCK_TOKENS };
        for block in 0..whole {
            let link = run.chain.blocks[block].clone();
            let near = (block + 1) * BLOCK_TOKENS > shape.first_sliding(run.ready);
            let pinned = Plane::ALL
                .map(|plane| (plane == Plane::Global || near).then(|| self.pin(&link, plane)));
            run.places.push(pinned);
        }
        let end = &truth.tokens[run.ready..];
        if ragged > 0 && ragged < end.len().min(BLOCK_TOKENS) {
            let parent =
                run.chain.blocks[..whole].last().map_or(self.cache.root(), |link| link.key);
            self.unpack(&mut run, &link(&self.secret, parent, &end[..ragged]));
        }
        run
    }

    fn pin(&mut self, link: &Link, plane: Plane) -> Place {
        Place::Pinned(link.key, self.cache.pin(link, plane).unwrap().0)
    }

    /// Resumes within a block, on a copy of the ragged block that holds its first tokens.
    fn unpack(&mut self, run: &mut Run<'_>, ragged: &Link) {
        if !Plane::ALL.iter().all(|&plane| self.cache.holds(ragged, plane)) {
            return;
        }
        let count = ragged.tokens.len();
        let copies = Plane::ALL.map(|plane| {
            let (source, _) = self.cache.pin(ragged, plane).unwrap();
            let slot = self.reserve(plane);
            let shape = self.model.kv_shape();
            copy_tokens(
                shape,
                plane,
                count,
                (&source.read(), count),
                (&mut slot.page().write(), BLOCK_TOKENS),
            );
            assert!(self.cache.unpin(&ragged.key, plane));
            Some(Place::Private(slot))
        });
        run.places.push(copies);
        run.ready += count;
    }

    /// Computes up to `count` more tokens, compares their logits, and commits completed blocks.
    /// Returns false at the end.
    fn step(&mut self, run: &mut Run<'_>, count: usize) -> bool {
        let Truth { tokens, logits, .. } = run.truth;
        let end = (run.ready + count).min(tokens.len());
        for block in run.places.len()..end.div_ceil(BLOCK_TOKENS) {
            let slots = Plane::ALL.map(|plane| {
                let slot = self.reserve(plane);
                // The bytes that the slot's last owner left must not matter.
                slot.page().write().fill(0xff);
                Some(Place::Private(slot))
            });
            assert_eq!(run.places.len(), block);
            run.places.push(slots);
        }
        let page = |place: &Option<Place>| place.as_ref().map(|place| place.page().clone());
        let blocks = run
            .places
            .iter()
            .map(|[global, sliding]| BlockPages { global: page(global), sliding: page(sliding) });
        let sequence =
            Arc::new(Sequence { shape: self.model.kv_shape().clone(), blocks: blocks.collect() });
        let got =
            self.model.forward(&tokens[run.ready..end], run.ready, &sequence, Logits::All).unwrap();
        let vocab = self.model.config().vocab;
        let same = got
            .iter()
            .zip(&logits[run.ready * vocab..end * vocab])
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(
            same && got.len() == (end - run.ready) * vocab,
            "logits of tokens {} to {end}",
            run.ready
        );
        run.ready = end;
        self.commit_whole(run);
        end < tokens.len()
    }

    fn commit_whole(&mut self, run: &mut Run<'_>) {
        let near = self.model.kv_shape().first_sliding(run.ready);
        for block in 0..run.ready / BLOCK_TOKENS {
            let link = run.chain.blocks[block].clone();
            for plane in Plane::ALL {
                let place = &mut run.places[block][plane as usize];
                if let Some(Place::Private(_)) = place
                    && let Some(Place::Private(slot)) = place.take()
                {
                    self.commit(&link, slot);
                    *place = Some(self.pin(&link, plane));
                }
            }
            if (block + 1) * BLOCK_TOKENS <= near {
                self.let_go(run.places[block][Plane::Sliding as usize].take(), Plane::Sliding);
            }
        }
    }

    fn commit(&mut self, link: &Link, slot: Slot) {
        match self.cache.commit(link, slot, Maker::Own) {
            Committed::Inserted => {}
            Committed::Replaced(slot) | Committed::AlreadyHeld(slot) => self.cache.release(slot),
            Committed::Refused(_, refusal) => panic!("refused: {refusal}"),
        }
    }

    fn let_go(&mut self, place: Option<Place>, plane: Plane) {
        match place {
            None => {}
            Some(Place::Pinned(key, _)) => assert!(self.cache.unpin(&key, plane)),
            Some(Place::Private(slot)) => self.cache.release(slot),
        }
    }

    /// Ends a prompt: packs and commits its ragged end, and releases everything.
    fn end(&mut self, mut run: Run<'_>) {
        assert_eq!(run.ready, run.truth.tokens.len());
        if let Some(ragged) = run.chain.ragged.clone() {
            for plane in Plane::ALL {
                let slot = self.reserve(plane);
                let page = run.places.last().unwrap()[plane as usize].as_ref().unwrap().page();
                let (count, shape) = (ragged.tokens.len(), self.model.kv_shape());
                copy_tokens(
                    shape,
                    plane,
                    count,
                    (&page.read(), BLOCK_TOKENS),
                    (&mut slot.page().write(), count),
                );
                self.commit(&ragged, slot);
            }
        }
        for [global, sliding] in run.places.drain(..) {
            self.let_go(global, Plane::Global);
            self.let_go(sliding, Plane::Sliding);
        }
    }

    /// Runs the prompts in turns of a few tokens each until all are done.
    fn interleave(&mut self, mut runs: Vec<Run<'_>>, draw: &mut Draw) {
        while !runs.is_empty() {
            let at = draw.below(runs.len());
            let count = 1 + draw.below(40);
            if !self.step(&mut runs[at], count) {
                let run = runs.swap_remove(at);
                self.end(run);
            }
        }
    }

    /// Copies every plane that `giver` has of this prompt, block by block, as a fetch does. Returns
    /// the number of planes.
    fn fetch(&mut self, giver: &mut Bench<'_>, truth: &Truth) -> usize {
        let chain = Chain::of(&self.secret, self.cache.root(), &truth.tokens);
        let mut planes = 0;
        for link in chain.links() {
            for plane in Plane::ALL {
                let Some(held) = giver.cache.pin_key(&link.key, plane) else { continue };
                assert_eq!((held.parent, &held.tokens), (link.parent, &link.tokens));
                let slot = self.reserve(plane);
                slot.page().write()[..held.bytes].copy_from_slice(&held.page.read()[..held.bytes]);
                self.commit(link, slot);
                assert!(giver.cache.unpin(&link.key, plane));
                planes += 1;
            }
        }
        planes
    }

    /// Forgets a prompt and everything that begins with its first block.
    fn forget(&mut self, truth: &Truth) {
        let chain = Chain::of(&self.secret, self.cache.root(), &truth.tokens);
        chain.links().take(1).for_each(|link| self.cache.forget(&link.key));
    }

    /// Compares every cached plane of this prompt with the bytes of the undisturbed run. Returns
    /// the number of planes.
    fn compare(&self, truth: &Truth) -> usize {
        let chain = Chain::of(&self.secret, self.cache.root(), &truth.tokens);
        let mut planes = 0;
        for (block, link) in chain.links().enumerate() {
            for plane in Plane::ALL {
                if let Some(held) = self.cache.entry(&link.key, plane) {
                    let expected = truth.bytes(block, plane, link.tokens.len());
                    assert!(held.page.read()[..held.bytes] == expected, "block {block}, {plane:?}");
                    planes += 1;
                }
            }
        }
        planes
    }
}

fn hits_are_misses(precision: Precision) {
    let model = model(precision);
    let vocab = model.config().vocab;
    let truth = |tokens: Vec<TokenId>| Truth::new(&model, tokens);
    let mut draw = Draw(11);
    // Two more fork from the first: at the end of a block and within a block.
    let first = tokens(1, 151, vocab);
    let fork = |at: usize, seed, len| {
        first[..at].iter().copied().chain(tokens(seed, len, vocab)).collect()
    };
    let old = [first.clone(), tokens(2, 144, vocab), fork(64, 3, 50), fork(75, 4, 38)].map(truth);
    let new: Vec<Truth> =
        (5..9).map(|seed| truth(tokens(seed, 140 + seed as usize, vocab))).collect();
    // The old prompts, each extended at its very end.
    let on: Vec<Truth> = old
        .iter()
        .map(|old| truth(old.tokens.iter().copied().chain(tokens(9, 21, vocab)).collect()))
        .collect();

    let (mut here, mut there) = (Bench::new(&model), Bench::new(&model));
    let runs: Vec<Run<'_>> = old.iter().map(|truth| here.begin(truth, 0)).collect();
    here.interleave(runs, &mut draw);
    let held: Vec<usize> = old.iter().map(|truth| here.compare(truth)).collect();
    assert!(held.iter().all(|planes| *planes >= 12), "{held:?}");
    for truth in &old {
        there.fetch(&mut here, truth);
        there.compare(truth);
    }

    let evicted = here.cache.stats().evicted;
    let runs = new.iter().map(|truth| here.begin(truth, 0)).collect();
    here.interleave(runs, &mut draw);
    // Blocks used once may be evicted before blocks used repeatedly, but some must remain.
    let fresh: usize = new.iter().map(|truth| here.compare(truth)).sum();
    assert!(fresh >= 12, "only {fresh} planes of the new prompts remain to compare");
    assert!(here.cache.stats().evicted > evicted + 20, "the cache must be small enough to evict");
    // The cache decides what it keeps of the old prompts, which were used more than once. Here all
    // of it is dropped.
    old.iter().for_each(|truth| here.forget(truth));
    assert_eq!(
        old.iter().map(|truth| here.compare(truth)).sum::<usize>(),
        0,
        "all old prompts are dropped"
    );

    // Fetches them back in pairs, and extends both in turns.
    for pair in [[0, 2], [1, 3]] {
        let mut runs = Vec::new();
        for at in pair {
            assert!(here.fetch(&mut there, &old[at]) >= 6);
            let run = here.begin(&on[at], old[at].tokens.len() % BLOCK_TOKENS);
            assert_eq!(run.ready, old[at].tokens.len(), "it must resume at its very end");
            runs.push(run);
        }
        here.interleave(runs, &mut draw);
        let gone_on: usize = pair.iter().map(|&at| here.compare(&on[at])).sum();
        assert!(gone_on >= 12, "only {gone_on} planes remain to compare");
    }
    for bench in [&here, &there] {
        let held = bench.cache.stats().planes.map(|plane| (plane.pinned, plane.reserved));
        assert_eq!(held, [(0, 0), (0, 0)], "nothing stays pinned or reserved");
    }
}

#[test]
fn prompts_that_take_turns_on_a_small_cache_compute_what_each_would_alone_in_int8() {
    hits_are_misses(Precision::INT8);
}

#[test]
fn prompts_that_take_turns_on_a_small_cache_compute_what_each_would_alone_in_float() {
    hits_are_misses(Precision::FLOAT);
}
