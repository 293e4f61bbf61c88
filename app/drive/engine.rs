//! The engine: the model on a thread of its own, one job at a time.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};

use crate::id::TokenId;
use crate::kv::Sequence;
use crate::limits::BLOCK_TOKENS;
use crate::model::{Logits, Model};
use crate::node::{Job, JobDone};

use super::cores::keep;

/// Runs one job to its end on this thread.
pub fn run_job(model: &Model, job: &Job) -> JobDone {
    let start = Instant::now();
    let logits = if job.sampling.is_some() { Logits::Last } else { Logits::None };
    let result = model.forward(&job.tokens, job.first, &job.sequence, logits);
    let position = job.first + job.tokens.len();
    let result =
        result.map(|mut logits| job.sampling.as_ref().map(|sampling| sampling.sample(&mut logits, &job.recent, position)));
    JobDone { id: job.id, result: result.map_err(|error| error.to_string()), micros: start.elapsed().as_micros() as u64 }
}

/// Below this a pass over a block leaves time, within the second that a start may take, to measure two.
const QUICK_BLOCK: Duration = Duration::from_millis(200);

/// Tokens a second of prefill, on pages of its own: what the planner weighs a peer's offer against before the first prompt. None
/// when the model cannot run that many. The first block brings the weights into memory, and is not what is measured.
pub(super) fn measure_prefill(model: &Model) -> Option<f32> {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), 2 * BLOCK_TOKENS));
    let pass = |blocks: usize| {
        let tokens = vec![TokenId(0); blocks * BLOCK_TOKENS];
        let start = Instant::now();
        model.forward(&tokens, 0, &sequence, Logits::None).ok()?;
        Some((tokens.len(), start.elapsed()))
    };
    let (_, first) = pass(1)?;
    let (tokens, took) = pass(if first < QUICK_BLOCK { 2 } else { 1 })?;
    Some(tokens as f32 / took.as_secs_f32().max(1e-6))
}

/// Both ends of the engine's thread. The thread ends when the sender is dropped.
pub(super) struct Engine {
    pub jobs: Sender<Job>,
    pub done: Receiver<JobDone>,
}

impl Engine {
    /// Its thread stays on `cpu`, where one is given.
    pub(super) fn start(model: Model, cpu: Option<usize>) -> std::io::Result<Engine> {
        let (jobs, inbox) = bounded::<Job>(1);
        let (outbox, done) = bounded(1);
        thread::Builder::new().name("engine".to_string()).spawn(move || {
            keep(cpu);
            while let Ok(job) = inbox.recv_blocking() {
                if outbox.send_blocking(run_job(&model, &job)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Engine { jobs, done })
    }
}
