//! Rate limits per source address: a sustained rate and a burst.
//!
//! A token bucket for each of a few addresses. When all places are taken, a new address replaces
//! the one whose bucket has been full longest. If no bucket is full, further addresses share one
//! larger bucket, so that a sender with forged addresses is limited too.

use core::net::IpAddr;

use crate::id::Millis;
use crate::limits::{RATE_LIMIT_ADDRESSES, RATE_LIMIT_BURST_S, RATE_LIMIT_OTHERS};

/// A token in thousandths: earned per millisecond at one token a second.
const TOKEN: u64 = 1_000;

/// See the module header.
pub(crate) struct RateLimiter {
    per_s: u64,
    places: heapless::Vec<(IpAddr, Bucket), RATE_LIMIT_ADDRESSES>,
    others: Bucket,
}

#[derive(Clone, Copy)]
struct Bucket {
    per_s: u64,
    /// In thousandths.
    credit: u64,
    at: Millis,
}

impl Bucket {
    fn new(per_s: u64, now: Millis) -> Bucket {
        Bucket { per_s, credit: per_s * RATE_LIMIT_BURST_S * TOKEN, at: now }
    }

    fn refill(&mut self, now: Millis) {
        let earned = (now - self.at).0.saturating_mul(self.per_s);
        self.credit =
            self.credit.saturating_add(earned).min(self.per_s * RATE_LIMIT_BURST_S * TOKEN);
        self.at = self.at.max(now);
    }

    fn is_full(&self, now: Millis) -> bool {
        now >= self.at + Millis(1_000 * RATE_LIMIT_BURST_S)
    }

    fn allows(&mut self, cost: u64, now: Millis) -> bool {
        self.refill(now);
        let pays = self.credit >= cost;
        self.credit -= if pays { cost } else { 0 };
        pays
    }
}

impl RateLimiter {
    /// Allows `per_s` tokens a second from each address.
    pub(crate) fn new(per_s: u64) -> RateLimiter {
        RateLimiter {
            per_s,
            places: heapless::Vec::new(),
            others: Bucket::new(per_s * RATE_LIMIT_OTHERS, Millis(0)),
        }
    }

    /// Whether one more is allowed from `ip`, where `nodes` nodes are known: each has its
    /// own share.
    pub(crate) fn allows(&mut self, ip: IpAddr, nodes: usize, now: Millis) -> bool {
        let cost = TOKEN / nodes.clamp(1, TOKEN as usize) as u64;
        if let Some((_, bucket)) = self.places.iter_mut().find(|(known, _)| *known == ip) {
            return bucket.allows(cost, now);
        }
        if self.places.is_full() {
            let full =
                self.places.iter().enumerate().filter(|(_, (_, bucket))| bucket.is_full(now));
            let Some((at, _)) = full.min_by_key(|(_, (_, bucket))| bucket.at) else {
                return self.others.allows(cost, now);
            };
            self.places.swap_remove(at);
        }
        let mut bucket = Bucket::new(self.per_s, now);
        let allows = bucket.allows(cost, now);
        let _ = self.places.push((ip, bucket));
        allows
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
    }

    /// How many of 20 a millisecond get through within `ms` from then on.
    fn through(limiter: &mut RateLimiter, of: impl Fn(u64) -> u32, from: u64, ms: u64) -> u64 {
        (0..20 * ms)
            .filter(|number| limiter.allows(ip(of(*number)), 1, Millis(from + number / 20)))
            .count() as u64
    }

    #[test]
    fn one_address_gets_its_rate_and_no_other_pays_for_it() {
        let mut limiter = RateLimiter::new(50);
        let burst = 50 * RATE_LIMIT_BURST_S;
        assert_eq!(through(&mut limiter, |_| 1, 0, 10_000), burst + 499);
        assert!(
            (0..burst).all(|_| limiter.allows(ip(2), 1, Millis(10_000)))
                && !limiter.allows(ip(2), 1, Millis(10_000))
        );
        assert_eq!(through(&mut limiter, |_| 1, 60_000, 1), 20, "what was saved up meanwhile");
    }

    #[test]
    fn where_several_nodes_are_known_each_has_its_share() {
        let mut limiter = RateLimiter::new(50);
        assert_eq!(
            (0..10_000).filter(|_| limiter.allows(ip(1), 4, Millis(0))).count() as u64,
            4 * 50 * RATE_LIMIT_BURST_S
        );
    }

    #[test]
    fn invented_addresses_share_what_is_left_and_those_in_use_keep_their_places() {
        let mut limiter = RateLimiter::new(50);
        assert!(limiter.allows(ip(0), 1, Millis(0)));
        let all = through(&mut limiter, |number| 1 + number as u32, 0, 2_000);
        assert!(limiter.allows(ip(0), 1, Millis(2_000)), "known before");
        let most = RATE_LIMIT_ADDRESSES as u64 + 50 * RATE_LIMIT_OTHERS * (RATE_LIMIT_BURST_S + 2);
        assert!(all <= most, "{all} of 40,000");
        assert!(
            limiter.allows(ip(1_000_000), 1, Millis(10_000)),
            "places are given on when they are not used"
        );
    }
}
