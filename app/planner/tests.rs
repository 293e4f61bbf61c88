//! The planner against a second, naive reading of its rules.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// Bytes of a token in each plane, as in Gemma-3 270M.
const TOKEN_BYTES: [usize; 2] = [1_632, 8_160];

fn supply(tokens: usize, own: [bool; 2], peers: [&[NodeId]; 2]) -> BlockSupply {
    let peers = peers.map(|peers| Bounded::from_slice(peers).unwrap());
    BlockSupply { tokens, bytes: TOKEN_BYTES.map(|bytes| tokens * bytes), own, peers }
}

fn at_peer(tokens: usize) -> BlockSupply {
    supply(tokens, [false; 2], [&[A], &[A]])
}

fn rate(node: NodeId, goodput: f32, round_trip_ms: f32) -> PeerRate {
    PeerRate { node, goodput_bytes_per_s: Some(goodput), round_trip_ms: Some(round_trip_ms) }
}

/// The board as published: 30 tokens a second, 21 Mbit/s.
fn board(peers: &[PeerRate]) -> Costs<'_> {
    Costs { prefill_tokens_per_s: Some(30.0), link_bytes_per_s: None, peers }
}

fn window(tokens: usize) -> impl Fn(usize) -> usize {
    move |resume| (resume + 1).saturating_sub(tokens)
}

/// Whether token by token, the plane of `index` is needed to resume at `resume`.
fn needed(blocks: &[BlockSupply], index: usize, plane: Plane, resume: usize, window: usize) -> bool {
    let start: usize = blocks[..index].iter().map(|block| block.tokens).sum();
    (start..start + blocks[index].tokens).any(|token| {
        let seen = match plane {
            Plane::Global => true,
            Plane::Sliding => resume - token.min(resume) < window,
        };
        token < resume && seen
    })
}

fn resume_points(blocks: &[BlockSupply], total: usize) -> Vec<usize> {
    let ends = blocks.iter().scan(0, |end, block| {
        *end += block.tokens;
        Some((*end).min(total.saturating_sub(1)))
    });
    core::iter::once(0).chain(ends).collect()
}

/// The planes to fetch to resume at `resume`; `None` when one can be had nowhere.
fn wanted(blocks: &[BlockSupply], resume: usize, window: usize, peers: &[PeerRate]) -> Option<Vec<(usize, Plane)>> {
    let mut wanted = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        for plane in Plane::ALL {
            let p = plane as usize;
            if needed(blocks, index, plane, resume, window) && !block.own[p] && block.bytes[p] > 0 {
                if !peers.iter().any(|peer| block.peers[p].contains(&peer.node)) {
                    return None;
                }
                wanted.push((index, plane));
            }
        }
    }
    Some(wanted)
}

fn own_resume(blocks: &[BlockSupply], total: usize, window: usize) -> usize {
    let points = resume_points(blocks, total).into_iter();
    points.filter(|&resume| wanted(blocks, resume, window, &[]).is_some()).max().unwrap()
}

/// Everything that holds of any plan.
fn check(blocks: &[BlockSupply], total: usize, tokens: usize, costs: &Costs) -> Plan {
    let plan = plan(blocks, total, window(tokens), costs);
    assert!(plan.resume < total.max(1), "the last token must be computed");
    assert!(resume_points(blocks, total).contains(&plan.resume));
    let wanted = wanted(blocks, plan.resume, tokens, costs.peers).expect("needs a plane that nobody has");
    let fetched: Vec<_> = plan.fetch.iter().map(|fetch| (fetch.block, fetch.plane)).collect();
    assert_eq!(fetched, wanted, "fetches what it does not need, or too little, or not head first");
    for fetch in &plan.fetch {
        assert!(blocks[fetch.block].peers[fetch.plane as usize].contains(&fetch.node), "asks who does not have it");
        assert!(costs.peers.iter().any(|peer| peer.node == fetch.node), "asks whom it cannot reach");
    }
    let own = own_resume(blocks, total, tokens);
    let gain = (plan.resume.saturating_sub(own)) as f32 * 1_000.0 / costs.prefill_tokens_per_s.unwrap();
    if plan.fetch.is_empty() {
        assert_eq!(plan, Plan { resume: own, own, ..Plan::default() }, "not as far as the own slab goes");
    } else {
        assert!(plan.resume > own && plan.own < plan.resume);
        assert!(plan.saved_ms > 0.0 && (plan.saved_ms - (gain - plan.fetch_ms)).abs() < 0.01 * gain);
        assert!(plan.fetch_ms <= WAIT_SHARE * gain);
        assert!(plan.deadline_ms as f32 >= plan.fetch_ms, "gives up before it can be done");
        assert!(plan.deadline_ms as f32 <= (WAIT_SHARE * gain).max(GRACE_MS), "waits longer than stated");
    }
    plan
}

