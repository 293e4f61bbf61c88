//! A prompt in a slab that barely has room for it.

use std::sync::Arc;

use crate::cache::{Chain, ChainSecret, Maker};
use crate::id::{BootId, EpochState, Fingerprint, Millis, NodeId, NodeName, TokenId};
use crate::keyring::{Entropy, Keyring};
use crate::kv::{KvFormat, KvShape, Plane};
use crate::limits::{BLOCK_TOKENS, LEAST_PEERS};
use crate::node::{
    Ask, AskId, Figures, Input, JobDone, JobFault, Node, NodeConfig, Output, Reply, StopReason,
};
use crate::sampler::Sampling;

const WINDOW: usize = 24;

/// A node whose slab has the given size and that shares with nobody.
fn node(shape: &Arc<KvShape>, slab_bytes: usize) -> Node {
    Node::new(NodeConfig {
        seed: 1,
        node: NodeId(1),
        boot: BootId(1),
        name: NodeName::default(),
        keys: Keyring::open(),
        entropy: Entropy([1; 32]),
        fingerprint: Fingerprint([7; 16]),
        epochs: EpochState::default(),
        shape: shape.clone(),
        slab_bytes,
        context: 2_048,
        tcp_port: 1,
        sharing: false,
        reuse: true,
        drafts: true,
        announce_interval_ms: 10_000,
        peers: LEAST_PEERS,
        prefill_tokens_per_s: None,
        audit_per_10k: 0,
        end_tokens: Vec::new(),
    })
    .unwrap()
}

/// Asks a prompt, and runs the engine's jobs; returns the outcome.
fn answer(node: &mut Node, tokens: &[TokenId]) -> Reply {
    let ask = Ask {
        id: AskId(1),
        tokens: tokens.to_vec(),
        max_tokens: 1,
        sampling: Sampling::GREEDY,
        private: false,
        watch: None,
    };
    node.handle(Input::Ask(ask), Millis(0));
    let mut now = 0;
    while let Some(output) = node.poll_output() {
        now += 100;
        match output {
            Output::Engine(job) => {
                let result = Ok(job.judge.iter().map(|_| TokenId(9)).collect());
                node.handle(
                    Input::Engine(JobDone {
                        id: job.id,
                        result,
                        micros: 100_000,
                        sampling_micros: 0,
                    }),
                    Millis(now),
                );
            }
            Output::Reply(_, reply @ (Reply::Done(_) | Reply::Failed(_))) => return reply,
            _ => {}
        }
    }
    panic!("no answer")
}

/// Commits one plane of each whole block of the prompt, as an earlier prompt left it.
fn hold(node: &mut Node, tokens: &[TokenId], plane: Plane) {
    let shared = &mut node.shared;
    let chain = Chain::of(&ChainSecret::derive(&[]), shared.root, tokens);
    for link in chain.blocks.iter().take((tokens.len() - 1) / BLOCK_TOKENS) {
        let slot = shared.cache.reserve(plane, &|_| false).unwrap();
        assert!(shared.cache.commit(link, slot, Maker::Own).into_slot().is_none());
    }
}

