//! One damaged bit anywhere on the wire.

use proptest::prelude::*;

use super::super::Fault;
use super::pair::*;
use crate::kv::{Page, Plane};
use crate::limits::MAX_WANTS_IN_FLIGHT;

/// Blocks of equal size in both planes, so that only their content distinguishes them.
fn pair(bytes: usize) -> (Pair, Vec<(u32, Plane, Page)>) {
    let mut pair = Pair::new();
    let mut pages = Vec::new();
    for n in 1..3 {
        for plane in Plane::ALL {
            pages.push((n, plane, pair.want(n, plane, bytes, Answer::Found)));
        }
    }
    (pair, pages)
}

fn check(pair: &Pair, bytes: usize, pages: &[(u32, Plane, Page)]) {
    for (n, plane, page) in pages {
        if pair.ends.get(&(2 * n + *plane as u32)) == Some(&End::Done) {
            assert!(
                page.read()[..bytes] == content(*n, *plane, bytes)[..],
                "a wrong plane was taken for {n} {plane:?}"
            );
        }
    }
}

#[test]
fn any_damaged_bit_on_the_way_up_costs_at_most_the_connection() {
    let (mut clean, pages) = pair(300);
    clean.run(5_000).unwrap();
    check(&clean, 300, &pages);
    assert_eq!(clean.ends.len(), 4);
    for bit in 0..8 * clean.up.carried {
        let (mut pair, pages) = pair(300);
        pair.up.damage = Some(bit);
        let _: Result<(), Fault> = pair.run(5_000);
        check(&pair, 300, &pages);
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_damaged_bit_on_the_way_down_never_ends_in_a_wrong_plane(at in any::<prop::sample::Index>(), head in any::<bool>()) {
        let whole = 4 * 20_000 + 400;
        let bit = 8 * if head { at.index(140) } else { at.index(whole) } + at.index(8);
        let (mut pair, pages) = pair(20_000);
        pair.down.damage = Some(bit);
        let outcome = pair.run(7_000);
        check(&pair, 20_000, &pages);
        prop_assert!(outcome.is_err() || pair.ends.len() == 4 || pair.fetcher.room() < MAX_WANTS_IN_FLIGHT);
    }
}
