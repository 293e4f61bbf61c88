//! The filter next to the socket: drops everything that is not a datagram of the node's swarm,
//! sealed with one of its keys, before the node wakes.
//!
//! The node's state machine checks everything that is due after each input. To stop a stranger's
//! flood from keeping it busy, datagrams pass through here first. Length, magic, version and swarm
//! are checked before any cryptography; a flood that passes those costs one tag check per datagram
//! and no more. Replays of the swarm's own datagrams pass at a limited rate per address
//! (`rate_limit`). Drops are counted, and logged at most once a minute.

use core::net::{IpAddr, SocketAddr};

use super::rate_limit::RateLimiter;
use super::wire::{self, Datagram};
use super::{CatalogFault, CatalogStats};
use crate::id::Millis;
use crate::keyring::Keyring;
use crate::limits::{DATAGRAMS_PER_S, FLOOD_DATAGRAMS, FLOOD_LOG_MS, MAX_VERSIONS_REPORTED};

/// See the module header.
pub struct Prefilter {
    keys: Keyring,
    /// The text of the last datagram.
    text: Datagram,
    /// Addresses whose other version was passed on to the node.
    versions: heapless::Vec<IpAddr, MAX_VERSIONS_REPORTED>,
    stats: CatalogStats,
    limiter: RateLimiter,
    /// Datagrams dropped since `since`, within a minute.
    dropped: u64,
    since: Option<Millis>,
}

impl Prefilter {
    /// A prefilter for a node with these keys.
    pub fn new(keys: Keyring) -> Prefilter {
        let (text, versions, stats) =
            (Datagram::new(), heapless::Vec::new(), CatalogStats::default());
        Prefilter {
            keys,
            text,
            versions,
            stats,
            limiter: RateLimiter::new(DATAGRAMS_PER_S),
            dropped: 0,
            since: None,
        }
    }

    /// Whether to pass the datagram to the node: it is one of its swarm, or the first of another
    /// version from this address.
    pub fn passes(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> bool {
        let ip = from.ip().to_canonical();
        let Err(fault) = wire::open(datagram, &self.keys, &mut self.text) else {
            let allowed = self.limiter.allows(ip, 1, now);
            if !allowed {
                self.stats.throttled += 1;
                self.stats.bytes_heard += datagram.len() as u64;
                self.dropped += 1;
            }
            return allowed;
        };
        if matches!(fault, CatalogFault::Version(_))
            && !self.versions.contains(&ip)
            && self.versions.push(ip).is_ok()
        {
            return true;
        }
        self.stats.count(fault);
        self.stats.bytes_heard += datagram.len() as u64;
        self.dropped += 1;
        false
    }

    /// How many datagrams were dropped in the past minute, if enough for a line in the log. Call it
    /// after each one.
    pub(crate) fn flood(&mut self, now: Millis) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        if now < since + Millis(FLOOD_LOG_MS) {
            return None;
        }
        self.since = Some(now);
        Some(core::mem::take(&mut self.dropped)).filter(|dropped| *dropped >= FLOOD_DATAGRAMS)
    }

    /// What was dropped, by fault.
    pub(crate) fn stats(&self) -> &CatalogStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::net::{config, udp};
    use super::*;
    use crate::catalog::{Catalog, CatalogConfig};

    fn prefilter() -> Prefilter {
        Prefilter::new(config(0).keys)
    }

    fn announcement(keys: Keyring) -> Datagram {
        Catalog::new(CatalogConfig { keys, ..config(1) }).poll_datagram(Millis(0)).unwrap()
    }

    #[test]
    fn only_what_the_swarm_said_wakes_the_node() {
        let mut prefilter = prefilter();
        let good = announcement(config(0).keys);
        assert!(prefilter.passes(udp(1), &good, Millis(0)));
        let mut damaged = good.clone();
        damaged[60] ^= 1;
        let other = announcement(Keyring::new(b"another", []));
        for junk in
            [&damaged[..], &other, b"noise", b"", &[0; 2_000], &good[..good.len() - 1], &good[..40]]
        {
            assert!(!prefilter.passes(udp(1), junk, Millis(0)));
        }
        let CatalogStats { foreign, other_swarm, forged, malformed, .. } = *prefilter.stats();
        assert_eq!((foreign, other_swarm, forged, malformed), (2, 1, 2, 2));
    }

    /// Each replay that passes wakes the node.
    #[test]
    fn recordings_of_the_swarm_pass_at_a_bounded_rate_from_each_address() {
        let mut prefilter = prefilter();
        let recorded = announcement(config(0).keys);
        let mut passed = [0; 2];
        for ms in 0..10_000 {
            let now = Millis(ms);
            passed[0] += (0..5).filter(|_| prefilter.passes(udp(1), &recorded, now)).count() as u64;
            passed[1] += u64::from(ms % 10 == 0 && prefilter.passes(udp(2), &recorded, now));
        }
        assert!((10 * DATAGRAMS_PER_S..=13 * DATAGRAMS_PER_S).contains(&passed[0]), "{passed:?}");
        assert_eq!((passed[1], prefilter.stats().throttled), (1_000, 50_000 - passed[0]));
    }

    #[test]
    fn another_version_is_passed_on_once_an_address_and_not_without_end() {
        let mut prefilter = prefilter();
        let mut older = announcement(config(0).keys);
        older[4] = 2;
        let passed = (0..200)
            .filter(|number| prefilter.passes(udp(number % 100), &older, Millis(0)))
            .count();
        assert_eq!(
            (passed, prefilter.stats().other_version),
            (MAX_VERSIONS_REPORTED, 200 - MAX_VERSIONS_REPORTED as u64)
        );
    }

    #[test]
    fn a_flood_is_told_a_line_a_minute_and_a_little_noise_is_not() {
        let mut prefilter = prefilter();
        let mut lines = Vec::new();
        for ms in 0..180_000 {
            let flooded = ms < 60_000;
            for _ in 0..if flooded || ms % 1_000 == 0 { 50 } else { 0 } {
                prefilter.passes(udp(1), b"junk", Millis(ms));
                lines.extend(prefilter.flood(Millis(ms)));
            }
        }
        assert!(matches!(lines[..], [one] if one > 2_900_000), "{lines:?}");
    }
}