/// The remains of an earlier prompt: all its global planes, and no sliding plane to resume from.
/// They fill the slab and are pinned, so that the first step used to find no slot.
#[test]
fn a_prompt_is_never_refused_because_of_what_it_has_pinned_itself() {
    let layers = [Plane::Global, Plane::Sliding];
    let shape = Arc::new(KvShape::new(&layers, 1, 32, WINDOW, KvFormat::Int8).unwrap());
    let bytes = Plane::ALL.map(|plane| shape.plane_bytes(plane, BLOCK_TOKENS));
    for sliding in [12, 20, 40] {
        let global = sliding + sliding / 2;
        let slab = global * bytes[0] + sliding * bytes[1];
        // As long as a prompt may be in this slab: with the block of its answer, and one more.
        let tokens: Vec<TokenId> =
            (0..(global - 2) * BLOCK_TOKENS + 1).map(|at| TokenId(at as u32)).collect();
        let mut node = node(&shape, slab);
        hold(&mut node, &tokens, Plane::Global);
        let reply = answer(&mut node, &tokens);
        assert!(
            matches!(&reply, Reply::Done(figures) if figures.generated == 1),
            "{global} slots: {reply:?}"
        );
        let again = answer(&mut node, &tokens);
        assert!(
            matches!(&again, Reply::Done(figures) if figures.computed <= 2 * BLOCK_TOKENS),
            "{global} slots: {again:?}"
        );
        let planes = node.shared.cache.stats().planes;
        assert!(planes.iter().all(|plane| plane.pinned == 0 && plane.reserved == 0), "{planes:?}");
    }
}

/// The map of a prompt shows each block once: what was here, what is being computed, what is
/// still to come.
#[test]
fn the_map_of_a_prompt_has_a_letter_for_every_block() {
    let layers = [Plane::Global, Plane::Sliding];
    let shape = Arc::new(KvShape::new(&layers, 1, 32, WINDOW, KvFormat::Int8).unwrap());
    let tokens: Vec<TokenId> = (0..10 * BLOCK_TOKENS + 3).map(|at| TokenId(at as u32)).collect();
    let mut node = node(&shape, 1 << 20);
    assert_eq!(node.map(Millis(0)), None);
    answer(&mut node, &tokens[..4 * BLOCK_TOKENS + 1]);
    let ask = Ask {
        id: AskId(7),
        tokens: tokens.clone(),
        max_tokens: 2,
        sampling: Sampling::GREEDY,
        private: false,
        watch: None,
    };
    node.handle(Input::Ask(ask), Millis(1_000));
    let begun = node.map(Millis(1_250)).unwrap();
    assert_eq!(
        (begun.number, begun.prompt_tokens, begun.ready, begun.elapsed_ms),
        (7, tokens.len(), 65, 250)
    );
    assert_eq!((begun.ttft_ms, begun.blocks.as_str()), (None, "####----..."));
    let mut seen = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Engine(job) = output {
            let result = Ok(job.judge.iter().map(|_| TokenId(9)).collect());
            node.handle(
                Input::Engine(JobDone { id: job.id, result, micros: 100, sampling_micros: 0 }),
                Millis(1_500),
            );
            seen.extend(node.map(Millis(1_500)));
        }
    }
    let answering = seen.last().unwrap();
    assert_eq!(
        (answering.blocks.as_str(), answering.generated, answering.ttft_ms),
        ("####=======", 1, Some(500))
    );
    assert!(answering.peers.is_empty() && node.map(Millis(2_000)).is_none());
}

/// Answers with nothing but nines, each step in the same time. Returns the figures, and the first
/// token and token count of each step.
fn nines(
    node: &mut Node,
    tokens: &[TokenId],
    mut on_step: impl FnMut(&mut Node),
) -> (Figures, Vec<(usize, usize)>) {
    let ask = Ask {
        id: AskId(3),
        tokens: tokens.to_vec(),
        max_tokens: 60,
        sampling: Sampling::GREEDY,
        private: false,
        watch: None,
    };
    node.handle(Input::Ask(ask), Millis(0));
    let mut steps = Vec::new();
    while let Some(output) = node.poll_output() {
        match output {
            Output::Engine(job) => {
                on_step(node);
                steps.push((job.first, job.tokens.len()));
                let rows = job.judge.map_or(0, |judge| judge.rows);
                let done = JobDone {
                    id: job.id,
                    result: Ok(vec![TokenId(9); rows]),
                    micros: 1_000,
                    sampling_micros: 0,
                };
                drop(job.sequence);
                node.handle(Input::Engine(done), Millis(steps.len() as u64));
            }
            Output::Reply(_, Reply::Done(figures)) => return (figures, steps),
            Output::Reply(_, Reply::Failed(refusal)) => panic!("{refusal}"),
            _ => {}
        }
    }
    panic!("no answer")
}