#[test]
fn without_peers_it_is_the_own_prefix_and_nothing_else() {
    let own = supply(16, [true; 2], [&[], &[]]);
    let blocks = [own.clone(), own, at_peer(16)];
    let plan = check(&blocks, 60, 512, &board(&[]));
    assert_eq!(plan, Plan { resume: 32, own: 32, ..Plan::default() });
    assert_eq!(check(&[], 60, 512, &board(&[])).resume, 0);
}

#[test]
fn a_repeated_prompt_is_taken_to_its_last_token() {
    let mut blocks = vec![at_peer(16); 25];
    blocks.push(at_peer(5));
    let peers = [rate(A, 2.6e6, 6.0)];
    let plan = check(&blocks, 405, 512, &board(&peers));
    assert_eq!((plan.resume, plan.own, plan.fetch.len()), (404, 0, 52));
    assert!((1_400.0..1_700.0).contains(&plan.fetch_ms), "FACTS: 3.97 MB in 1.5 s; here {}", plan.fetch_ms);
    assert!(plan.saved_ms > 11_000.0);
    assert_eq!(plan.deadline_ms, (2.0 * plan.fetch_ms) as u64);
}

#[test]
fn a_prompt_of_one_token_or_none_is_computed() {
    for total in [0, 1] {
        let plan = check(&[at_peer(1)], total, 512, &board(&[rate(A, 1e9, 0.1)]));
        assert_eq!(plan, Plan::default());
    }
}

#[test]
fn a_ragged_end_of_one_token_is_not_fetched_only_to_be_computed() {
    let plan = check(&[at_peer(16), at_peer(1)], 17, 512, &board(&[rate(A, 1e9, 0.1)]));
    assert_eq!((plan.resume, plan.fetch.len()), (16, 2));
    let plan = check(&[at_peer(16), at_peer(2)], 18, 512, &board(&[rate(A, 1e9, 0.1)]));
    assert_eq!((plan.resume, plan.fetch.len()), (17, 4));
}

#[test]
fn sliding_planes_are_fetched_only_as_far_back_as_the_window_sees() {
    let peers = [rate(A, 1e8, 1.0)];
    for (window, sliding) in [(1, 0), (2, 1), (16, 1), (17, 1), (18, 2), (31, 2), (33, 2), (34, 3), (512, 4)] {
        let plan = check(&[at_peer(16), at_peer(16), at_peer(16), at_peer(16)], 80, window, &board(&peers));
        assert_eq!(plan.resume, 64);
        let fetched = plan.fetch.iter().filter(|fetch| fetch.plane == Plane::Sliding).count();
        assert_eq!(fetched, sliding, "a window of {window}");
    }
}

#[test]
fn a_hole_in_the_sliding_planes_matters_only_within_the_window() {
    let peers = [rate(A, 1e8, 1.0)];
    let hole = supply(16, [false; 2], [&[A], &[]]);
    let blocks = [hole.clone(), at_peer(16), at_peer(16)];
    assert_eq!(check(&blocks, 60, 33, &board(&peers)).resume, 48, "16 tokens before the window's first");
    assert_eq!(check(&blocks, 60, 34, &board(&peers)).resume, 0, "the window sees one token of the hole");
    let blocks = [at_peer(16), hole, at_peer(16)];
    assert_eq!(check(&blocks, 60, 512, &board(&peers)).resume, 16, "resumes before the hole");
}

#[test]
fn a_plane_of_no_bytes_is_always_at_hand() {
    let mut blocks = vec![supply(16, [false; 2], [&[A], &[]]); 3];
    blocks.iter_mut().for_each(|block| block.bytes[1] = 0);
    let plan = check(&blocks, 60, 512, &board(&[rate(A, 1e8, 1.0)]));
    assert_eq!((plan.resume, plan.fetch.len()), (48, 3));
    blocks.iter_mut().for_each(|block| block.bytes[0] = 0);
    assert_eq!(check(&blocks, 60, 512, &board(&[])).resume, 48);
}

