//! The cache under random use, beside the simpler `reference`. After every call both must hold the
//! same planes, and every page in use must contain what its owner wrote.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::reference::{Answer, RefKept, Reference};
use super::tests::shape;
use super::*;
use crate::id::{BlockKey, Fingerprint, NodeId, TokenId};
use crate::kv::Page;

#[derive(Clone, Debug)]
enum Call {
    /// Reserve a slot and keep it; peers hold the blocks whose key has a bit of the mask.
    Reserve(Plane, u8),
    /// Commit a reserved slot; the link may be one with another block's key.
    Commit(usize, usize, bool, Maker),
    /// Reserve and commit both planes of a block and of all blocks before it.
    Store(usize, Maker),
    Release(usize),
    /// Pin a held block by key, or any block by link.
    Pin(usize, Plane, bool),
    Unpin(usize),
    Poll(usize),
    Clear,
    /// One of the peers has made wrong bytes.
    ForgetMadeBy(NodeId),
}

fn plane() -> impl Strategy<Value = Plane> {
    prop_oneof![Just(Plane::Global), Just(Plane::Sliding)]
}

fn maker() -> impl Strategy<Value = Maker> {
    prop_oneof![2 => Just(Maker::Own), 1 => (0u64..2).prop_map(|node| Maker::Peer(NodeId(node)))]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => (plane(), any::<u8>()).prop_map(|(plane, peers)| Call::Reserve(plane, peers)),
        3 => (any::<usize>(), any::<usize>(), prop::bool::weighted(0.1), maker())
            .prop_map(|(slot, link, forged, maker)| Call::Commit(slot, link, forged, maker)),
        4 => (any::<usize>(), maker()).prop_map(|(link, maker)| Call::Store(link, maker)),
        1 => any::<usize>().prop_map(Call::Release),
        3 => (any::<usize>(), plane(), any::<bool>()).prop_map(|(link, plane, by_key)| Call::Pin(link, plane, by_key)),
        3 => any::<usize>().prop_map(Call::Unpin),
        2 => (0usize..8).prop_map(Call::Poll),
        1 => prop::bool::weighted(0.4).prop_map(|clear| if clear { Call::Clear } else { Call::Poll(usize::MAX) }),
        1 => (0u64..2).prop_map(|node| Call::ForgetMadeBy(NodeId(node))),
    ]
}

/// Every block of a small tree of prompts: two choices per block, three blocks deep, two ragged
/// ends after each.
fn universe(root: BlockKey) -> Vec<Link> {
    let secret = ChainSecret::derive(b"");
    let mut links = Vec::new();
    let mut parents = vec![root];
    for depth in 0..4 {
        for parent in core::mem::take(&mut parents) {
            links.extend([3, 7].map(|n| link(&secret, parent, &[TokenId(5); 16][..n])));
            if depth < 3 {
                let full = [1, 2].map(|token| link(&secret, parent, &[TokenId(token); 16]));
                parents.extend(full.iter().map(|link| link.key));
                links.extend(full);
            }
        }
    }
    links
}

/// Cache and reference side by side, and everything that their users hold.
struct Pair {
    cache: Cache,
    reference: Reference,
    universe: Vec<Link>,
    reserved: Vec<(Slot, u64)>,
    pins: Vec<(BlockKey, Plane, Page, u64)>,
    believed: BTreeSet<(BlockKey, Plane)>,
    stamps: u64,
}

fn stamped(page: &Page, stamp: u64) -> bool {
    page.read().chunks_exact(8).all(|bytes| bytes == stamp.to_le_bytes())
}

impl Pair {
    fn new(global: usize, sliding: usize, budget_blocks: usize) -> Pair {
        let shape = shape(global, sliding);
        let [global_bytes, sliding_bytes] = Plane::ALL.map(|plane| shape.plane_bytes(plane, 16));
        let budget = budget_blocks * (global_bytes + sliding_bytes);
        let root = root(&ChainSecret::derive(b""), Fingerprint([7; 16]));
        let cache = Cache::new(shape, root, budget).unwrap();
        assert!(cache.stats().slab_bytes() <= budget);
        let capacity = cache.stats().capacity;
        let has_bytes = [global_bytes > 0, sliding_bytes > 0];
        let reference = Reference { root, has_bytes, capacity, entries: BTreeMap::new() };
        let universe = universe(root);
        Pair {
            cache,
            reference,
            universe,
            reserved: Vec::new(),
            pins: Vec::new(),
            believed: BTreeSet::new(),
            stamps: 0,
        }
    }

