//! llama.cpp's greedy answers, as the reference for a test of potluck.

use std::fs;

use potluck::id::TokenId;
use potluck::model::Precision;
use serde::Serialize;

use crate::peer::Peer;
use crate::{Common, Failure, GreedyArgs, ours};

/// One prompt and its answer. The ids of the prompt begin with `bos`.
#[derive(Serialize)]
struct Answer {
    prompt: String,
    ids: Vec<u32>,
    greedy: Vec<u32>,
    /// The lead of llama.cpp's likeliest token over its second, at each step.
    leads: Vec<f32>,
    /// The same token's lead over all others in float arithmetic; negative if another is likelier.
    float_leads: Vec<f32>,
}

/// Prints llama.cpp's answers as JSON, one per line; reports on standard error what potluck gives
/// at the same steps.
pub fn record(args: &GreedyArgs) -> Result<(), Failure> {
    let Common { model, threads, .. } = &args.common;
    let tokenizer = ours::tokenizer(model)?;
    let own = ours::model(model, Precision::INT8, *threads)?;
    let (vocab, context) = (own.config().vocab, own.context().min(2_048));
    let mut own = ours::Reader::new(own, context);
    let mut float = ours::Reader::new(ours::model(model, Precision::FLOAT, *threads)?, context);
    let mut peer = Peer::start(&args.common, model, vocab, context, &[])?;
    let (mut steps, mut equal, mut sure, mut sure_equal) = (0, 0, 0, 0);
    for prompt in fs::read_to_string(&args.prompts)?.lines().filter(|line| !line.is_empty()) {
        let mut ids = tokenizer.encode_prompt(prompt)?;
        let start = ids.len();
        let (mut next, mut leads, mut float_leads) = (0, Vec::new(), Vec::new());
        while ids.len() - start < args.tokens {
            let theirs = peer.last(&ids[next..], next)?;
            let [choice, _] = best_two(&theirs);
            let their_lead = lead(&theirs, choice);
            let our_lead = lead(&own.last(&ids[next..], next)?, choice);
            let float_lead = lead(&float.last(&ids[next..], next)?, choice);
            steps += 1;
            equal += usize::from(our_lead >= 0.0);
            sure += usize::from(their_lead > 0.2);
            sure_equal += usize::from(their_lead > 0.2 && our_lead >= 0.0);
            if our_lead < 0.0 {
                let step = ids.len() - start;
                eprintln!(
                    "{prompt}: step {step}: leads by {their_lead:.2} in llama.cpp, {our_lead:.2} here, {float_lead:.2} in float"
                );
            }
            next = ids.len();
            leads.push(rounded(their_lead));
            float_leads.push(rounded(float_lead));
            ids.push(TokenId(u32::try_from(choice)?));
            if tokenizer.is_end(ids[next]) {
                break;
            }
        }
        let numbers = |ids: &[TokenId]| ids.iter().map(|id| id.0).collect();
        let (greedy, ids) = (numbers(&ids[start..]), numbers(&ids[..start]));
        println!("{}", serde_json::to_string(&Answer { prompt: prompt.to_owned(), ids, greedy, leads, float_leads })?);
    }
    eprintln!(
        "potluck says the same at {equal} of {steps} steps, at {sure_equal} of {sure} where llama.cpp's choice leads by more than 0.2"
    );
    Ok(())
}

/// The lead of the logit at `choice` over all others.
fn lead(logits: &[f32], choice: usize) -> f32 {
    let [first, second] = best_two(logits);
    logits[choice] - logits[if first == choice { second } else { first }]
}

/// Two digits are enough, and easier to read.
fn rounded(lead: f32) -> f32 {
    (lead * 100.0).round() / 100.0
}

/// The places of the two largest logits, the first of equals first.
fn best_two(logits: &[f32]) -> [usize; 2] {
    let mut best = [usize::MAX; 2];
    for (at, value) in logits.iter().enumerate() {
        let above = |place: usize| place == usize::MAX || *value > logits[place];
        if above(best[0]) {
            best = [at, best[0]];
        } else if above(best[1]) {
            best[1] = at;
        }
    }
    best
}