#[test]
fn the_faster_board_of_the_published_system_gains_with_int8_state_and_does_not_lose_with_f16() {
    // Pi 5 with the 1B: 4 global and 22 sliding layers of one KV head of 256; 124 tokens and 3.4 MB a second.
    let costs = Costs { prefill_tokens_per_s: Some(124.0), link_bytes_per_s: None, peers: &[rate(A, 3.4e6, 5.0)] };
    for (layer_bytes, resume) in [(544, 333), (1_024, 0)] {
        let mut blocks = vec![at_peer(16); 20];
        blocks.push(at_peer(14));
        blocks.iter_mut().for_each(|block| block.bytes = [4 * layer_bytes * block.tokens, 22 * layer_bytes * block.tokens]);
        assert_eq!(check(&blocks, 334, 512, &costs).resume, resume);
    }
}

#[test]
fn work_is_spread_over_peers_by_their_speed() {
    let blocks = vec![supply(16, [false; 2], [&[A, B], &[A, B]]); 24];
    let peers = [rate(A, 3e6, 5.0), rate(B, 1e6, 5.0)];
    let plan = check(&blocks, 400, 512, &board(&peers));
    let at_a = plan.fetch.iter().filter(|fetch| fetch.node == A);
    let bytes: usize = at_a.map(|fetch| blocks[fetch.block].bytes[fetch.plane as usize]).sum();
    let share = bytes as f32 / (24 * 16 * 9_792) as f32;
    assert!((0.7..0.8).contains(&share), "the faster peer sends {share} of it");
    let alone = check(&blocks, 400, 512, &board(&peers[..1]));
    assert!(plan.fetch_ms < 0.8 * alone.fetch_ms);
    let shared = Costs { link_bytes_per_s: Some(3e6), ..board(&peers) };
    let shared = check(&blocks, 400, 512, &shared);
    assert!(shared.fetch_ms > 0.99 * alone.fetch_ms, "two peers on one radio are no faster than the radio");
}

#[test]
fn an_unknown_peer_is_tried_with_less_at_stake_and_a_dead_one_is_not() {
    let blocks = vec![at_peer(16); 24];
    let unknown = PeerRate { node: A, goodput_bytes_per_s: None, round_trip_ms: None };
    let plan = check(&blocks, 400, 512, &board(&[unknown]));
    assert_eq!((plan.resume, plan.deadline_ms), (384, 3_200), "a quarter of 12.8 s");
    assert_eq!(check(&blocks, 400, 512, &board(&[rate(A, 0.0, 5.0)])), Plan::default());
    assert_eq!(check(&blocks, 400, 512, &board(&[rate(B, 1e9, 1.0)])), Plan::default(), "nobody here is B");
    for nonsense in [f32::NAN, -1.0] {
        let costs =
            Costs { prefill_tokens_per_s: Some(30.0), link_bytes_per_s: Some(nonsense), peers: &[rate(A, nonsense, nonsense)] };
        assert_eq!(check(&blocks, 400, 512, &costs).resume, 384, "taken for unknown");
    }
}

#[test]
fn a_short_gain_still_leaves_a_busy_peer_a_quarter_of_a_second() {
    let costs = Costs { prefill_tokens_per_s: Some(5_000.0), link_bytes_per_s: None, peers: &[rate(A, 5e8, 0.3)] };
    let plan = check(&vec![at_peer(16); 6], 100, 512, &costs);
    assert_eq!((plan.resume, plan.deadline_ms), (96, 250));
}

#[test]
fn of_two_ways_that_take_as_long_the_one_with_fewer_bytes_is_taken() {
    // Fetching block 1 takes exactly as long as computing it would.
    let peers = [rate(A, 1_000.0, 0.0)];
    let costs = Costs { prefill_tokens_per_s: Some(1.0), link_bytes_per_s: None, peers: &peers };
    let mut blocks = vec![at_peer(16), at_peer(16)];
    blocks[0].bytes = [1, 0];
    blocks[1].bytes = [16_000, 0];
    assert_eq!(check(&blocks, 40, 512, &costs).resume, 16);
    blocks[1].bytes = [15_000, 0];
    assert_eq!(check(&blocks, 40, 512, &costs).resume, 32);
}

