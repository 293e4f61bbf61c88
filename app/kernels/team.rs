//! Cores that share the work of one call. Nothing here starts a thread: the owner of the threads
//! gives each a [`Worker`], and a team without workers does everything itself.
//!
//! A call is cut into parts, and each idle core takes the next one. A part computes the same bits
//! on any core, so the number of cores changes no result. The caller works too. At the end it waits
//! only for workers that are in the middle of a part: a worker that wakes late finds nothing left
//! and delays no one.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use super::Isa;

/// How often a worker polls for the next call before it sleeps: about 20 µs. Within a pass the next
/// call comes sooner, and waking a sleeping worker costs about as much.
const LOOKS: usize = 2_000;

type Work<'a> = &'a (dyn Fn(usize) + Sync);

#[derive(Clone, Copy)]
struct Job {
    work: Work<'static>,
    parts: usize,
}

#[derive(Default)]
struct State {
    /// The current call.
    job: Option<Job>,
    /// Workers that hold the job.
    active: usize,
    /// A part of the current call panicked on a worker.
    failed: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A call has started, or the team has ended.
    call: Condvar,
    /// The last worker has released a call.
    idle: Condvar,
    /// The next part to take.
    next: AtomicUsize,
    /// Counts calls, so that a worker can poll without the lock.
    calls: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_parts(&self, job: Job) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                return;
            }
            (job.work)(part);
        }
    }
}

/// Cores that work together on one call at a time, and the instruction set that they use.
pub struct Team {
    shared: Arc<Shared>,
    workers: usize,
    isa: Isa,
    /// Held during a call: meanwhile a second caller works alone.
    caller: Mutex<()>,
}

impl Team {
    /// Only the caller's core.
    pub fn alone() -> Team {
        Team::new(1).0
    }

    /// A team of `cores`, including the caller's, and the workers, each of which needs
    /// its own thread.
    pub fn new(cores: usize) -> (Team, Vec<Worker>) {
        let shared = Arc::new(Shared::default());
        let workers: Vec<Worker> = (1..cores).map(|_| Worker { shared: shared.clone() }).collect();
        (Team { shared, workers: workers.len(), isa: Isa::best(), caller: Mutex::new(()) }, workers)
    }

    /// The same team with another instruction set than the CPU's fastest.
    pub fn using(mut self, isa: Isa) -> Team {
        self.isa = isa;
        self
    }

    /// The instruction set that its cores use.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// How many cores share a call.
    pub(crate) fn cores(&self) -> usize {
        self.workers + 1
    }

    /// Runs `work(0)` to `work(parts - 1)`, each once, on any idle core, and returns when
    /// all are done.
    ///
    /// # Panics
    /// When a part does.
    pub(crate) fn each(&self, parts: usize, work: Work<'_>) {
        let caller = match self.caller.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if self.workers == 0 || parts <= 1 || caller.is_none() {
            (0..parts).for_each(work);
            return;
        }
        // SAFETY: only the lifetime changes. The job leaves `state` and every worker releases it
        // before this function ends, by return or by panic: `Call`'s drop ensures both.
        let work: Work<'static> = unsafe { core::mem::transmute::<Work<'_>, Work<'static>>(work) };
        let job = Job { work, parts };
        let call = Call::begin(&self.shared, job);
        self.shared.take_parts(job);
        drop(call);
        let failed = core::mem::take(&mut self.shared.lock().failed);
        assert!(!failed, "a part of the work panicked on another core");
    }

    /// Cuts `out` into runs of `run` values (the last may be shorter) and calls `work` once with
    /// each run and its number, on any idle core.
    ///
    /// # Panics
    /// When a call does.
    pub(crate) fn each_run(
        &self,
        out: &mut [f32],
        run: usize,
        work: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let (len, out) = (out.len(), Out::new(out));
        self.each(len.div_ceil(run), &|part| {
            let start = part * run;
            // SAFETY: the runs are within the array and disjoint, and each is handed out once.
            let part_of_out =
                unsafe { core::slice::from_raw_parts_mut(out.at(start), run.min(len - start)) };
            work(part, part_of_out);
        });
    }
}

/// An array that several cores write to, each in its own places.
#[derive(Clone, Copy)]
pub(super) struct Out(*mut f32);

// SAFETY: only a pointer; writers must keep their ranges disjoint.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    pub(super) fn new(array: &mut [f32]) -> Out {
        Out(array.as_mut_ptr())
    }

    /// A pointer to value `i`.
    ///
    /// # Safety
    /// The array has more than `i` values.
    pub(super) unsafe fn at(self, i: usize) -> *mut f32 {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.add(i) }
    }
}

