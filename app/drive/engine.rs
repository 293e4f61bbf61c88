//! The engine: runs the model on its own thread, one job at a time. A job can be abandoned
//! between layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use smol::channel::{Receiver, Sender, bounded};

use crate::id::TokenId;
use crate::limits::MAX_LIKELIEST;
use crate::model::{Logits, Model, ModelError, Wanted};
use crate::node::{Job, JobDone, JobFault, Judge};
use crate::start::keep;

use super::paced::Paced;

/// Runs one job to its end on this thread.
pub fn run_job(model: &Model, job: &Job) -> JobDone {
    run_job_while(model, job, &|| true)
}

/// The same, but abandons the job as soon as `go_on` returns false between two layers.
pub(crate) fn run_job_while(model: &Model, job: &Job, go_on: &dyn Fn() -> bool) -> JobDone {
    let start = Instant::now();
    let mut computed = None;
    let result = choose_likely(model, job, go_on).unwrap_or_else(|| {
        let logits = job.judge.as_ref().map_or(Logits::None, |judge| Logits::Last(judge.rows));
        let result = model.forward_while(&job.tokens, job.first, &job.sequence, logits, go_on);
        computed = Some(Instant::now());
        result
            .map(|logits| job.judge.as_ref().map_or(Vec::new(), |judge| choose(judge, job, logits)))
    });
    // If the likeliest tokens are found while the rows are computed, choosing among them takes no
    // separate time.
    let sampling_micros = computed.map_or(0, |computed| computed.elapsed().as_micros() as u64);
    let fault = |error| match error {
        ModelError::Abandoned => JobFault::Abandoned,
        error => JobFault::Failed(error.to_string()),
    };
    JobDone {
        id: job.id,
        result: result.map_err(fault),
        micros: start.elapsed().as_micros() as u64,
        sampling_micros,
    }
}

/// The token that follows each judged row, chosen among the likeliest only. None if the job needs
/// more than those, or if this is not the better way.
fn choose_likely(
    model: &Model,
    job: &Job,
    go_on: &dyn Fn() -> bool,
) -> Option<Result<Vec<TokenId>, ModelError>> {
    let judge = job.judge.as_ref().filter(|judge| judge.rows > 1 || model.has_head())?;
    let vocab = model.config().vocab;
    let count = judge.sampling.looks_at(vocab).filter(|count| *count <= MAX_LIKELIEST)?;
    if judge.rows > 1 {
        return Some(choose_each(model, job, judge, count, go_on));
    }
    let apart = judge.sampling.penalized(&judge.recent, vocab);
    let known = model.likeliest_while(
        &job.tokens,
        job.first,
        &job.sequence,
        Wanted { count, apart: &apart },
        go_on,
    );
    let position = job.first + job.tokens.len();
    Some(known.map(|mut known| {
        vec![judge.sampling.sample_likely(&mut known, &judge.recent, position, vocab)]
    }))
}

/// The same for several rows, without holding all their logits in memory at once.
fn choose_each(
    model: &Model,
    job: &Job,
    judge: &Judge,
    count: usize,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<TokenId>, ModelError> {
    let (vocab, first) = (model.config().vocab, job.tokens.len().saturating_sub(judge.rows));
    // The first row's own token is among the recent ones already.
    let recent: Vec<TokenId> =
        judge.recent.iter().chain(&job.tokens[first + 1..]).copied().collect();
    let before = |row: usize| &recent[..judge.recent.len() + row];
    let rows = job.tokens.len() - first;
    let apart: Vec<Vec<u32>> =
        (0..rows).map(|row| judge.sampling.penalized(before(row), vocab)).collect();
    let wanted: Vec<Wanted<'_>> = apart.iter().map(|apart| Wanted { count, apart }).collect();
    let known =
        model.likeliest_of_each_while(&job.tokens, job.first, &job.sequence, &wanted, go_on)?;
    let chosen = known.into_iter().enumerate().map(|(row, mut known)| {
        judge.sampling.sample_likely(&mut known, before(row), job.first + first + row + 1, vocab)
    });
    Ok(chosen.collect())
}

/// The token that follows each judged row. It is what decoding one by one would choose, because
/// every row sees the tokens before it and its own position.
fn choose(judge: &Judge, job: &Job, mut logits: Vec<f32>) -> Vec<TokenId> {
    let first = job.tokens.len().saturating_sub(judge.rows);
    let rows = job.tokens.len() - first;
    let vocab = (logits.len() / rows.max(1)).max(1);
    let mut recent = judge.recent.clone();
    let rows = logits.chunks_exact_mut(vocab).zip(first..);
    let chosen = rows.map(|(logits, at)| {
        // The first row's own token is among the recent ones already.
        if at > first {
            recent.push(job.tokens[at]);
        }
        judge.sampling.sample(logits, &recent, job.first + at + 1)
    });
    chosen.collect()
}

/// An id that no job has: nodes count theirs from 1.
const NO_JOB: u64 = u64::MAX;

/// Handles to the engine's thread, which ends when the sender is dropped.
pub(crate) struct Engine {
    pub(super) jobs: Sender<Job>,
    pub(super) done: Receiver<JobDone>,
    /// The job that was abandoned last. One is enough, because at most one is under way.
    abandoned: Arc<AtomicU64>,
}

impl Engine {
    /// Starts the thread. It is pinned to `cpu` if one is given, and keeps another machine's pace
    /// if `paced` is given.
    pub(crate) fn start(
        model: Model,
        cpu: Option<usize>,
        paced: Option<Arc<Paced>>,
    ) -> std::io::Result<Engine> {
        let (jobs, inbox) = bounded::<Job>(1);
        let (outbox, done) = bounded(1);
        let abandoned = Arc::new(AtomicU64::new(NO_JOB));
        let given_up = abandoned.clone();
        thread::Builder::new().name("engine".to_string()).spawn(move || {
            keep(cpu);
            while let Ok(job) = inbox.recv_blocking() {
                let go_on = || given_up.load(Ordering::Relaxed) != job.id;
                let done = match &paced {
                    Some(paced) => paced.run(&model, &job, &go_on),
                    None => run_job_while(&model, &job, &go_on),
                };
                if outbox.send_blocking(done).is_err() {
                    break;
                }
            }
        })?;
        Ok(Engine { jobs, done, abandoned })
    }

    /// Makes this job end within one layer's time, whether it is running or has not started yet. No
    /// other job is affected.
    pub(super) fn abandon(&self, job: u64) {
        self.abandoned.store(job, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
