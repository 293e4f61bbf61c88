//! The invariants. They are checked on the nodes' own output and on what the engines and the
//! network saw, never with the code under test.

use std::collections::BTreeSet;

use potluck::limits::{MAX_CLOSING_CONNECTIONS, MAX_SERVED_CONNECTIONS, PREFILL_STEP_TOKENS};

use super::engine::Seen;
use super::heap::{MS, Micros};
use super::host::most_peers;
use super::ledger::{Answer, Asked};
use super::net::Handle;
use super::world::{Power, Sim};

/// How much later than computing alone an answer may be: a share in percent, the computing time of
/// some tokens, and a slack.
#[derive(Clone, Copy, Debug)]
pub struct Law2 {
    pub percent: u64,
    pub tokens: u64,
    pub slack: Micros,
}

impl Law2 {
    /// The node's promise: one prefill step and 5 %. (The slack covers clocks with whole
    /// milliseconds.)
    pub const PROMISED: Law2 =
        Law2 { percent: 5, tokens: PREFILL_STEP_TOKENS as u64, slack: 20 * MS };
}

/// What is checked, and how often.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Check after every event, or only at the end of each prompt.
    pub every_event: bool,
    pub law2: Option<Law2>,
    /// Peers lie in content: wrong tokens are allowed if the figures report foreign state.
    pub lies: bool,
    /// Prompts may be refused or fail.
    pub refusals: bool,
    /// A row computed for a prompt must hold the same bytes whenever it is read.
    pub own_bytes_win: bool,
    /// The engines compute hashes, so the right tokens are known.
    pub hashed: bool,
    /// Tokens that may be both computed and fetched where the two ends meet.
    pub seam: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            every_event: true,
            law2: None,
            lies: false,
            refusals: false,
            own_bytes_win: true,
            hashed: true,
            seam: PREFILL_STEP_TOKENS,
        }
    }
}

type Verdict = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Slots and pins add up, and nothing exceeds its limit.
pub fn node_holds(sim: &Sim, who: usize) -> Verdict {
    let station = &sim.stations[who];
    let status = station.host.status(sim.local(who));
    // If the model lacks a plane, there are no slots to count.
    let planes = ["global", "sliding"]
        .iter()
        .zip(&status.cache.planes)
        .filter(|(_, plane)| plane.slot_bytes > 0);
    for (name, plane) in planes {
        let adds_up = plane.held + plane.reserved <= plane.slots && plane.pinned <= plane.held;
        ensure(adds_up, || format!("node {who}: {name} slots do not add up: {plane:?}"))?;
    }
    ensure(status.cache.entries <= status.cache.capacity, || {
        format!("node {who}: {:?}", status.cache)
    })?;
    let (mut made, mut served) = (0, 0);
    let ends = sim.net.by_handle.range((who, Handle::LEAST)..(who + 1, Handle::LEAST));
    for (_, (_, side)) in ends.filter(|((_, handle), _)| matches!(handle, Handle::Node(_))) {
        made += usize::from(*side == 0);
        served += usize::from(*side == 1);
    }
    // Connections that are being refused hold no place, but stay open until their last
    // message is out.
    ensure(served <= MAX_SERVED_CONNECTIONS + MAX_CLOSING_CONNECTIONS, || {
        format!("node {who} serves {served} connections")
    })?;
    ensure(made <= most_peers(&station.config), || {
        format!("node {who} has made {made} connections")
    })?;
    ensure(status.peers.len() <= most_peers(&station.config), || {
        format!("node {who} lists {} peers", status.peers.len())
    })?;
    ensure(station.notes.len() < 5_000, || {
        format!("node {who} fills its log: {:?}", station.notes.last())
    })?;
    Ok(())
}

/// What a job saw: every page present, no concurrent writer, and no wrong bytes among those
/// computed locally.
pub fn job_holds(sim: &Sim, who: usize, seen: &Seen, computed: &BTreeSet<usize>) -> Verdict {
    ensure(seen.broken.is_empty(), || format!("node {who}: {:?}", seen.broken))?;
    ensure(seen.bad.is_empty() || sim.rules.lies, || {
        let notes = sim.stations[who].notes.iter().rev().take(3).collect::<Vec<_>>();
        format!(
            "node {who} computes on wrong bytes: {:?}; notes {notes:?}",
            &seen.bad[..seen.bad.len().min(5)]
        )
    })?;
    let own = seen.bad.iter().find(|(_, position)| computed.contains(position));
    ensure(own.is_none() || !sim.rules.own_bytes_win, || {
        format!("node {who} reads foreign bytes where it computed its own: {own:?}")
    })
}

