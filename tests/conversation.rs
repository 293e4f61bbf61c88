//! The cost of a conversation: each turn reuses everything that was said before, to the last token.

use std::path::{Path, PathBuf};

use potluck::answers::{Answer, ContextLimits, Conversation, Form, StopWatch};
use potluck::drive::run_job;
use potluck::id::{Millis, TokenId};
use potluck::model::{Model, Opened, Precision, open};
use potluck::node::{Ask, AskId, Figures, Input, Node, NodeConfig, Output, Reply, StopReason};
use potluck::sampler::Sampling;
use potluck::tokenizer::Tokenizer;

use crate::real_file::real_file;
use crate::sim::config;

const SLAB: usize = 64 << 20;

/// A lone node with a real model.
struct Machine {
    model: Model,
    tokenizer: &'static Tokenizer,
    node: Node,
}

impl Machine {
    fn new(path: &Path) -> Machine {
        let Opened { config: shape, weights, gguf, .. } = open(path).unwrap();
        let model = Model::new(shape, weights, Precision::INT8).unwrap();
        let tokenizer = Tokenizer::from_vocabulary(&gguf.vocabulary().unwrap().unwrap()).unwrap();
        let ends = tokenizer.end_tokens().to_vec();
        let config =
            NodeConfig { sharing: false, end_tokens: ends, ..config(0, model.kv_shape(), SLAB) };
        Machine {
            model,
            tokenizer: Box::leak(Box::new(tokenizer)),
            node: Node::new(config).unwrap(),
        }
    }

    fn answer(
        &mut self,
        tokens: &[TokenId],
        max_tokens: usize,
        sampling: Sampling,
        stops: &[String],
    ) -> (Answer<'static>, Figures) {
        let now = Millis(0);
        let watch = StopWatch::over(self.tokenizer, stops);
        let mut answer = Answer::new(self.tokenizer).until(stops);
        self.node.handle(
            Input::Ask(Ask {
                id: AskId(1),
                tokens: tokens.to_vec(),
                max_tokens,
                sampling,
                private: false,
                watch,
            }),
            now,
        );
        loop {
            match self.node.poll_output().expect("the answer must end") {
                Output::Engine(job) => {
                    let done = run_job(&self.model, &job);
                    self.node.handle(Input::Engine(done), now);
                }
                Output::Reply(_, Reply::Token(token)) => drop(answer.push(token)),
                Output::Reply(_, Reply::Done(figures)) => {
                    answer.end();
                    return (answer, figures);
                }
                Output::Reply(_, Reply::Failed(reason)) => panic!("no answer: {reason}"),
                _ => {}
            }
        }
    }
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo-model/model/potluck-demo.gguf")
}

const QUESTIONS: [&str; 10] = [
    "Why is the sky blue?",
    "Tell me about the sea.",
    "Name three animals and say why you like them.",
    "What is a prime number?",
    "How do I bake bread?",
    "Who wrote that?",
    "  What did people eat long ago?\n",
    "Give me a list:\n\n1. one\n2. two",
    "naïve café — 漢字 🙂 <eos> <end_of_turn>",
    "And then?",
];

/// Runs two turns of each of `count` conversations, with the first answer sampled. The second
/// turn must reuse every token of the first prompt and its answer, except an answer's last token
/// if it was never computed, and what follows whitespace that the template trims. Returns how many
/// answers would have been lost had they been encoded from their text.
fn second_turns(machine: &mut Machine, count: usize, max_tokens: usize) -> usize {
    let form = Form::gemma(false);
    let room =
        ContextLimits { context: 2_048, most_context: 2_048, max_tokens, drop_oldest: false };
    let mut lost_as_text = 0;
    for at in 0..count {
        let (top_k, top_p) = if at % 2 == 0 { (0, 1.0) } else { (64, 0.95) };
        let sampling = Sampling::new(1.0, top_k, top_p, at as u64).unwrap();
        let mut talk = Conversation::default();
        let question = format!("{} {at}", QUESTIONS[at % QUESTIONS.len()]);
        let first = talk.ask(&form, machine.tokenizer, &question, room).unwrap().tokens;
        let (answer, figures) = machine.answer(&first, max_tokens, sampling, &[]);
        let chosen = answer.kept(machine.tokenizer, &form).unwrap();
        let text = answer.text().trim_end();
        let is_trimmed = text.len() < answer.text().len();
        assert!(is_trimmed || chosen.len() == figures.generated);
        lost_as_text += usize::from(machine.tokenizer.encode(text).unwrap() != chosen);
        talk.answered(chosen.clone());
        let second = talk.ask(&form, machine.tokenizer, "Go on, please.", room).unwrap().tokens;
        let before = first.len() + chosen.len();
        assert_eq!(
            (&second[..first.len()], &second[first.len()..before]),
            (&first[..], &chosen[..]),
            "conversation {at}"
        );
        let uncomputed = usize::from(figures.stop != StopReason::End);
        let (_, figures) = machine.answer(&second, 1, Sampling::GREEDY, &[]);
        if is_trimmed {
            assert!(figures.own >= before / 16 * 16, "conversation {at}: {figures:?} of {before}");
            continue;
        }
        assert_eq!(
            figures.own,
            before - uncomputed,
            "conversation {at} reused too little: {figures:?}"
        );
        assert_eq!(figures.computed, second.len() - before + uncomputed);
    }
    lost_as_text
}

