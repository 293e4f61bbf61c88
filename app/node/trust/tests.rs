//! How a node judges its peers by their behaviour.

use super::*;

const PEER: NodeId = NodeId(1);
const MINUTE: u64 = 60_000;

/// Below this a peer is on trial.
const TRIAL: f32 = 0.5;

fn goodput(bytes: u64, ms: u64) -> Sample {
    Sample::Goodput { bytes, elapsed: Millis(ms) }
}

fn rate(trust: &Trust, now: u64) -> f32 {
    trust.of(PEER, Millis(now)).bytes_per_ms.unwrap()
}

#[test]
fn an_untried_peer_has_no_rate_and_no_record() {
    let trust = Trust::new(Some(100.0), 0);
    assert_eq!(
        trust.of(PEER, Millis(5)),
        PeerEstimate { bytes_per_ms: None, round_trip_ms: None, worth: 1.0 }
    );
    assert_eq!(trust.prefill_ms_per_token(), Some(10.0));
    assert_eq!(Trust::new(Some(0.0), 0).prefill_ms_per_token(), None);
}

#[test]
fn a_peer_that_slows_down_is_noticed_within_a_few_fetches() {
    let mut trust = Trust::new(None, 0);
    trust.sample(PEER, goodput(260_000, 100), true, Millis(0));
    assert_eq!(rate(&trust, 0), 2_600.0);
    for _ in 0..5 {
        trust.sample(PEER, goodput(26_000, 100), true, Millis(10));
    }
    assert!(rate(&trust, 10) < 1_000.0, "{}", rate(&trust, 10));
    for _ in 0..5 {
        trust.sample(PEER, goodput(0, 300), true, Millis(10));
    }
    assert!(rate(&trust, 10) < 300.0, "silence lowers the rate too: {}", rate(&trust, 10));
}

#[test]
fn a_slow_peer_is_still_slow_a_minute_later_and_an_old_rate_drifts_to_the_prior() {
    let mut trust = Trust::new(None, 0);
    trust.sample(PEER, goodput(1_000, 100), true, Millis(0));
    assert!(rate(&trust, MINUTE) < 20.0, "{}", rate(&trust, MINUTE));
    let later: Vec<f32> = (0..100).map(|minute| rate(&trust, minute * MINUTE)).collect();
    assert!(later.is_sorted() && (500.0..1_000.0).contains(&later[99]), "{later:?}");
    let mut fast = Trust::new(None, 0);
    fast.sample(PEER, goodput(10_000_000, 100), true, Millis(0));
    assert!(rate(&fast, MINUTE) > 50_000.0 && rate(&fast, 100 * MINUTE) < 2_000.0);
    // A new measurement outweighs a very old one.
    fast.sample(PEER, goodput(5_000, 100), true, Millis(200 * MINUTE));
    assert!(rate(&fast, 200 * MINUTE) < 60.0, "{}", rate(&fast, 200 * MINUTE));
}

#[test]
fn a_shared_link_raises_a_rate_but_does_not_lower_it() {
    let mut trust = Trust::new(None, 0);
    trust.sample(PEER, goodput(30_000, 100), false, Millis(0));
    assert_eq!(rate(&trust, 0), 300.0, "a shared sample is a lower bound");
    trust.sample(PEER, goodput(230_000, 100), true, Millis(0));
    let alone = rate(&trust, 0);
    trust.sample(PEER, goodput(30_000, 100), false, Millis(0));
    assert_eq!(rate(&trust, 0), alone);
    trust.sample(PEER, goodput(900_000, 100), false, Millis(0));
    assert!(rate(&trust, 0) > alone);
}

#[test]
fn a_peer_that_is_absent_every_time_is_on_trial_and_one_false_positive_is_not() {
    let mut trust = Trust::new(None, 0);
    trust.absent(PEER, Millis(0));
    assert!(trust.of(PEER, Millis(0)).worth >= TRIAL);
    trust.absent(PEER, Millis(0));
    assert!(trust.of(PEER, Millis(0)).worth < TRIAL);
    for prompt in 1..50 {
        let now = Millis(prompt * 10_000);
        let worth = trust.of(PEER, now).worth;
        assert!(worth < TRIAL && worth > 0.05, "{worth} before prompt {prompt}");
        trust.absent(PEER, now);
    }
    let now = Millis(600_000);
    (0..4).for_each(|_| trust.delivered(PEER, now));
    assert!(trust.of(PEER, now).worth >= TRIAL, "four delivered planes make up for it");
}