/// Every way that three blocks and a ragged end can be spread over this node and a peer, for windows around every edge.
#[test]
fn every_small_case_agrees_with_the_naive_reading() {
    let peers = [rate(A, 1e6, 2.0)];
    let costs = Costs { prefill_tokens_per_s: Some(50.0), link_bytes_per_s: None, peers: &peers };
    let places: [(bool, &[NodeId]); 3] = [(true, &[]), (false, &[A]), (false, &[])];
    for case in 0..3usize.pow(8) {
        let place = |digit: u32| places[case / 3usize.pow(digit) % 3];
        let blocks: Vec<_> = (0..4)
            .map(|index| {
                let (global, sliding) = (place(2 * index), place(2 * index + 1));
                let tokens = if index == 3 { 5 } else { 16 };
                supply(tokens, [global.0, sliding.0], [global.1, sliding.1])
            })
            .collect();
        for tokens in [1, 15, 16, 17, 24, 40, 512] {
            for total in [53, 54, 80] {
                let plan = check(&blocks, total, tokens, &costs);
                let own = own_resume(&blocks, total, tokens);
                let cost = |resume: usize, fetch_ms: f32| (total - resume) as f32 * 20.0 + fetch_ms;
                for resume in resume_points(&blocks, total).into_iter().filter(|&resume| resume > own) {
                    let Some(wanted) = wanted(&blocks, resume, tokens, &peers) else { continue };
                    let bytes: usize = wanted.iter().map(|(index, plane)| blocks[*index].bytes[*plane as usize]).sum();
                    let fetch_ms = 2.0 + bytes as f32 / 1_000.0;
                    let pays = fetch_ms + MARGIN_MS <= (resume - own) as f32 * 20.0 * WAIT_SHARE;
                    let better = cost(resume, fetch_ms) < cost(plan.resume, plan.fetch_ms) - 0.01;
                    assert!(!(pays && better), "{resume} is better than {plan:?}");
                }
            }
        }
    }
}

fn any_blocks() -> impl Strategy<Value = Vec<BlockSupply>> {
    let nodes = || prop::collection::vec(1u64..5, 0..4).prop_map(|nodes| nodes.into_iter().map(NodeId).collect());
    let block = (any::<[bool; 2]>(), [nodes(), nodes()], prop::bool::weighted(0.1), 0usize..30_000, 0usize..200_000);
    let blocks = prop::collection::vec(block, 0..40);
    (blocks, 0usize..16).prop_map(|(blocks, ragged)| {
        let last = blocks.len().saturating_sub(1);
        let tokens = |index| if index == last && ragged > 0 { ragged } else { 16 };
        let block = |(index, (own, peers, empty, global, sliding))| {
            let bytes = if empty { [global, 0] } else { [global, sliding] };
            BlockSupply { tokens: tokens(index), bytes, own, peers }
        };
        blocks.into_iter().enumerate().map(block).collect()
    })
}

/// The same cases on every run.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn any_plan_is_valid_and_pays(
        blocks in any_blocks(),
        more in 0usize..40,
        window in 1usize..700,
        speeds in prop::collection::vec((1u64..6, 1e3f32..1e9, 0f32..200.0, any::<bool>()), 0..4),
        prefill in 1f32..10_000.0,
        link in prop::option::of(1e4f32..1e8),
    ) {
        let total = blocks.iter().map(|block| block.tokens).sum::<usize>() + more;
        let peers: Vec<_> = speeds
            .into_iter()
            .map(|(node, goodput, round_trip_ms, known)| PeerRate {
                goodput_bytes_per_s: known.then_some(goodput),
                ..rate(NodeId(node), goodput, round_trip_ms)
            })
            .collect();
        check(&blocks, total, window, &Costs { prefill_tokens_per_s: Some(prefill), link_bytes_per_s: link, peers: &peers });
    }

    #[test]
    fn a_faster_peer_never_makes_a_plan_slower(
        blocks in any_blocks(),
        window in 1usize..700,
        goodput in 1e4f32..1e8,
        factor in 1f32..100.0,
        prefill in 1f32..1_000.0,
    ) {
        let total = blocks.iter().map(|block| block.tokens).sum::<usize>() + 1;
        let cost = |goodput| {
            let peers = [rate(A, goodput, 3.0)];
            let plan = check(&blocks, total, window, &Costs { prefill_tokens_per_s: Some(prefill), link_bytes_per_s: None, peers: &peers });
            (total - plan.resume) as f32 * 1_000.0 / prefill + plan.fetch_ms
        };
        let (slow, fast) = (cost(goodput), cost(goodput * factor));
        prop_assert!(fast <= slow * 1.000_1, "{slow} ms becomes {fast} ms");
    }
}
