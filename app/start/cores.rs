//! Which cores compute an answer: how many, on which CPUs, and with which instructions.

use std::io;
use std::thread;

use thiserror::Error;

use crate::config::{self, Instructions};
use crate::kernels::{Isa, Team};
use crate::limits::MAX_THREADS;

/// Why the cores cannot compute: each error says what to do.
#[derive(Debug, Error)]
pub(crate) enum CoresError {
    /// The system refuses more threads.
    #[error(
        "the system cannot start more threads ({0}): set fewer with --threads, or end other programs"
    )]
    Threads(io::Error),
    /// Instructions that this CPU lacks.
    #[error("this CPU does not support {asked} for --isa; it supports {has}")]
    Isa {
        /// The instruction set asked for.
        asked: &'static str,
        /// What the CPU has instead.
        has: String,
    },
    /// A CPU that does not exist, or that this process may not use.
    #[error("CPU {0} of --cpus does not exist, or this process may not use it; --cpus takes {1}")]
    Cpu(usize, String),
    /// A system that cannot pin threads.
    #[error("this system cannot pin threads to CPUs ({0}): leave out --cpus")]
    Unsupported(io::Error),
}

/// The cores that compute.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    threads: usize,
    /// The CPU of each thread, in turn; if empty, the system chooses.
    cpus: Vec<usize>,
    isa: Isa,
}

impl Cores {
    /// The cores that the settings ask for.
    pub(crate) fn new(settings: &config::Model) -> Result<Cores, CoresError> {
        let isa = match settings.isa {
            Instructions::Best => Isa::best(),
            Instructions::Named(asked) => {
                Isa::all().find(|isa| isa.name() == asked).ok_or_else(|| {
                    let names: Vec<_> = Isa::all().map(Isa::name).collect();
                    CoresError::Isa { asked, has: names.join(", ") }
                })?
            }
        };
        let cpus = settings.cpus.as_ref().map_or(Vec::new(), |cpus| cpus.numbers().to_vec());
        if !cpus.is_empty() {
            let usable = usable().map_err(CoresError::Unsupported)?;
            if let Some(cpu) = cpus.iter().find(|cpu| !usable.contains(cpu)) {
                let numbers: Vec<_> = usable.iter().map(usize::to_string).collect();
                return Err(CoresError::Cpu(*cpu, numbers.join(",")));
            }
        }
        Ok(Cores { threads: settings.threads.get(), cpus, isa })
    }

    /// A team of the configured number of cores. If that is 0, of the named CPUs, or else of all
    /// CPUs of this machine. Its threads end when the team is dropped.
    pub(crate) fn team(&self) -> Result<Team, CoresError> {
        let all = || thread::available_parallelism().map_or(1, usize::from);
        let cores = match (self.threads, self.cpus.len()) {
            (0, 0) => all().min(MAX_THREADS),
            (0, cpus) => cpus.min(MAX_THREADS),
            (threads, _) => threads,
        };
        let (team, workers) = Team::new(cores);
        for (i, worker) in workers.into_iter().enumerate() {
            let cpu = self.cpu(i + 1);
            let work = move || {
                keep(cpu);
                worker.serve();
            };
            thread::Builder::new()
                .name(format!("core-{}", i + 1))
                .spawn(work)
                .map_err(CoresError::Threads)?;
        }
        Ok(team.using(self.isa))
    }

    /// The CPU of the thread that calls the model.
    pub(crate) fn callers_cpu(&self) -> Option<usize> {
        self.cpu(0)
    }

    fn cpu(&self, core: usize) -> Option<usize> {
        self.cpus.get(core % self.cpus.len().max(1)).copied()
    }
}

/// Pins the calling thread to a CPU. If the CPU has gone since it was checked, the thread stays
/// where the system puts it: slower is better than no answer.
pub(crate) fn keep(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let _ = keep_to(cpu);
    }
}

#[cfg(target_os = "linux")]
fn keep_to(cpu: usize) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// The CPUs that the calling thread may run on.
#[cfg(target_os = "linux")]
fn usable() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..crate::limits::MAX_CPUS).filter(|cpu| set.is_set(*cpu)).collect())
}

#[cfg(not(target_os = "linux"))]
fn keep_to(_: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn usable() -> io::Result<Vec<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, key};

    fn cores(sets: &[(&str, &str)]) -> Result<Cores, CoresError> {
        let mut config = Config::default();
        sets.iter().for_each(|(name, value)| {
            config.set_option(key("model", name), &[value.to_string()]).unwrap()
        });
        Cores::new(&config.model)
    }

    #[test]
    fn instructions_are_chosen_by_the_names_of_the_kernels() {
        for isa in Isa::all() {
            assert_eq!(cores(&[("isa", isa.name())]).unwrap().team().unwrap().isa(), isa);
        }
        assert_eq!(cores(&[]).unwrap().team().unwrap().isa(), Isa::best());
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let refusal = cores(&[("isa", foreign)]).unwrap_err().to_string();
        assert!(refusal.contains("portable"), "{refusal}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn threads_stay_on_the_cpus_that_are_named() {
        let usable = usable().unwrap();
        let last = *usable.last().unwrap();
        let on = |cpu: Option<usize>| {
            let look = move || {
                keep(cpu);
                super::usable().unwrap()
            };
            thread::spawn(look).join().unwrap()
        };
        let cores = cores(&[("cpus", &last.to_string())]).unwrap();
        assert_eq!(on(cores.callers_cpu()), [last]);
        assert_eq!(on(cores.cpu(1)), [last], "more threads than CPUs share them");
        assert_eq!(
            cores.team().unwrap().cores(),
            1,
            "as many threads as CPUs, unless told otherwise"
        );
        assert_eq!(on(None), usable);
        let absent = (0..).find(|cpu| !usable.contains(cpu)).unwrap();
        assert!(
            super::tests::cores(&[("cpus", &absent.to_string())])
                .unwrap_err()
                .to_string()
                .contains(&absent.to_string())
        );
    }
}
