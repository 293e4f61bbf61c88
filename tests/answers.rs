//! Real MMLU prompts on a real model: a swarm that shares gives the same answers as a node that
//! does not, token for token.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use potluck::drive::run_job;
use potluck::id::TokenId;
use potluck::mmlu;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::model::{Model, Precision, fingerprint, open};
use potluck::node::NodeConfig;
use potluck::sampler::{Repeat, Sampling};
use potluck::tokenizer::Tokenizer;

use crate::sim::{Sim, config};

/// Virtual time per token: the board's.
const MICROS_PER_TOKEN: u64 = 37_000;

const SLAB: usize = 64 << 20;

struct Loaded {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    fingerprint: potluck::id::Fingerprint,
}

static MODEL: LazyLock<Loaded> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demo.gguf");
    synth(Shape::Demo, 7, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    let opened = open(&path).unwrap();
    let tokenizer =
        Tokenizer::from_vocabulary(&opened.gguf.vocabulary().unwrap().unwrap()).unwrap();
    let fingerprint = fingerprint(opened.content(), Precision::INT8);
    let model = Arc::new(Model::new(opened.config, opened.weights, Precision::INT8).unwrap());
    Loaded { model, tokenizer, fingerprint }
});

fn node(world: &mut Sim, number: u64, sharing: bool) -> usize {
    let Loaded { model, fingerprint, .. } = &*MODEL;
    let config = NodeConfig {
        fingerprint: *fingerprint,
        sharing,
        reuse: sharing,
        ..config(number, model.kv_shape(), SLAB)
    };
    world.rules.hashed = false;
    let who = world.join(config, MICROS_PER_TOKEN);
    let model = model.clone();
    world.stations[who].engine.outside = Some(Box::new(move |job| run_job(&model, job)));
    who
}

struct Asked {
    name: String,
    /// Prompts with the same value share their examples.
    examples: String,
    tokens: Vec<TokenId>,
}

/// Two questions from each of twelve subjects, with zero, one and five examples: 72 prompts.
fn prompts() -> Vec<Asked> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmlu");
    let mut subjects: Vec<String> = std::fs::read_dir(dir.join("test"))
        .unwrap()
        .filter_map(|entry| {
            Some(entry.unwrap().file_name().to_str()?.strip_suffix("_test.csv")?.to_string())
        })
        .collect();
    subjects.sort();
    assert_eq!(subjects.len(), 12);
    let read = |part: &str, subject: &str| {
        mmlu::parse_csv(
            &std::fs::read_to_string(dir.join(part).join(format!("{subject}_{part}.csv"))).unwrap(),
        )
        .unwrap()
    };
    let mut prompts = Vec::new();
    for subject in subjects {
        let (dev, test) = (read("dev", &subject), read("test", &subject));
        for shots in [0, 1, 5] {
            for (number, question) in test.iter().take(2).enumerate() {
                let text = mmlu::prompt(&subject, &dev[..shots], question);
                prompts.push(Asked {
                    name: format!("{subject}, {shots} examples, question {number}"),
                    examples: format!("{subject} {shots}"),
                    tokens: MODEL.tokenizer.encode_prompt(&text).unwrap(),
                });
            }
        }
    }
    prompts
}

#[test]
fn answers_to_mmlu_prompts_are_the_same_with_sharing_on_and_off() {
    let prompts = prompts();
    assert!(prompts.len() >= 60);
    let mut apart = Sim::calm();
    node(&mut apart, 9, false);
    let mut swarm = Sim::calm();
    for number in 0..3 {
        node(&mut swarm, number, true);
    }
    swarm.pass(2_000);
    let mut different = 0;
    let mut earlier: Vec<&Asked> = Vec::new();
    for (number, asked) in prompts.iter().enumerate() {
        let expected = apart.answer_now(0, &asked.tokens, 6);
        let member = number % 3;
        let new = swarm.answer_now(member, &asked.tokens, 6);
        let repeated = swarm.answer_now((member + 1) % 3, &asked.tokens, 6);
        for answer in [&new, &repeated] {
            assert_eq!(answer.tokens(), expected.tokens(), "{}", asked.name);
        }
        let figures = repeated.figures();
        let held = figures.own + figures.from_peers();
        // Computing does not wait for fetches, so part of the prompt's head is computed.
        assert!(4 * held >= 3 * (asked.tokens.len() - 1), "{}: {figures:?}", asked.name);
        if let Some(before) = earlier.iter().find(|before| before.examples == asked.examples) {
            let common =
                before.tokens.iter().zip(&asked.tokens).take_while(|(a, b)| a == b).count();
            let figures = new.figures();
            assert!(
                4 * (figures.own + figures.from_peers()) >= 3 * (common / 16 * 16),
                "{}: {figures:?}",
                asked.name
            );
        }
        different += usize::from(earlier.iter().all(|before| before.tokens != asked.tokens));
        earlier.push(asked);
    }
    assert_eq!(different, prompts.len(), "all prompts must differ");
}

/// Verifying several drafted tokens in one pass gives the same tokens as decoding one by one,
/// with real logits: greedy or sampled, with or without a repetition penalty, drafted locally
/// or by a peer.
#[test]
fn answers_are_the_same_with_drafts_and_without() {
    let drawn = Sampling::new(0.8, 40, 0.95, 11).unwrap();
    let repeat = Repeat::new(1.3, 20).unwrap();
    let samplings = [
        Sampling::GREEDY,
        Sampling { repeat, ..Sampling::GREEDY },
        drawn,
        Sampling { repeat, ..drawn },
        Sampling { seed: 12, ..drawn },
    ];
    let mut apart = Sim::calm();
    node(&mut apart, 9, false);
    let mut swarm = Sim::calm();
    for number in 0..2 {
        node(&mut swarm, number, true);
    }
    swarm.pass(2_000);
    let answer = |sim: &mut Sim, who: usize, tokens: &[TokenId], sampling: Sampling| {
        let id = sim.ask_sampled(who, tokens, 40, sampling);
        let answer = sim.await_answer(who, id).answer.clone().unwrap();
        sim.pass(600);
        answer
    };
    let (mut right, mut wrong) = (0, 0);
    for asked in prompts().iter().step_by(12) {
        for sampling in samplings {
            let expected = answer(&mut apart, 0, &asked.tokens, sampling);
            assert_eq!(
                expected.figures().drafts.all().drafted,
                0,
                "nothing may be drafted where nothing is reused"
            );
            for who in [0, 0, 1] {
                let drafted = answer(&mut swarm, who, &asked.tokens, sampling);
                assert_eq!(drafted.tokens(), expected.tokens(), "{}, {sampling:?}", asked.name);
                let drafts = drafted.figures().drafts.all();
                (right, wrong) = (right + drafts.accepted, wrong + drafts.wrong);
            }
        }
    }
    assert!(right > 500 && wrong > 0, "{right} drafted tokens right, {wrong} wrong");
}