/// When every other slot is in use, an answer has the rest of its block, and a draft no
/// more than that.
#[test]
fn a_draft_goes_on_into_the_next_block_only_where_there_is_room() {
    let layers = [Plane::Global, Plane::Sliding];
    let shape = Arc::new(KvShape::new(&layers, 1, 32, WINDOW, KvFormat::Int8).unwrap());
    let tokens: Vec<TokenId> = (0..20).map(TokenId).collect();
    let mut node = node(&shape, 1 << 18);
    let crosses =
        |(first, count): &(usize, usize)| first / BLOCK_TOKENS < (first + count - 1) / BLOCK_TOKENS;
    assert_eq!(nines(&mut node, &tokens, |_| {}).0.generated, 60);
    let mut taken = Vec::new();
    let (figures, steps) = nines(&mut node, &tokens, |node| {
        for plane in Plane::ALL {
            taken.extend(std::iter::from_fn(|| node.shared.cache.reserve(plane, &|_| false).ok()));
        }
    });
    let end = 2 * BLOCK_TOKENS;
    assert_eq!(
        (figures.generated, figures.stop),
        (end + 1 - tokens.len(), StopReason::SlabFull),
        "{steps:?}"
    );
    assert!(figures.drafts.slab.accepted > 8 && !steps.iter().any(crosses), "{steps:?}");
    taken.into_iter().for_each(|slot| node.shared.cache.release(slot));
    nines(&mut node, &tokens, |_| {});
    let (figures, steps) = nines(&mut node, &tokens, |_| {});
    assert_eq!((figures.generated, figures.drafts.slab.wrong), (60, 0));
    assert!(steps.iter().any(crosses), "{steps:?}");
    let planes = node.shared.cache.stats().planes;
    assert!(planes.iter().all(|plane| plane.pinned == 0 && plane.reserved == 0), "{planes:?}");
}

/// A peer may suggest tokens that the engine cannot run. The answer then does without drafts, and
/// teaches the habits like any other.
#[test]
fn an_answer_whose_draft_has_failed_still_teaches_the_habits() {
    let layers = [Plane::Global, Plane::Sliding];
    let shape = Arc::new(KvShape::new(&layers, 1, 32, WINDOW, KvFormat::Int8).unwrap());
    let tokens: Vec<TokenId> = (0..20).map(TokenId).collect();
    let mut node = node(&shape, 1 << 20);
    let mut failed = 0;
    for base in [1_000, 2_000] {
        let ask = Ask {
            id: AskId(base.into()),
            tokens: tokens.clone(),
            max_tokens: 60,
            sampling: Sampling::GREEDY,
            private: false,
            watch: None,
        };
        node.handle(Input::Ask(ask), Millis(0));
        while let Some(output) = node.poll_output() {
            let Output::Engine(job) = output else { continue };
            let rows = job.judge.as_ref().map_or(0, |judge| judge.rows);
            let end = job.first + job.tokens.len();
            let result = if rows > 1 {
                failed += 1;
                Err(JobFault::Failed("no such token".into()))
            } else {
                // Both answers begin alike.
                let token = |at: usize| at as u32 + if at < 30 { 0 } else { base };
                Ok((end - rows..end).map(|at| TokenId(token(at))).collect())
            };
            let done = JobDone { id: job.id, result, micros: 1_000, sampling_micros: 0 };
            drop(job.sequence);
            node.handle(Input::Engine(done), Millis(end as u64));
        }
    }
    assert_eq!(failed, 1, "the second answer is drafted from the first, once");
    let said: Vec<TokenId> = (2_040..2_060).map(TokenId).collect();
    assert!(node.shared.habits.guess(&said[..10]).starts_with(&said[10..12]));
}
