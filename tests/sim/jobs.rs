//! What a node's outputs start outside it, and how that ends: jobs of its engine, epochs saved on
//! its card, and its prompts.

use potluck::id::EpochState;
use potluck::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};

use super::checks;
use super::host::{Figures, Happening, Task, TaskFault};
use super::world::{Event, Sim};

impl Sim {
    pub(super) fn closed(&mut self, who: usize, id: u64, answer: Result<Figures, String>) {
        let (now, received) = (self.now, self.net.received[who]);
        if self.stations[who].ledger.close(id, answer, now, received).is_none() {
            self.fail(&format!("node {who} ends prompt {id}, which is not open"));
        }
        if let Err(what) = checks::outcome_holds(self, who, id) {
            self.fail(&what);
        }
        self.count_deeds(who, id);
    }

    fn count_deeds(&mut self, who: usize, id: u64) {
        let Some(asked) = self.stations[who].ledger.closed.get(&id) else { return };
        let Some(deeds) = asked.deeds() else { return self.count("prompt refused") };
        deeds.into_iter().filter(|(_, done)| *done).for_each(|(deed, _)| self.count(deed));
    }

    pub(super) fn job_begins(&mut self, who: usize, task: Task) {
        let prefixes = match task.job.audits {
            Some(key) => self.audited(who, &key, &task),
            None => self.stations[who].ledger.prefixes(&task),
        };
        let Some(prefixes) = prefixes else {
            self.fail(&format!(
                "node {who} computes what nobody asked for: {} tokens from {}",
                task.tokens.len(),
                task.first
            ));
        };
        let now = self.now;
        let station = &mut self.stations[who];
        if station.engine.is_running() {
            self.fail(&format!("node {who} begins a job while one is under way"));
        }
        let at = station.engine.begin(task, prefixes, now);
        let life = station.life;
        self.heap.push(at, Event::JobEnds { who, life });
    }

    pub(super) fn job_abandoned(&mut self, who: usize, id: u64) {
        let now = self.now;
        let station = &mut self.stations[who];
        let life = station.life;
        if let Some(at) = station.engine.abandon(id, now) {
            self.count("job abandoned");
            self.heap.push(at, Event::JobEnds { who, life });
        }
    }

    pub(super) fn job_ends(&mut self, who: usize, life: u64) {
        if self.stations[who].life != life {
            return;
        }
        if self.stations[who].paused_until > self.now {
            let at = self.stations[who].paused_until;
            return self.heap.push(at, Event::JobEnds { who, life });
        }
        let now = self.now;
        let station = &mut self.stations[who];
        let Some((task, done, seen)) = station.engine.finish(now) else { return };
        let abandoned = matches!(&done.result, Err(TaskFault::Abandoned));
        if task.job.audits.is_some() {
            if let Err(what) = checks::job_holds(self, who, &seen, &Default::default()) {
                self.fail(&what);
            }
            return self.handle(who, Happening::Work(done));
        }
        let before =
            station.ledger.open.front().map(|asked| asked.computed.clone()).unwrap_or_default();
        // A node learns its rate from prefill steps that began after the change and ran
        // to their end.
        if let Some((since, computed)) = &mut station.rate_changed {
            let counts =
                !abandoned && task.tokens.len() >= BLOCK_TOKENS && now - done.micros >= *since;
            *computed += if counts { task.tokens.len() } else { 0 };
        }
        station.rate_changed =
            station.rate_changed.filter(|(_, computed)| *computed < PREFILL_STEP_TOKENS);
        station.ledger.worked(&task, abandoned, &seen);
        if let Err(what) = checks::job_holds(self, who, &seen, &before) {
            self.fail(&what);
        }
        self.handle(who, Happening::Work(done));
    }

    pub(super) fn card_saves(&mut self, who: usize, life: u64, epochs: EpochState) {
        let station = &mut self.stations[who];
        if station.life != life {
            return;
        }
        let result = if station.card_full { Err("the card is full".to_string()) } else { Ok(()) };
        if result.is_ok() {
            station.saved = epochs;
        }
        self.handle(who, Happening::Persisted { epochs, result });
    }
}
