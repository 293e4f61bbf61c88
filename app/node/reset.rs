//! Reset over the air: how a node moves to a newer epoch, and how the node that was told to reset
//! learns which peers followed.
//!
//! A newer epoch, requested here or heard in any authentic datagram, is first saved
//! ([`Output::Persist`]). Once it is safely stored the node obeys: it forgets its peers, drops
//! every connection, drops its blocks if the reset says so, and announces itself in the new epoch.
//! That announcement is the acknowledgement. A node that cannot save still obeys but does not
//! acknowledge. It shares nothing until it can save, because after a power loss it would not know
//! of the reset.
//!
//! A node that has never obeyed a reset and holds nothing jumps to the swarm's epoch at once. Other
//! nodes move in bounded steps, so that no number heard once can take a swarm to the last possible
//! epoch. In a swarm without a key anyone on the network can order a reset, so there only the node
//! where the reset was typed drops its blocks.
//!
//! A prompt under way continues with the pages that it has. If the blocks were dropped it
//! stores nothing, because its results depend on state from before the reset. The next prompt
//! starts afresh.

use std::collections::BTreeSet;

use super::conns::Conns;
use super::event::Event;
use super::io::Output;
use super::shared::Shared;
use crate::id::{Epoch, EpochState, Millis, NodeId};
use crate::limits::{EPOCH_GAP_MS, MAX_EPOCH_STEP, MAX_JOIN_EPOCH, RESET_GRACE_MS, SAVE_RETRY_MS};
use crate::transfer::Hello;

/// The progress of a reset, for the person who requested it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResetNews {
    /// This node has obeyed, and now tells the swarm.
    Ordered {
        /// The swarm's epoch from now on.
        epochs: EpochState,
        /// Number of peers known before the reset.
        peers: usize,
    },
    /// This node could not save the epoch, and told nobody.
    Failed {
        /// Why it failed.
        reason: String,
    },
    /// A peer has obeyed the reset and saved the epoch.
    Acknowledged {
        /// The peer.
        node: NodeId,
    },
    /// All peers known before the reset have acknowledged, or the time for that has run out.
    Ended {
        /// How many of the peers known before have acknowledged.
        acknowledged: usize,
        /// The peers that have not.
        missing: Vec<NodeId>,
    },
}

/// The resets that this node knows of and those that it has obeyed.
#[derive(Default)]
pub(super) struct Resets {
    /// The furthest state heard of.
    heard: EpochState,
    /// A reset requested here that is not being saved yet; true if it also drops the blocks.
    asked: Option<bool>,
    saving: Option<Saving>,
    /// Earliest time of the next save.
    not_before: Millis,
    /// Resets obeyed although they could not be saved.
    unsaved: EpochState,
    round: Option<Round>,
}

struct Saving {
    epochs: EpochState,
    /// The peers known before, if the reset was requested here.
    known: Option<BTreeSet<NodeId>>,
}

/// The acknowledgements of one reset.
struct Round {
    epochs: EpochState,
    known: BTreeSet<NodeId>,
    acknowledged: BTreeSet<NodeId>,
    deadline: Millis,
}

/// How far a node at `own` moves when it hears of `heard`: all the way, or a bounded step.
fn towards(own: EpochState, heard: EpochState, newcomer: bool) -> EpochState {
    let step = if newcomer { MAX_JOIN_EPOCH } else { MAX_EPOCH_STEP };
    let epoch = heard.epoch.min(Epoch(own.epoch.0.saturating_add(step)));
    own.join(EpochState { epoch, store_epoch: heard.store_epoch.min(epoch) })
}

impl Resets {
    pub(super) fn on_reset(&mut self, store: bool, now: Millis) {
        let before = self.asked.unwrap_or(false);
        self.asked = Some(store || before);
        // A person does not wait for the next retry of saving what was heard.
        self.not_before = self.not_before.min(now + Millis(EPOCH_GAP_MS));
    }

    pub(super) fn on_reset_seen(&mut self, epochs: EpochState, shared: &Shared) {
        let own = shared.config.epochs;
        let newcomer = own == EpochState::default() && shared.cache.stats().entries == 0;
        self.heard = self.heard.join(towards(own, epochs, newcomer));
    }

    pub(super) fn deadline(&self, shared: &Shared) -> Option<Millis> {
        let waits = self.saving.is_none() && self.next_epochs(shared).is_some();
        let round = self.round.as_ref().map(|round| round.deadline);
        [waits.then_some(self.not_before), round].into_iter().flatten().min()
    }

    /// The next state to save, if any.
    fn next_epochs(&self, shared: &Shared) -> Option<EpochState> {
        let known = shared.config.epochs.join(self.heard);
        match self.asked {
            Some(store) => Some(known.next(store)),
            None => Some(known).filter(|known| *known != shared.config.epochs),
        }
    }

    /// Starts the save that is due, and ends a wait for acknowledgements that has run out.
    pub(super) fn advance(&mut self, shared: &mut Shared, now: Millis) {
        if let Some(round) = self.round.take_if(|round| round.deadline <= now) {
            round.end(shared);
        }
        if self.saving.is_some() || now < self.not_before {
            return;
        }
        let Some(epochs) = self.next_epochs(shared) else { return };
        let asked = self.asked.take().is_some();
        let known = asked.then(|| shared.catalog.peers().map(|peer| peer.node).collect());
        self.saving = Some(Saving { epochs, known });
        shared.out.push_back(Output::Persist(epochs));
    }

