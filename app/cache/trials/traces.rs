//! Traces of prompts, made of texts that are numbers: text 7 of 30 tokens is the same wherever
//! it occurs.

use super::{Ask, mmlu};
use crate::id::TokenId;
use crate::splitmix::SplitMix64;

/// Random numbers that are the same in every run.
pub(super) struct Dice(SplitMix64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(SplitMix64(seed))
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.below(count as u64) as usize
    }

    fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// A rank below `count`; rank r has a weight of 1 / (r + 1) to the power of `skew`.
    #[expect(clippy::disallowed_methods, reason = "policies are compared on one machine")]
    pub(super) fn zipf(&mut self, count: usize, skew: f64) -> usize {
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-skew);
        let mut left = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
            * (0..count).map(weight).sum::<f64>();
        let found = (0..count).find(|&rank| {
            left -= weight(rank);
            left <= 0.0
        });
        found.unwrap_or(count - 1)
    }
}

/// The tokens of a text.
fn text(number: usize, tokens: usize) -> Vec<TokenId> {
    let mut dice = Dice::new((number as u64).wrapping_mul(0x1234_5678_9abc_def1));
    (0..tokens).map(|_| TokenId(dice.0.next_u64() as u32 >> 14)).collect()
}

/// The length of a text, fixed by its number.
fn length(number: usize, least: usize, most: usize) -> usize {
    Dice::new(number as u64 ^ 0x00ab_cdef).between(least, most)
}

/// Texts that no other part of a trace uses.
const ONCE: usize = 1 << 32;

/// A trace of `count` prompts at random nodes, each made of the texts that `pick` names, with
/// their lengths.
pub(super) fn plain(
    nodes: usize,
    count: usize,
    mut pick: impl FnMut(&mut Dice, usize) -> Vec<(usize, usize)>,
) -> Vec<Ask> {
    let mut dice = Dice::new(3);
    let asks = (0..count).map(|number| {
        let texts = pick(&mut dice, number);
        let prompt = texts.into_iter().flat_map(|(number, tokens)| text(number, tokens)).collect();
        Ask { node: dice.below(nodes), prompt, answer: Vec::new() }
    });
    asks.collect()
}

/// Few-shot questions of the shape of MMLU's: an instruction, five examples, a question. One
/// subject in eleven has long examples; one question in twenty was asked before.
fn few_shot(
    nodes: usize,
    count: usize,
    mut subject: impl FnMut(&mut Dice, usize) -> usize,
) -> Vec<Ask> {
    plain(nodes, count, |dice, number| {
        let subject = subject(dice, number);
        let [least, most] = if subject % 11 == 3 { [200, 600] } else { [40, 160] };
        let mut texts = vec![(1, 6), (100 + subject, 8)];
        texts.extend((0..5).map(|example| {
            (10_000 + subject * 5 + example, length(subject * 77 + example, least, most))
        }));
        let question =
            if dice.below(20) == 0 { 50_000 + subject * 3 + dice.below(3) } else { ONCE + number };
        texts.push((question, length(question, 40, 150)));
        texts
    })
}

/// Conversations of one to eight turns, `open` at a time, each at one node, each starting with
/// one of `systems` system prompts whose use follows Zipf's law. A turn's prompt is everything
/// said so far.
fn conversations(nodes: usize, count: usize, systems: usize, open: usize) -> Vec<Ask> {
    let mut dice = Dice::new(2);
    let mut talks: Vec<(usize, Vec<TokenId>, usize)> =
        (0..open).map(|_| (0, Vec::new(), 0)).collect();
    let asks = (0..count).map(|number| {
        let talk = &mut talks[dice.below(open)];
        if talk.2 == 0 {
            let head = if systems == 0 { 0 } else { 1 + dice.zipf(systems, 1.0) };
            let tokens = if head == 0 { 0 } else { length(head, 100, 700) };
            *talk = (dice.below(nodes), text(head, tokens), dice.between(1, 8));
        }
        let (node, tokens, turns) = talk;
        *turns -= 1;
        tokens.extend(text(ONCE + 2 * number, dice.between(15, 90)));
        let prompt = tokens.clone();
        let answer = text(ONCE + 2 * number + 1, dice.between(20, 120));
        tokens.extend(&answer);
        Ask { node: *node, prompt, answer }
    });
    asks.collect()
}

