//! The engine at another machine's pace: every job is computed as usual, and then waits until that
//! machine would have finished it. For measurements only.
//!
//! Promise: a job never ends earlier than its computation really did, and an abandoned job
//! ends at the other machine's next layer. Jobs for which this machine was too slow to keep
//! the pace are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::Model;
use crate::node::{Job, JobDone, JobFault};
use crate::pace::Pace;

use super::engine::run_job_while;

/// A pace, and counters of how well it was kept.
#[derive(Debug)]
pub(crate) struct Paced {
    pace: Pace,
    jobs: AtomicU64,
    late: AtomicU64,
    latest_us: AtomicU64,
}

/// How often this machine was too slow for the pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PaceStats {
    /// Jobs that ran to their end.
    pub jobs: u64,
    /// Of those, how many took longer than they should have.
    pub late: u64,
    /// The longest delay.
    pub latest_us: u64,
}

impl Paced {
    pub(crate) fn new(pace: Pace) -> Paced {
        Paced {
            pace,
            jobs: AtomicU64::new(0),
            late: AtomicU64::new(0),
            latest_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn stats(&self) -> PaceStats {
        let [jobs, late, latest_us] =
            [&self.jobs, &self.late, &self.latest_us].map(|count| count.load(Ordering::Relaxed));
        PaceStats { jobs, late, latest_us }
    }

    /// Runs one job as the other machine would: computes it first, then waits for its
    /// layers one by one.
    #[expect(
        clippy::disallowed_methods,
        reason = "a pace makes layers as slow as another machine's"
    )]
    pub(super) fn run(&self, model: &Model, job: &Job, go_on: &dyn Fn() -> bool) -> JobDone {
        let start = Instant::now();
        let done = run_job_while(model, job, go_on);
        let rows = job.judge.as_ref().map_or(0, |judge| judge.rows);
        let cost = Duration::from_micros(self.pace.job_micros(job.first, job.tokens.len(), rows));
        let layers =
            (model.config().layers.len() * self.pace.passes(job.tokens.len())).max(1) as u32;
        let given_up = done.result == Err(JobFault::Abandoned);
        if !given_up {
            self.count(start.elapsed(), cost);
        }
        let mut result = done.result;
        for layer in 1..=layers {
            let end = cost * layer / layers;
            let left = end.saturating_sub(start.elapsed());
            if left.is_zero() {
                continue;
            }
            thread::sleep(left);
            if layer < layers && (given_up || !go_on()) {
                result = Err(JobFault::Abandoned);
                break;
            }
        }
        JobDone { result, micros: start.elapsed().as_micros() as u64, ..done }
    }

    fn count(&self, took: Duration, cost: Duration) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        if took > cost {
            self.late.fetch_add(1, Ordering::Relaxed);
            self.latest_us.fetch_max((took - cost).as_micros() as u64, Ordering::Relaxed);
        }
    }
}
