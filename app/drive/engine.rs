//! The engine: the model on a thread of its own, one job at a time.

use std::thread;
use std::time::Instant;

use smol::channel::{Receiver, Sender, bounded};

use crate::model::{Logits, Model};
use crate::node::{Job, JobDone};
use crate::start::keep;

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

/// Both ends of the engine's thread. The thread ends when the sender is dropped.
pub(crate) struct Engine {
    pub(super) jobs: Sender<Job>,
    pub(super) done: Receiver<JobDone>,
}

impl Engine {
    /// Its thread stays on `cpu`, where one is given.
    pub(crate) fn start(model: Model, cpu: Option<usize>) -> std::io::Result<Engine> {
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