    fn reserve(&mut self, plane: Plane, peers: u8) -> Option<(Slot, u64)> {
        if self.reference.has_bytes[plane as usize] {
            let used = |reference: &Reference| {
                reference.slots_held(plane)
                    + self.reserved.iter().filter(|(slot, _)| slot.plane() == plane).count()
            };
            let slots = self.cache.stats().planes[plane as usize].slots;
            let full = used(&self.reference) == slots;
            let slot = self.cache.reserve(plane, &|copy| copy.key.0[0] & peers & 0x11 != 0);
            let victim = self.reference.gone(&[plane], &self.held());
            assert!(full || victim.is_none(), "a block was evicted though there was room");
            if full {
                self.reference.make_room(plane, victim);
            }
            let room = used(&self.reference) < slots;
            assert_eq!(slot.is_ok(), room, "{slot:?}");
            let slot = slot.ok()?;
            self.stamps += 1;
            slot.page()
                .write()
                .chunks_exact_mut(8)
                .for_each(|bytes| bytes.copy_from_slice(&self.stamps.to_le_bytes()));
            return Some((slot, self.stamps));
        }
        Some((
            self.cache.reserve(plane, &|_| false).expect("a plane without bytes never runs out"),
            0,
        ))
    }

    fn commit(&mut self, link: &Link, (slot, stamp): (Slot, u64), maker: Maker) {
        let plane = slot.plane();
        let committed = self.cache.commit(link, slot, maker);
        let victim = self.reference.gone(&Plane::ALL, &self.held());
        let expected =
            self.reference.commit(link, RefKept { stamp, maker, pins: 0 }, plane, victim);
        match (committed, expected) {
            (Committed::Inserted, Answer::Inserted) => {}
            (Committed::Replaced(slot), Answer::Replaced(before)) => {
                assert!(stamped(slot.page(), before), "the returned slot is not the one replaced");
                self.cache.release(slot);
            }
            (Committed::AlreadyHeld(slot), Answer::AlreadyHeld) => self.cache.release(slot),
            (Committed::Refused(slot, refusal), Answer::Refused(expected)) => {
                assert_eq!(refusal, expected);
                self.cache.release(slot);
            }
            (committed, expected) => panic!("{committed:?}, expected {expected:?}"),
        }
    }

    fn path(&self, link: &Link) -> Vec<Link> {
        let before = self.universe.iter().find(|other| other.key == link.parent);
        let mut path = before.map_or_else(Vec::new, |before| self.path(before));
        path.push(link.clone());
        path
    }

    fn call(&mut self, call: &Call) {
        match *call {
            Call::Reserve(plane, peers) => {
                let slot = self.reserve(plane, peers);
                self.reserved.extend(slot);
            }
            Call::Commit(slot, link, forged, maker) if !self.reserved.is_empty() => {
                let slot = self.reserved.swap_remove(slot % self.reserved.len());
                let mut link = self.universe[link % self.universe.len()].clone();
                if forged {
                    link.tokens[0] = TokenId(77);
                }
                // The cache takes a forged link that comes first for the true one; the universe's
                // link would then be the collision.
                if !forged || self.reference.entries.contains_key(&link.key) {
                    self.commit(&link, slot, maker);
                } else {
                    self.cache.release(slot.0);
                }
            }
            Call::Store(link, maker) => {
                for link in self.path(&self.universe[link % self.universe.len()]) {
                    for plane in Plane::ALL {
                        if let Some(slot) = self.reserve(plane, 0) {
                            self.commit(&link, slot, maker);
                        }
                    }
                }
            }
            Call::Release(slot) if !self.reserved.is_empty() => {
                let (slot, _) = self.reserved.swap_remove(slot % self.reserved.len());
                self.cache.release(slot);
            }
            Call::Pin(link, plane, by_key) => {
                let held: Vec<&Link> =
                    self.universe.iter().filter(|link| self.cache.holds(link, plane)).collect();
                let link = if by_key && !held.is_empty() {
                    held[link % held.len()]
                } else {
                    &self.universe[link % self.universe.len()]
                };
                let expected = self.reference.pin(link, plane);
                let pinned = if by_key {
                    let held = self.cache.pin_key(&link.key, plane);
                    held.inspect(|held| {
                        assert_eq!((held.parent, &held.tokens), (link.parent, &link.tokens))
                    })
                    .map(|held| (held.page, held.maker))
                } else {
                    self.cache.pin(link, plane)
                };
                assert_eq!(
                    pinned.as_ref().map(|(_, maker)| *maker),
                    expected.map(|(_, maker)| maker)
                );
                self.pins.extend(
                    pinned
                        .zip(expected)
                        .map(|((page, _), (stamp, _))| (link.key, plane, page, stamp)),
                );
            }
            Call::Unpin(pin) if !self.pins.is_empty() => {
                let (key, plane, ..) = self.pins.swap_remove(pin % self.pins.len());
                self.reference.unpin(key, plane);
                assert!(self.cache.unpin(&key, plane));
            }
            Call::Poll(count) => self.poll(count),
            Call::Clear => {
                self.reference.clear();
                self.cache.clear();
            }
            Call::ForgetMadeBy(node) => {
                assert_eq!(self.cache.forget_made_by(node), self.reference.forget_made_by(node));
                assert_eq!(
                    self.cache.made_by(node).count(),
                    0,
                    "a withdrawn plane is counted for nobody"
                );
            }
            Call::Commit(..) | Call::Release(_) | Call::Unpin(_) => {}
        }
        self.check();
    }

