//! What this machine takes for a job of each size: passes of 1 to 64 tokens, what depth adds, and
//! rows of logits.

use std::sync::Arc;
use std::time::Instant;

use crate::id::TokenId;
use crate::kv::Sequence;
use crate::limits::PREFILL_STEP_TOKENS;
use crate::model::{Logits, Model, ModelError, Wanted};
use crate::pace::{Pace, PaceParts};

use super::random;

/// Tokens of the passes that are measured.
const PASSES: [usize; 6] = [1, 2, 4, 8, 16, PREFILL_STEP_TOKENS];

/// Rows of logits that are measured together: a step's own, and those of drafts.
const ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// Tokens before those rows. What logits cost can depend on how sure the model is of the next
/// token, and at a text's beginning it is not sure.
const JUDGED_AT: usize = 48;

/// Depths at which a pass is measured again; the last is the default context, less a pass.
const DEPTHS: [usize; 3] = [256, 512, 1_984];

/// Measures so often; medians count. On the tokens of `text`, again and again if it is shorter than
/// the longest pass, or on random ones.
pub(super) fn measure(
    model: &Model,
    text: Option<&[TokenId]>,
    load_s: f64,
    runs: u32,
) -> Result<Pace, ModelError> {
    let depths: Vec<usize> =
        DEPTHS.into_iter().filter(|depth| depth + PREFILL_STEP_TOKENS <= model.context()).collect();
    let longest = (depths.last().copied().unwrap_or(0) + PREFILL_STEP_TOKENS).min(model.context());
    let text: Vec<TokenId> = match text {
        Some(text) => text.iter().copied().cycle().take(longest).collect(),
        None => random(longest, model.config().vocab),
    };
    let sequence = Arc::new(Sequence::private(model.kv_shape(), longest));
    model.forward(&text, 0, &sequence, Logits::None)?;
    // Microseconds of something, the median.
    let median = |run: &dyn Fn() -> Result<(), ModelError>| {
        let mut micros = Vec::new();
        for _ in 0..runs.max(1) {
            let start = Instant::now();
            run()?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        micros.sort_by(f64::total_cmp);
        Ok::<f64, ModelError>(micros[micros.len() / 2])
    };
    let pass = |first: usize, tokens: usize| {
        let text = &text[first..first + tokens];
        median(&|| model.forward(text, first, &sequence, Logits::None).map(drop))
    };
    let before = JUDGED_AT.min(longest.saturating_sub(ROWS[ROWS.len() - 1]));
    // A pass that also finds the likeliest token after each of its tokens, as an answer does.
    let judged = |tokens: usize| {
        let wanted = [Wanted { count: 1, apart: &[] }; ROWS[ROWS.len() - 1]];
        let (text, wanted) = (&text[before..before + tokens], &wanted[..tokens]);
        median(&|| {
            model.likeliest_of_each_while(text, before, &sequence, wanted, &|| true).map(drop)
        })
    };
    let mut token_us = Vec::new();
    for tokens in PASSES.into_iter().filter(|tokens| *tokens <= longest) {
        token_us.push((tokens as f64, pass(0, tokens)? / tokens as f64));
    }
    let (tokens, shallow) = token_us.last().copied().unwrap_or((1.0, 0.0));
    let mut depth_us = vec![(0.0, 0.0)];
    for depth in depths {
        let deep = pass(depth, tokens as usize)? / tokens;
        depth_us.push((depth as f64, (deep - shallow).max(0.0)));
    }
    let mut logits_us = Vec::new();
    for rows in ROWS.into_iter().filter(|rows| before + rows <= longest) {
        let all = (judged(rows)? - pass(before, rows)?).max(0.0);
        logits_us.push((rows as f64, all / rows as f64));
    }
    let start_ms = (load_s * 1e3).round();
    let parts = PaceParts {
        name: "measured".to_string(),
        estimate: false,
        start_ms,
        token_us,
        depth_us,
        logits_us,
        job_us: 0.0,
    };
    Ok(Pace::new(parts).expect("what a machine measures is a number, in the order of these lists"))
}