/// A prompt's outcome: the right tokens, and figures that match what the engine did.
pub fn outcome_holds(sim: &Sim, who: usize, id: u64) -> Verdict {
    let Some(asked) = sim.stations[who].ledger.closed.get(&id) else {
        return Err(format!("prompt {id} is lost"));
    };
    let at = || format!("node {who}, prompt {id} of {} tokens", asked.prompt);
    let (tokens, figures) = match asked.answer.as_ref().expect("closed prompts have answers") {
        Answer::Failed(reason) => {
            return ensure(sim.rules.refusals, || format!("{}: refused: {reason}", at()));
        }
        Answer::Done { tokens, figures } => (tokens, figures),
    };
    let owned_up = figures.own + figures.from_peers() > 0 || !sim.rules.own_bytes_win;
    let excused = sim.rules.lies && !asked.bad.is_empty() && owned_up;
    ensure(asked.wrong_tokens == 0 || excused || !sim.rules.hashed, || {
        format!("{}: {} wrong tokens under {figures}", at(), asked.wrong_tokens)
    })?;
    ensure(figures.generated == tokens.len(), || {
        format!("{}: {} tokens came under {figures}", at(), tokens.len())
    })?;
    if asked.first_token_at.is_none() || asked.stopped {
        return Ok(());
    }
    let sum = figures.own + figures.from_peers() + figures.computed;
    ensure(sum == asked.prompt && figures.computed > 0, || {
        format!("{}: figures do not add up: {figures}", at())
    })?;
    provenance_holds(sim, asked).map_err(|what| format!("{}: {what} under {figures}", at()))?;
    law2_holds(sim, who, asked).map_err(|what| format!("{}: {what} under {figures}", at()))
}

/// The figures against what the engine read and wrote.
fn provenance_holds(sim: &Sim, asked: &Asked) -> Verdict {
    let Some(Answer::Done { figures, .. }) = &asked.answer else { return Ok(()) };
    let ran = asked.computed.range(..asked.prompt).count();
    ensure(figures.computed <= ran && ran <= figures.computed + sim.rules.seam, || {
        format!("the engine ran {ran} tokens")
    })?;
    let foreign: BTreeSet<usize> = asked
        .foreign
        .iter()
        .map(|(_, at)| *at)
        .filter(|at| *at < asked.prompt && !asked.computed.contains(at))
        .collect();
    ensure(foreign.len() <= figures.own + figures.from_peers(), || {
        format!("the state of {} tokens is foreign", foreign.len())
    })
}

/// An answer is never later than computing alone by more than the bound.
fn law2_holds(sim: &Sim, who: usize, asked: &Asked) -> Verdict {
    let (Some(law), Some(Answer::Done { figures, .. })) = (sim.rules.law2, &asked.answer) else {
        return Ok(());
    };
    if asked.disturbed || asked.private {
        return Ok(());
    }
    let engine = &sim.stations[who].engine;
    let tokens = (asked.prompt - figures.own) as u64;
    let steps = tokens.div_ceil(PREFILL_STEP_TOKENS as u64);
    let alone = tokens * engine.micros_per_token + steps * engine.micros_per_job;
    let bound =
        alone * (100 + law.percent) / 100 + law.tokens * engine.micros_per_token + law.slack;
    let took = asked.ttft_in_turn();
    ensure(took <= bound, || {
        format!("law 2: {} ms, alone {} ms, bound {} ms", took / MS, alone / MS, bound / MS)
    })
}

/// Nothing is pinned or reserved on any node, which must hold after every answer.
pub fn all_quiet(sim: &Sim) -> Verdict {
    for (who, station) in
        sim.stations.iter().enumerate().filter(|(_, station)| station.power == Power::On)
    {
        let planes = station.host.status(sim.local(who)).cache.planes;
        let quiet = planes.iter().all(|plane| plane.pinned + plane.reserved == 0);
        ensure(quiet, || {
            format!("node {who} holds on to pages: {planes:?}; notes {:?}", station.notes)
        })?;
    }
    Ok(())
}

/// Every prompt has its outcome.
pub fn all_answered(sim: &Sim) -> Verdict {
    for (who, station) in
        sim.stations.iter().enumerate().filter(|(_, station)| station.power == Power::On)
    {
        let open = station.ledger.open.front().map(|asked| asked.id);
        ensure(open.is_none(), || {
            format!("node {who} never answers prompt {open:?}; notes {:?}", station.notes)
        })?;
    }
    Ok(())
}

/// Pairs of nodes where the first should know the second's current filter but does not.
pub fn stale_pairs(sim: &Sim) -> Vec<(usize, usize)> {
    let on: Vec<usize> =
        (0..sim.stations.len()).filter(|who| sim.stations[*who].power == Power::On).collect();
    let statuses: Vec<_> =
        on.iter().map(|who| sim.stations[*who].host.status(sim.local(*who))).collect();
    let mut stale = Vec::new();
    for (one, mine) in statuses.iter().enumerate() {
        for (other, theirs) in statuses.iter().enumerate() {
            let config = |at: usize| &sim.stations[on[at]].config;
            let same = config(one).keys == config(other).keys
                && config(one).fingerprint == config(other).fingerprint;
            if one == other || !same {
                continue;
            }
            let known = mine.peers.iter().find(|peer| peer.node == theirs.node);
            let current = known.is_some_and(|peer| {
                peer.current && peer.shares && peer.generation == theirs.generation
            });
            // A distrusted peer's filter need not be known.
            if known.is_some_and(|peer| peer.distrusted) {
                continue;
            }
            if !current || mine.epoch != theirs.epoch {
                stale.push((on[one], on[other]));
            }
        }
    }
    stale
}
