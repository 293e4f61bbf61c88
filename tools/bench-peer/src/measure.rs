//! Runs llama.cpp over the cases of `potluck bench`.

use std::error::Error;
use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::MeasureArgs;
use crate::llama::{Llama, Settings};

/// The id at place `at` of every measured text, as in potluck's `drive/bench`.
fn token(at: usize, vocab: usize) -> i32 {
    let spread = (at as u32).wrapping_mul(2_654_435_761);
    ((u64::from(spread) * vocab as u64) >> 32) as i32
}

struct Case {
    depth: usize,
    tokens: usize,
    one_by_one: bool,
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
}

/// CPU seconds of all threads of this process.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

pub fn measure(args: &MeasureArgs) -> Result<(), Box<dyn Error>> {
    let case = |depth: u32, tokens: u32, one_by_one| Case {
        depth: depth as usize,
        tokens: tokens as usize,
        one_by_one,
        seconds: Vec::new(),
        cpu_seconds: Vec::new(),
    };
    let mut cases: Vec<Case> = args.cases.prefill.iter().map(|&tokens| case(0, tokens, false)).collect();
    cases.extend(args.cases.depth.iter().map(|&depth| case(depth, args.cases.steps, true)));
    cases.retain(|case| case.tokens > 0);
    let longest = cases.iter().map(|case| case.depth + case.tokens).max().unwrap_or(1);

    let start = Instant::now();
    let settings = Settings { longest, threads: args.threads, repack: !args.no_repack, ..Settings::default() };
    let mut llama = Llama::load(&args.model, &settings)?;
    let load_s = start.elapsed().as_secs_f64();
    let loaded_rss_bytes = peak_rss_bytes();
    let mut text: Vec<i32> = (0..longest).map(|at| token(at, llama.vocab())).collect();

    let warm_up = u32::from(!args.no_warm_up);
    for run in 0..args.runs + warm_up {
        for case in &mut cases {
            llama.clear();
            let (before, after) = text.split_at_mut(case.depth);
            if !before.is_empty() {
                llama.forward(before)?;
            }
            let step = if case.one_by_one { 1 } else { case.tokens };
            let (start, computed) = (Instant::now(), cpu_s());
            for tokens in after[..case.tokens].chunks_mut(step) {
                llama.forward(tokens)?;
            }
            let (took, computed) = (start.elapsed().as_secs_f64(), cpu_s() - computed);
            if run >= warm_up {
                case.seconds.push(took);
                case.cpu_seconds.push(computed);
            }
        }
    }
    let cases: Vec<_> = cases
        .iter()
        .map(|case| {
            let name = if case.one_by_one { "decode" } else { "prefill" };
            json!({ "case": name, "depth": case.depth, "tokens": case.tokens, "runs_s": case.seconds, "runs_cpu_s": case.cpu_seconds })
        })
        .collect();
    let report = json!({
        "program": "llama.cpp of llama-cpp-sys-2 0.1.161",
        "features": Llama::features(),
        "threads": args.threads,
        "load_s": load_s,
        "cases": cases,
        "loaded_rss_bytes": loaded_rss_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
    });
    println!("{report}");
    Ok(())
}

/// The peak resident memory, including mapped files.
fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}