impl core::fmt::Debug for Team {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Team({} cores)", self.cores())
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.calls.fetch_add(1, Ordering::Release);
        self.shared.call.notify_all();
    }
}

/// Keeps a job in `state` until dropped.
struct Call<'a>(&'a Shared);

impl<'a> Call<'a> {
    fn begin(shared: &'a Shared, job: Job) -> Call<'a> {
        let mut state = shared.lock();
        shared.next.store(0, Ordering::Relaxed);
        // A former call whose caller also panicked never read this.
        state.failed = false;
        state.job = Some(job);
        shared.calls.fetch_add(1, Ordering::Release);
        drop(state);
        shared.call.notify_all();
        Call(shared)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // Parts are short, so the other cores are about to finish: spin a while before sleeping.
        let mut state = self.0.lock();
        state.job = None;
        let mut looks = 0;
        while state.active > 0 {
            if looks < LOOKS {
                looks += 50;
                drop(state);
                (0..50).for_each(|_| spin_loop());
                state = self.0.lock();
            } else {
                state = self.0.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// One more core of a team, to be served by a thread.
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Works for the team until the team is dropped.
    pub fn serve(self) {
        let mut seen = 0;
        loop {
            (0..LOOKS)
                .take_while(|_| self.shared.calls.load(Ordering::Acquire) == seen)
                .for_each(|_| spin_loop());
            let mut state = self.shared.lock();
            while !state.closed && self.shared.calls.load(Ordering::Acquire) == seen {
                state = self.shared.call.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            seen = self.shared.calls.load(Ordering::Acquire);
            let Some(job) = state.job else { continue };
            state.active += 1;
            drop(state);
            let held = Held { shared: &self.shared, failed: true };
            self.shared.take_parts(job);
            held.end();
        }
    }
}

/// A worker's hold on a job.
struct Held<'a> {
    shared: &'a Shared,
    failed: bool,
}

impl Held<'_> {
    fn end(mut self) {
        self.failed = false;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.failed |= self.failed;
        state.active -= 1;
        if state.active == 0 {
            self.shared.idle.notify_all();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs `run` with a team of `cores`, whose threads end with it.
    pub(in crate::kernels) fn with_team(cores: usize, run: impl FnOnce(&Team)) {
        let (team, workers) = Team::new(cores);
        std::thread::scope(|scope| {
            for worker in workers {
                scope.spawn(move || worker.serve());
            }
            run(&team);
            drop(team);
        });
    }

    #[test]
    fn every_part_runs_once_whatever_the_number_of_cores() {
        for cores in [1, 2, 3, 8] {
            with_team(cores, |team| {
                assert_eq!(team.cores(), cores);
                for parts in [0, 1, 2, 7, 100] {
                    for _ in 0..50 {
                        let counts: Vec<AtomicUsize> =
                            (0..parts).map(|_| AtomicUsize::new(0)).collect();
                        team.each(parts, &|part| {
                            counts[part].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                    }
                }
            });
        }
    }

    #[test]
    fn runs_lie_one_behind_the_other() {
        for cores in [1, 3] {
            with_team(cores, |team| {
                for (len, run) in [(0, 5), (3, 5), (10, 5), (11, 5), (64, 1)] {
                    let mut out = vec![0f32; len];
                    team.each_run(&mut out, run, &|part, out| {
                        out.iter_mut().for_each(|value| *value += part as f32 + 1.0)
                    });
                    assert!(
                        out.iter().enumerate().all(|(i, value)| *value == (i / run) as f32 + 1.0)
                    );
                }
            });
        }
    }

    #[test]
    fn a_call_within_a_call_is_done_by_its_caller() {
        with_team(2, |team| {
            let count = AtomicUsize::new(0);
            team.each(4, &|_| {
                team.each(3, &|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!(count.load(Ordering::Relaxed), 12);
        });
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller() {
        for cores in [1, 2] {
            let (team, workers) = Team::new(cores);
            let threads: Vec<_> = workers
                .into_iter()
                .map(|worker| std::thread::spawn(move || worker.serve()))
                .collect();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                team.each(8, &|part| assert_ne!(part, 3, "the part that fails"));
            }));
            assert!(outcome.is_err());
            drop(team);
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }

    #[test]
    fn a_panic_on_every_core_is_forgotten_by_the_next_call() {
        let (team, workers) = Team::new(2);
        let threads: Vec<_> =
            workers.into_iter().map(|worker| std::thread::spawn(move || worker.serve())).collect();
        // Each core holds a part, so that neither takes both.
        let both = std::sync::Barrier::new(2);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.each(2, &|_| {
                both.wait();
                panic!("a part that fails");
            });
        }));
        assert!(outcome.is_err());
        let count = AtomicUsize::new(0);
        team.each(2, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop(team);
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}
