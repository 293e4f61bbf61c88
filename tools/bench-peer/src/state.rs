//! llama.cpp's own saved state: computes it, saves it, loads it into an empty context and continues
//! from it. The published system of distributed prompt caching sends this state whole (arXiv
//! 2602.22812).

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use crate::StateArgs;
use crate::llama::{Llama, Settings};

/// A prompt: a line of JSON.
#[derive(Deserialize)]
struct Prompt {
    key: String,
    ids: Vec<i32>,
}

/// The likeliest token of `logits`.
fn likeliest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0)
}

pub fn state(args: &StateArgs) -> Result<(), Box<dyn Error>> {
    let input: Box<dyn Read> =
        if args.prompts == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(&args.prompts)?) };
    let lines = BufReader::new(input).lines().collect::<Result<Vec<String>, _>>()?;
    let prompts = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<Prompt>, _>>()?;
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + args.steps;
    let mut llama = Llama::load(&args.model, &Settings { longest, threads: args.threads, ..Settings::default() })?;
    let mut out = std::io::stdout().lock();
    for Prompt { key, ids } in prompts {
        llama.clear();
        let start = Instant::now();
        let logits = llama.last_logits(&ids)?;
        let prefill_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let saved = llama.save()?;
        let save_s = start.elapsed().as_secs_f64();
        let first = likeliest(&logits);
        let alone = greedy(&mut llama, first, args.steps)?;
        llama.clear();
        let start = Instant::now();
        llama.restore(&saved)?;
        let load_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let again = greedy(&mut llama, first, args.steps)?;
        let decode_s = start.elapsed().as_secs_f64();
        let row = json!({
            "key": key, "tokens": ids.len(), "bytes": saved.len(), "prefill_s": prefill_s, "save_s": save_s, "load_s": load_s,
            "decode_s": decode_s, "steps": args.steps, "equal": alone == again,
        });
        writeln!(out, "{row}")?;
    }
    Ok(())
}

/// The likeliest tokens after `token`, one by one.
fn greedy(llama: &mut Llama, token: usize, steps: usize) -> Result<Vec<usize>, Box<dyn Error>> {
    let mut tokens = vec![token];
    for _ in 0..steps {
        let last = i32::try_from(tokens[tokens.len() - 1])?;
        tokens.push(likeliest(&llama.last_logits(&[last])?));
    }
    Ok(tokens)
}
