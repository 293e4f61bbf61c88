//! A radio that is deaf though it is up: the kernel says that it has joined its network, and nothing comes. Drivers of small boards do that
//! after days. When nobody was heard for some minutes although peers had been, the node tries more and more: it joins the group again, takes
//! the interface down and up, loads the driver anew, and, where it may, starts the board anew. Any sign of life ends that.

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{RADIO_DEAF_MS, RADIO_MOST_GAP_MS, RADIO_STEP_MS};

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Join the group again.
    Rejoin,
    /// Take the interface down and up.
    Bounce,
    /// Load the driver anew.
    Reload,
    /// Start the board anew.
    Reboot,
}

/// How often each was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct RadioCounts {
    /// Joined again.
    pub rejoins: u64,
    /// Down and up.
    pub bounces: u64,
    /// Driver loaded anew.
    pub reloads: u64,
}

/// What is known of a radio.
#[derive(Clone, Debug)]
pub(crate) struct Radio {
    may_reboot: bool,
    /// Peers were heard since the start.
    had_peers: bool,
    alive_at: Millis,
    /// The gateway was asked for a sign of life in this silence.
    asked: bool,
    next: Step,
    at: Millis,
    /// Rounds of all steps that came to nothing.
    rounds: u32,
    counts: RadioCounts,
}

impl Radio {
    /// One that nothing was heard on yet.
    pub(crate) fn new(may_reboot: bool, now: Millis) -> Radio {
        let (next, at, counts) = (Step::Rejoin, now + Millis(RADIO_DEAF_MS), RadioCounts::default());
        Radio { may_reboot, had_peers: false, alive_at: now, asked: false, next, at, rounds: 0, counts }
    }

    /// A datagram came from another machine; `peer`: from one of the swarm.
    pub(crate) fn heard(&mut self, peer: bool, now: Millis) {
        self.had_peers |= peer;
        (self.alive_at, self.asked, self.next, self.rounds) = (now, false, Step::Rejoin, 0);
        self.at = now + Millis(RADIO_DEAF_MS);
    }

    /// The gateway has answered: whoever is silent, it is not the radio.
    pub(crate) fn gateway_answers(&mut self, now: Millis) {
        self.heard(false, now);
    }

    /// Whether it has been silent for so long that the gateway should be asked for a sign of life.
    pub(crate) fn is_quiet(&self, now: Millis) -> bool {
        self.had_peers && now >= self.alive_at + Millis(RADIO_DEAF_MS / 3)
    }

    /// The gateway is being asked.
    pub(crate) fn asked(&mut self) {
        self.asked = true;
    }

    /// Whether it was asked before: what the system knew of it until then may be old.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked
    }

    /// For how long nothing was heard.
    pub(crate) fn silent_ms(&self, now: Millis) -> u64 {
        (now - self.alive_at).0
    }

    /// What to try now, if anything.
    pub(crate) fn poll(&mut self, now: Millis) -> Option<Step> {
        if !self.had_peers || now < self.at {
            return None;
        }
        let step = self.next;
        let gap = RADIO_STEP_MS.checked_shl(self.rounds).map_or(RADIO_MOST_GAP_MS, |gap| gap.min(RADIO_MOST_GAP_MS));
        self.at = now + Millis(gap);
        self.next = match step {
            Step::Rejoin => Step::Bounce,
            Step::Bounce => Step::Reload,
            Step::Reload if self.may_reboot => Step::Reboot,
            Step::Reload | Step::Reboot => {
                self.rounds = (self.rounds + 1).min(16);
                Step::Bounce
            }
        };
        match step {
            Step::Rejoin => self.counts.rejoins += 1,
            Step::Bounce => self.counts.bounces += 1,
            Step::Reload => self.counts.reloads += 1,
            Step::Reboot => {}
        }
        Some(step)
    }

    /// How often each step was tried.
    pub(crate) fn counts(&self) -> RadioCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of so many hours, with their minutes.
    fn steps(radio: &mut Radio, from: u64, minutes: u64) -> Vec<(u64, Step)> {
        (from..from + minutes)
            .filter_map(|minute| radio.poll(Millis(minute * 60_000)).map(|step| (minute - from, step)))
            .collect()
    }

    #[test]
    fn a_radio_that_falls_deaf_is_tried_step_by_step_and_left_alone_more_and_more() {
        let mut radio = Radio::new(true, Millis(0));
        radio.heard(true, Millis(0));
        let tried = steps(&mut radio, 0, 12);
        assert_eq!(tried, [(3, Step::Rejoin), (5, Step::Bounce), (7, Step::Reload), (9, Step::Reboot), (11, Step::Bounce)]);
        let mut tame = Radio::new(false, Millis(0));
        tame.heard(true, Millis(0));
        let day = steps(&mut tame, 0, 24 * 60);
        assert!(day.iter().all(|(_, step)| *step != Step::Reboot), "it may not");
        assert!(day.len() < 40, "an access point that is off is not a reason to shake the radio all day: {}", day.len());
        assert_eq!(tame.counts().rejoins, 1);
    }

    #[test]
    fn a_sign_of_life_begins_anew_and_a_node_that_never_had_peers_is_left_alone() {
        let mut lonely = Radio::new(true, Millis(0));
        assert!(steps(&mut lonely, 0, 600).is_empty() && !lonely.is_quiet(Millis(600 * 60_000)));
        let mut radio = Radio::new(true, Millis(0));
        radio.heard(true, Millis(0));
        assert_eq!(steps(&mut radio, 0, 6).len(), 2);
        assert!(radio.is_quiet(Millis(6 * 60_000)));
        radio.gateway_answers(Millis(6 * 60_000));
        assert_eq!(steps(&mut radio, 6, 4), [(3, Step::Rejoin)], "it was alive");
    }
}