#[test]
fn stalls_and_cut_connections_weigh_more_and_time_heals_them() {
    let (mut stalled, mut cut) = (Trust::new(None, 0), Trust::new(None, 0));
    stalled.stalled(PEER, Millis(0));
    cut.cut(PEER, Millis(0));
    let worth = |trust: &Trust, now| trust.of(PEER, Millis(now)).worth;
    assert!(worth(&stalled, 0) < worth(&cut, 0) && worth(&cut, 0) < TRIAL);
    assert!(worth(&stalled, MINUTE) < TRIAL && worth(&stalled, 2 * MINUTE) >= TRIAL);
    for _ in 0..1_000 {
        stalled.stalled(PEER, Millis(0));
    }
    assert!(worth(&stalled, 0) > 0.05, "still tried");
    assert!(worth(&stalled, 4 * MINUTE) >= TRIAL, "and soon found to be working again");
}

#[test]
fn a_liar_is_not_asked_for_ten_minutes_whatever_it_does() {
    let mut trust = Trust::new(None, 0);
    trust.fault(PEER, &Fault::Digest(1), Millis(0));
    (0..100).for_each(|_| trust.delivered(PEER, Millis(0)));
    trust.forget(PEER);
    assert_eq!(trust.of(PEER, Millis(9 * MINUTE)).worth, 0.0);
    let later = trust.of(PEER, Millis(11 * MINUTE)).worth;
    assert!(later > 0.05 && later < TRIAL, "on trial: {later}");
    trust.lied(PEER, Millis(11 * MINUTE));
    assert_eq!(trust.of(PEER, Millis(20 * MINUTE)).worth, 0.0);
    let mut silent = Trust::new(None, 0);
    silent.fault(PEER, &Fault::Epoch { ours: 1, theirs: 2 }, Millis(0));
    silent.fault(PEER, &Fault::Stalled, Millis(0));
    assert!(silent.of(PEER, Millis(0)).worth > 0.05, "that was no lie");
}

#[test]
fn what_two_peers_bring_together_is_the_rate_of_the_link() {
    let mut trust = Trust::new(None, 0);
    for chunk in 0..200 {
        trust.landed(NodeId(1 + chunk % 2), 16_384, Millis(6 * chunk));
    }
    let link = trust.link_bytes_per_ms(Millis(1_200)).unwrap();
    assert!((2_600.0..2_900.0).contains(&link), "{link}");
    // A window with little to carry hardly lowers it, and time raises it.
    for chunk in 0..20 {
        trust.landed(NodeId(1 + chunk % 2), 16_384, Millis(2_000 + 40 * chunk));
    }
    let after = trust.link_bytes_per_ms(Millis(2_760)).unwrap();
    assert!(after < link && after > 0.4 * link, "{after} of {link}");
    assert!(trust.link_bytes_per_ms(Millis(10 * MINUTE)).unwrap() > 1.9 * after);
}

#[test]
fn one_peer_alone_or_one_with_a_hanger_on_says_nothing_about_the_link() {
    let mut trust = Trust::new(None, 0);
    for chunk in 0..200 {
        trust.landed(NodeId(1), 16_384, Millis(6 * chunk));
        if chunk % 10 == 0 {
            trust.landed(NodeId(2), 100, Millis(6 * chunk));
        }
    }
    assert_eq!(trust.link_bytes_per_ms(Millis(1_200)), None);
    // Nor do peers that deliver one after the other.
    for chunk in 0..20 {
        trust.landed(NodeId(1 + chunk % 2), 16_384, Millis(10_000 + 100 * chunk));
    }
    assert_eq!(trust.link_bytes_per_ms(Millis(12_000)), None);
    assert!(trust.alone(NodeId(2), Millis(11_850)) && !trust.alone(NodeId(2), Millis(11_800)));
}