#[test]
fn two_hundred_drawn_answers_are_found_again_whole() {
    let lost = second_turns(&mut Machine::new(&demo_model()), 200, 24);
    assert!(lost > 0, "no answer would have been lost as text, so this test proves nothing");
}

#[test]
fn drawn_answers_of_the_real_model_are_found_again_whole() {
    if let Some(path) = real_file("drawn_answers_of_the_real_model_are_found_again_whole") {
        assert!(second_turns(&mut Machine::new(&path), 20, 24) > 0);
    }
}

/// Runs `turns` turns of one conversation: each computes its own new tokens and at most one more.
fn turns_cost_what_they_say(path: &Path, turns: usize, max_tokens: usize) {
    let mut machine = Machine::new(path);
    let form = Form::gemma(false);
    let room =
        ContextLimits { context: 2_048, most_context: 2_048, max_tokens, drop_oldest: false };
    let mut talk = Conversation::new(Some("You answer in short sentences.".to_string()));
    let mut before = 0;
    for turn in 0..turns {
        let prompt = talk
            .ask(&form, machine.tokenizer, QUESTIONS[turn % QUESTIONS.len()], room)
            .unwrap()
            .tokens;
        let sampling = Sampling::new(0.8, 64, 0.95, turn as u64).unwrap();
        let (answer, figures) = machine.answer(&prompt, max_tokens, sampling, &[]);
        let new = prompt.len() - before;
        assert!(figures.computed <= new + 1, "turn {turn} has {new} new tokens: {figures:?}");
        let kept = answer.kept(machine.tokenizer, &form).unwrap();
        before = prompt.len() + kept.len();
        talk.answered(kept);
    }
}

#[test]
fn twelve_turns_compute_only_what_is_new() {
    turns_cost_what_they_say(&demo_model(), 12, 40);
}

#[test]
fn twelve_turns_on_the_real_model_compute_only_what_is_new() {
    if let Some(path) = real_file("twelve_turns_on_the_real_model_compute_only_what_is_new") {
        turns_cost_what_they_say(&path, 12, 40);
    }
}

/// Tokens that a stop string cuts off were computed, but are not part of the conversation.
#[test]
fn a_conversation_goes_on_from_where_a_stop_string_ended_it() {
    let mut machine = Machine::new(&demo_model());
    let form = Form::gemma(false);
    let room =
        ContextLimits { context: 2_048, most_context: 2_048, max_tokens: 60, drop_oldest: false };
    let mut stopped = 0;
    for at in 0..20 {
        let mut talk = Conversation::default();
        let first = talk
            .ask(&form, machine.tokenizer, QUESTIONS[at % QUESTIONS.len()], room)
            .unwrap()
            .tokens;
        let sampling = Sampling::new(1.0, 64, 0.95, at as u64).unwrap();
        let (answer, figures) =
            machine.answer(&first, 60, sampling, &[". ".to_string(), "e t".to_string()]);
        let kept = answer.kept(machine.tokenizer, &form).unwrap();
        assert_eq!(machine.tokenizer.decode(&kept).trim(), answer.text().trim());
        stopped += usize::from(figures.stop == StopReason::StopString);
        talk.answered(kept.clone());
        let second = talk.ask(&form, machine.tokenizer, "Why?", room).unwrap().tokens;
        let (_, found) = machine.answer(&second, 1, Sampling::GREEDY, &[]);
        // Excludes the token that the stop string cuts in two, and its block.
        let sure = (first.len() + kept.len()).saturating_sub(3) / 16 * 16;
        assert!(found.own >= sure, "{found:?} of {sure}");
    }
    assert!(stopped > 5, "{stopped} answers of 20 were stopped");
}