    fn poll(&mut self, count: usize) {
        for _ in 0..count {
            let Some(change) = self.cache.poll_change() else {
                assert_eq!(self.believed, self.reference.held());
                return;
            };
            let what = (change.key, change.plane);
            let news =
                if change.added { self.believed.insert(what) } else { self.believed.remove(&what) };
            assert!(news, "a change without effect: {change:?}");
        }
    }

    fn held(&self) -> BTreeSet<(BlockKey, Plane)> {
        let both = self.universe.iter().flat_map(|link| Plane::ALL.map(|plane| (link, plane)));
        both.filter(|(link, plane)| self.cache.holds(link, *plane))
            .map(|(link, plane)| (link.key, plane))
            .collect()
    }

    fn check(&self) {
        let held = self.held();
        assert_eq!(held, self.reference.held());
        for (key, plane) in &held {
            let parent = self.reference.entries[key].link.parent;
            assert!(
                parent == self.cache.root() || self.reference.entries.contains_key(&parent),
                "a child without its parent"
            );
            let stamp = self.reference.entries[key].planes[*plane as usize].as_ref().unwrap().stamp;
            assert!(
                stamped(&self.cache.entry(key, *plane).unwrap().page, stamp),
                "another block's bytes"
            );
        }
        assert!(
            self.reserved.iter().all(|(slot, stamp)| stamped(slot.page(), *stamp)),
            "a reserved slot has two owners"
        );
        assert!(
            self.pins.iter().all(|(.., page, stamp)| stamped(page, *stamp)),
            "a pinned page has changed"
        );
        let stats = self.cache.stats();
        assert_eq!(stats.entries, self.reference.entries.len());
        for plane in
            Plane::ALL.into_iter().filter(|&plane| self.reference.has_bytes[plane as usize])
        {
            let figures = stats.planes[plane as usize];
            assert_eq!(figures.held, self.reference.slots_held(plane));
            assert_eq!(
                figures.reserved,
                self.reserved.iter().filter(|(slot, _)| slot.plane() == plane).count()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(0x706f746c), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_mixed_up_by_any_sequence_of_calls(
        layers in prop_oneof![4 => Just((1, 2)), 1 => Just((2, 0)), 2 => Just((0, 1))],
        budget_blocks in 1usize..7,
        calls in prop::collection::vec(call(), 1..120),
    ) {
        let mut pair = Pair::new(layers.0, layers.1, budget_blocks);
        for call in &calls {
            pair.call(call);
        }
        while !pair.reserved.is_empty() {
            pair.call(&Call::Release(0));
        }
        while !pair.pins.is_empty() {
            pair.call(&Call::Unpin(0));
        }
        pair.call(&Call::Clear);
        pair.call(&Call::Poll(usize::MAX));
        let stats = pair.cache.stats();
        prop_assert_eq!(stats.entries, 0);
        prop_assert!(stats.planes.iter().all(|plane| plane.held == 0 && plane.reserved == 0));
    }
}
