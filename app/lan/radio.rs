//! A radio that is deaf though it is up: the kernel says that it is connected, but nothing arrives.
//! Drivers of small boards do this after days. When nothing is heard for some minutes although
//! peers were heard before, the node escalates: it rejoins the group, takes the interface down and
//! up, reloads the driver and, if allowed, reboots the board. Any sign of life ends this.

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{RADIO_DEAF_MS, RADIO_MOST_GAP_MS, RADIO_STEP_MS};

/// A recovery step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Join the group again.
    Rejoin,
    /// Take the interface down and up.
    Bounce,
    /// Reload the driver.
    Reload,
    /// Reboot the board.
    Reboot,
}

/// How often each step was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct RadioCounts {
    /// Rejoins of the group.
    pub rejoins: u64,
    /// Bounces of the interface.
    pub bounces: u64,
    /// Reloads of the driver.
    pub reloads: u64,
}

/// The state of a radio.
#[derive(Clone, Debug)]
pub(crate) struct Radio {
    may_reboot: bool,
    /// Whether peers were heard since the start.
    had_peers: bool,
    alive_at: Millis,
    /// Whether the gateway was asked for a sign of life during this silence.
    asked: bool,
    next: Step,
    at: Millis,
    /// Rounds of all steps without success.
    rounds: u32,
    counts: RadioCounts,
}

impl Radio {
    /// A radio on which nothing has been heard yet.
    pub(crate) fn new(may_reboot: bool, now: Millis) -> Radio {
        let (next, at, counts) =
            (Step::Rejoin, now + Millis(RADIO_DEAF_MS), RadioCounts::default());
        Radio {
            may_reboot,
            had_peers: false,
            alive_at: now,
            asked: false,
            next,
            at,
            rounds: 0,
            counts,
        }
    }

    /// A datagram arrived from another machine; `peer`: from one of the swarm.
    pub(crate) fn heard(&mut self, peer: bool, now: Millis) {
        self.had_peers |= peer;
        (self.alive_at, self.asked, self.next, self.rounds) = (now, false, Step::Rejoin, 0);
        self.at = now + Millis(RADIO_DEAF_MS);
    }

    /// The gateway has answered, so the radio is not what is silent.
    pub(crate) fn gateway_answers(&mut self, now: Millis) {
        self.heard(false, now);
    }

    /// Whether it has been silent for so long that the gateway should be asked for a sign of life.
    pub(crate) fn is_quiet(&self, now: Millis) -> bool {
        self.had_peers && now >= self.alive_at + Millis(RADIO_DEAF_MS / 3)
    }

    /// Notes that the gateway is being asked.
    pub(crate) fn asked(&mut self) {
        self.asked = true;
    }

    /// Whether it was asked in this silence; before that, what the system knows of it may be old.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked
    }

    /// How long nothing has been heard.
    pub(crate) fn silent_ms(&self, now: Millis) -> u64 {
        (now - self.alive_at).0
    }

    /// The step to try now, if any.
    pub(crate) fn poll(&mut self, now: Millis) -> Option<Step> {
        if !self.had_peers || now < self.at {
            return None;
        }
        let step = self.next;
        let gap = RADIO_STEP_MS
            .checked_shl(self.rounds)
            .map_or(RADIO_MOST_GAP_MS, |gap| gap.min(RADIO_MOST_GAP_MS));
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

    /// The steps of `minutes` minutes from `from` on, each with its minute.
    fn steps(radio: &mut Radio, from: u64, minutes: u64) -> Vec<(u64, Step)> {
        (from..from + minutes)
            .filter_map(|minute| {
                radio.poll(Millis(minute * 60_000)).map(|step| (minute - from, step))
            })
            .collect()
    }

    #[test]
    fn a_radio_that_falls_deaf_is_tried_step_by_step_and_left_alone_more_and_more() {
        let mut radio = Radio::new(true, Millis(0));
        radio.heard(true, Millis(0));
        let tried = steps(&mut radio, 0, 12);
        assert_eq!(
            tried,
            [
                (3, Step::Rejoin),
                (5, Step::Bounce),
                (7, Step::Reload),
                (9, Step::Reboot),
                (11, Step::Bounce)
            ]
        );
        let mut tame = Radio::new(false, Millis(0));
        tame.heard(true, Millis(0));
        let day = steps(&mut tame, 0, 24 * 60);
        assert!(day.iter().all(|(_, step)| *step != Step::Reboot), "it may not");
        assert!(
            day.len() < 40,
            "an access point that is off is no reason to reset the radio all day: {}",
            day.len()
        );
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
        assert_eq!(steps(&mut radio, 6, 4), [(3, Step::Rejoin)], "it starts over");
    }
}