#[test]
fn more_peers_than_the_table_holds_are_forgotten_the_longest_silent_first() {
    let mut trust = Trust::new(None, 0);
    for node in 0..3 * LEAST_PEERS as u64 {
        trust.sample(NodeId(node), Sample::RoundTrip(Millis(5)), true, Millis(node));
        trust.lied(NodeId(0), Millis(node));
    }
    assert_eq!((trust.peers.len(), trust.by_age.len()), (LEAST_PEERS, LEAST_PEERS));
    let known = |node| trust.of(NodeId(node), Millis(1_000)).round_trip_ms.is_some();
    assert!(known(0) && !known(1) && known(3 * LEAST_PEERS as u64 - 1));
    trust.forget(NodeId(3 * LEAST_PEERS as u64 - 1));
    assert_eq!((trust.peers.len(), trust.by_age.len()), (LEAST_PEERS - 1, LEAST_PEERS - 1));
}

#[test]
fn the_own_speed_is_smoothed_by_whole_steps_and_never_grows_old() {
    let mut trust = Trust::new(None, 0);
    trust.prefilled(15, 1);
    assert_eq!(trust.prefill_ms_per_token(), None, "steps below a block are ignored");
    trust.prefilled(64, 640_000);
    assert_eq!(trust.prefill_ms_per_token(), Some(10.0));
    trust.prefilled(16, 320_000);
    assert_eq!(trust.prefill_ms_per_token(), Some(10.625));
    trust.prefilled(64, 1_280_000);
    assert!(trust.prefill_ms_per_token().unwrap() > 12.0);
}

/// A node that was slowed down must not hold its steps back for as long as they took then.
#[test]
fn a_step_that_is_much_quicker_is_believed_at_once_and_a_slower_one_by_and_by() {
    let mut trust = Trust::new(None, 0);
    trust.prefilled(64, 64 * 30_000);
    trust.prefilled(16, 16 * 1_000);
    assert_eq!(trust.prefill_ms_per_token(), Some(1.0));
    trust.prefilled(64, 64 * 30_000);
    assert!(trust.prefill_ms_per_token().is_some_and(|ms| ms > 1.0 && ms < 10.0));
    assert_eq!(trust.quickest_ms_per_token(), Some(1.0), "it may be as fast again");
}

/// What a peer has answered changes while it answers, so it is never left alone for good; and its
/// habits say nothing about what it has answered before.
#[test]
fn a_peer_that_is_asked_in_vain_is_left_alone_for_a_minute() {
    let mut trust = Trust::new(None, 0);
    let promise = |trust: &Trust, now| trust.promise(PEER, Millis(now));
    let untried = promise(&trust, 0).unwrap();
    for asked in 1..=VAIN_ANSWERS {
        let before = promise(&trust, 0).unwrap();
        trust.asked_in_vain(PEER, false, Millis(0));
        assert!(promise(&trust, 0).is_none_or(|promise| promise < before), "{asked} times");
    }
    assert_eq!((promise(&trust, 0), promise(&trust, MINUTE - 1)), (None, None));
    assert!(promise(&trust, MINUTE).is_some(), "one more question");
    trust.asked_in_vain(PEER, false, Millis(MINUTE));
    assert_eq!(promise(&trust, 2 * MINUTE - 1), None);
    trust.guessed(PEER, 6, true, Millis(2 * MINUTE));
    assert!(promise(&trust, 2 * MINUTE).unwrap() > untried, "it was right");
    let mut trust = Trust::new(None, 0);
    (0..4).for_each(|_| trust.asked_in_vain(PEER, true, Millis(0)));
    assert_eq!(promise(&trust, 0), None, "wrong guesses count more than none");
    trust.guessed(PEER, 6, true, Millis(2 * MINUTE));
    assert!(trust.is_asked_for_drafts(PEER, Millis(2 * MINUTE)));
    assert_eq!(trust.drafts(PEER, Millis(2 * MINUTE)), draft::Record::SOUND);
    (0..4).for_each(|_| trust.drafted(PEER, 0, true, Millis(2 * MINUTE)));
    assert!(!trust.is_asked_for_drafts(PEER, Millis(2 * MINUTE)));
    assert!(promise(&trust, 2 * MINUTE).unwrap() > untried, "nor the reverse");
    trust.lied(PEER, Millis(2 * MINUTE));
    assert_eq!(promise(&trust, 2 * MINUTE), None, "a liar is not asked for anything");
}