/// A prefix of 600 tokens that is used 20 times, then `flood` prompts of 500 tokens that occur
/// once, then the prefix again, and so on.
pub(super) fn floods(nodes: usize, count: usize, flood: usize) -> Vec<Ask> {
    plain(nodes, count, |_, number| match number % (20 + flood) {
        0..20 => vec![(1, 600), (ONCE + number, 30)],
        _ => vec![(ONCE + number, 500)],
    })
}

/// Prompts of `tokens` tokens, one after the other in a cycle.
pub(super) fn cycle(count: usize, prompts: usize, tokens: usize) -> Vec<Ask> {
    plain(1, count, |_, number| vec![(1 + number % prompts, tokens)])
}

/// Prefixes of `tokens` tokens, each followed by 62 tokens that occur once.
pub(super) fn prefixes(
    nodes: usize,
    count: usize,
    prefixes: usize,
    skew: f64,
    tokens: usize,
) -> Vec<Ask> {
    plain(nodes, count, |dice, number| {
        vec![(1 + dice.zipf(prefixes, skew), tokens), (ONCE + number, 62)]
    })
}

/// A trace and its name in docs/inside/eviction.md.
pub(super) type Named = (&'static str, Vec<Ask>);

/// Every trace for a swarm of `nodes`, each of `count` prompts.
pub(super) fn all(nodes: usize, count: usize) -> Vec<Named> {
    let mixed = |dice: &mut Dice, number: usize| match dice.below(3) {
        0 => vec![(ONCE + number, 500)],
        _ => vec![(1 + dice.below(4), 1_200), (ONCE + number, 62)],
    };
    vec![
        ("MMLU, the repository's questions", mmlu::trace(nodes, count)),
        ("few-shot, 57 subjects, Zipf 1", few_shot(nodes, count, |dice, _| dice.zipf(57, 1.0))),
        ("few-shot, uniform", few_shot(nodes, count, |dice, _| dice.below(57))),
        ("few-shot, round robin", few_shot(nodes, count, |_, number| number % 57)),
        ("few-shot, subject by subject", few_shot(nodes, count, |_, number| number / 100)),
        (
            "few-shot, Zipf that moves on",
            few_shot(nodes, count, |dice, number| (dice.zipf(57, 1.0) + number / 20) % 57),
        ),
        ("conversations, 8 system prompts, 6 open", conversations(nodes, count, 8, 6)),
        ("conversations, 40 system prompts, 12 open", conversations(nodes, count, 40, 12)),
        ("conversations without, 8 open", conversations(nodes, count, 0, 8)),
        ("conversations without, 30 open", conversations(nodes, count, 0, 30)),
        ("prefix used 20 times, then 60 prompts once", floods(nodes, count, 60)),
        (
            "30 prompts of 500 tokens, uniform",
            plain(nodes, count, |dice, _| vec![(1 + dice.below(30), 500)]),
        ),
        (
            "200 prompts of 500 tokens, Zipf 0.9",
            plain(nodes, count, |dice, _| vec![(1 + dice.zipf(200, 0.9), 500)]),
        ),
        (
            "10 prefixes, others every 150 prompts",
            plain(nodes, count, |dice, number| {
                vec![(number / 150 * 10 + dice.below(10), 700), (ONCE + number, 60)]
            }),
        ),
        (
            "prompts of late, again",
            plain(nodes, count, |dice, number| {
                vec![(100 + number.saturating_sub(dice.zipf(60, 1.2)), 400)]
            }),
        ),
        ("4 prefixes of 1,200 tokens, a third once", plain(nodes, count, mixed)),
        ("20 prefixes of 1,000 tokens, Zipf 0.7", prefixes(nodes, count, 20, 0.7, 1_000)),
        ("60 prefixes of 1,000 tokens, Zipf 0.7", prefixes(nodes, count, 60, 0.7, 1_000)),
    ]
}