    /// Obeys the reset if it was saved, or if a peer ordered it. Returns whether the blocks were
    /// dropped; none if there was nothing to apply.
    pub(super) fn on_persisted(
        &mut self,
        epochs: EpochState,
        result: Result<(), String>,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Option<bool> {
        let Saving { known, .. } = self.saving.take_if(|saving| saving.epochs == epochs)?;
        let store = epochs.store_epoch == epochs.epoch;
        match (result, known) {
            (Ok(()), known) => {
                self.not_before = now + Millis(EPOCH_GAP_MS);
                let dropped = self.apply(epochs, known.is_some(), shared, conns, now);
                shared.config.epochs = epochs;
                shared.catalog.set_epochs(epochs, now);
                match known {
                    Some(known) => {
                        self.order(epochs, known, shared, now);
                        if store && shared.is_open() {
                            shared.report(Event::BlocksKept { by_peers: true });
                        }
                    }
                    None => shared.report(Event::SwarmReset {
                        epoch: epochs.epoch,
                        store: store && dropped.is_some(),
                    }),
                }
                Some(dropped.unwrap_or(false))
            }
            (Err(reason), Some(_)) => {
                self.not_before = now + Millis(SAVE_RETRY_MS);
                shared.out.push_back(Output::Reset(ResetNews::Failed { reason }));
                None
            }
            (Err(reason), None) => {
                self.not_before = now + Millis(SAVE_RETRY_MS);
                if self.unsaved.covers(epochs) {
                    return None;
                }
                let dropped = self.apply(epochs, false, shared, conns, now);
                shared.report(Event::ResetUnsaved {
                    epoch: epochs.epoch,
                    store: store && dropped.is_some(),
                    reason,
                });
                shared.catalog.forget_before(epochs, now);
                self.unsaved = self.unsaved.join(epochs);
                Some(dropped.unwrap_or(false))
            }
        }
    }

    /// Carries out the resets up to `epochs`, except for forgetting the peers. Drops all
    /// connections: new ones must be at this epoch. If a reset was for the blocks and may drop
    /// them, also drops the blocks and the audits queued for them. Returns whether it did; none if
    /// it must not. Only a person at this node forgives peers whose bytes were wrong, because such
    /// a peer could order a reset too.
    fn apply(
        &mut self,
        epochs: EpochState,
        asked_here: bool,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Option<bool> {
        conns.drop_all(Hello { epoch: epochs.epoch, ..shared.config.hello() }, shared);
        let ordered = epochs.store_epoch > shared.config.epochs.join(self.unsaved).store_epoch;
        let may_drop = asked_here || !shared.is_open();
        if ordered && may_drop {
            shared.cache.clear();
            shared.habits.clear();
            shared.audits.clear();
        } else if ordered {
            shared.report(Event::BlocksKept { by_peers: false });
        }
        if asked_here {
            shared.banned.clear();
        }
        // The filter must match the cache before the catalog announces it.
        shared.publish_changes(now);
        may_drop.then_some(ordered)
    }

    /// Announces a reset that this node has obeyed, and starts counting who follows.
    fn order(
        &mut self,
        epochs: EpochState,
        known: BTreeSet<NodeId>,
        shared: &mut Shared,
        now: Millis,
    ) {
        shared.catalog.order_reset(now);
        shared.out.push_back(Output::Reset(ResetNews::Ordered { epochs, peers: known.len() }));
        let deadline = now + Millis(u64::from(shared.catalog.interval_ms()) + RESET_GRACE_MS);
        self.round = Some(Round { epochs, known, acknowledged: BTreeSet::new(), deadline });
        self.handle_acknowledgements(shared);
    }

    pub(super) fn handle_acknowledgements(&mut self, shared: &mut Shared) {
        let Some(round) = &mut self.round else { return };
        for peer in shared.catalog.peers().filter(|peer| peer.epochs.covers(round.epochs)) {
            if round.acknowledged.insert(peer.node) {
                shared.out.push_back(Output::Reset(ResetNews::Acknowledged { node: peer.node }));
            }
        }
        if let Some(round) = self.round.take_if(|round| round.known.is_subset(&round.acknowledged))
        {
            round.end(shared);
        }
    }
}

impl Round {
    fn end(self, shared: &mut Shared) {
        let missing: Vec<NodeId> = self.known.difference(&self.acknowledged).copied().collect();
        let acknowledged = self.known.len() - missing.len();
        shared.out.push_back(Output::Reset(ResetNews::Ended { acknowledged, missing }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: u64, store_epoch: u64) -> EpochState {
        EpochState { epoch: Epoch(epoch), store_epoch: Epoch(store_epoch) }
    }

    /// One forged datagram in a swarm without a key must not prevent all later resets.
    #[test]
    fn far_epochs_are_approached_in_steps_and_reached() {
        assert_eq!(towards(state(3, 1), state(7, 5), false), state(7, 5));
        assert_eq!(towards(state(3, 3), state(7, 1), false), state(7, 3));
        let far = state(u64::MAX, u64::MAX);
        assert_eq!(towards(state(3, 1), far, false), state(3 + MAX_EPOCH_STEP, 3 + MAX_EPOCH_STEP));
        assert_eq!(
            towards(state(0, 0), state(1 << 40, 5), true),
            state(1 << 40, 5),
            "a newcomer joins at once"
        );
        assert_eq!(towards(state(0, 0), far, true), state(MAX_JOIN_EPOCH, MAX_JOIN_EPOCH));
        let mut own = state(0, 0);
        for _ in 0..5 {
            own = towards(own, state(4 * MAX_EPOCH_STEP + 9, 2), false);
        }
        assert_eq!(own, state(4 * MAX_EPOCH_STEP + 9, 2));
    }
}
