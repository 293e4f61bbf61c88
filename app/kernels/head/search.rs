//! From bounds to the likeliest rows.

use super::super::isa::per_isa;
use super::{Isa, PARTS, QuantizedRows, Query, STEP, Split, Team, bounds, exact};

/// A row and its product, as `int8` defines it.
pub(crate) type Likely = (u32, f32);

/// Rows that a scan looks at together.
const RUN: usize = 16;

/// Of `count` wanted rows, so many times as many are computed first: their bounds say roughly which
/// they are.
const FIRST: usize = 3;

/// The least that are.
const FIRST_LEAST: usize = 16;

/// Of several tokens judged together, one row in so many may be left of each. It bounds what is kept
/// of them all. Real text leaves one in two hundred.
const MOST_LEFT: usize = 8;

/// Candidates that a core takes at a time.
const BATCH: usize = 32;

/// What is asked of one token.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Its activations: one row.
    pub x: &'a QuantizedRows,
    /// How many of the highest products are wanted; at least 1.
    pub count: usize,
    /// Rows whose products are wanted too, in order, each once.
    pub apart: &'a [u32],
}

/// For each token the products of the rows `apart` and of all others that can be among its `count`
/// highest, in the order of their numbers: every row that is not there is below at least `count` of
/// those that are. The upper halves are read once for all tokens. `None` where activations are
/// infinite, NaN or so large that products might be: nothing is known of them then; and for several
/// tokens where so many rows are left of one that all of them are better computed.
///
/// # Panics
/// Where an `x` is not one row of the matrix's columns, a `count` is 0, or an `apart` is not in
/// order, each once, and within the matrix.
pub(crate) fn likeliest(
    team: &Team,
    isa: Isa,
    m: Split<'_>,
    asked: &[Asked<'_>],
) -> Option<Vec<Vec<Likely>>> {
    for Asked { x, count, apart } in asked {
        assert!(
            x.rows() == 1 && x.cols == m.cols() && *count > 0,
            "one token of {} columns",
            m.cols()
        );
        assert!(
            apart.is_sorted_by(|a, b| a < b)
                && apart.last().is_none_or(|last| (*last as usize) < m.rows())
        );
    }
    if asked.is_empty() {
        return Some(Vec::new());
    }
    let queries: Vec<Query<'_>> =
        asked.iter().map(|asked| Query::new(asked.x)).collect::<Option<_>>()?;
    let mut all = all_bounds(team, isa, m, &queries);
    if let ([query], [asked]) = (queries.as_slice(), asked) {
        return Some(vec![among(team, isa, m, query, asked, &mut all, m.rows())?]);
    }
    let mut most = vec![0f32; m.rows()];
    let found = queries.iter().zip(asked).enumerate().map(|(number, (query, asked))| {
        for (most, all) in most.chunks_mut(STEP).zip(all.chunks(STEP * queries.len())) {
            most.copy_from_slice(&all[number * most.len()..][..most.len()]);
        }
        among(team, isa, m, query, asked, &mut most, m.rows() / MOST_LEFT)
    });
    found.collect()
}

/// One token's, from the bounds of all rows. `None` where more than `most_left` rows are left.
fn among(
    team: &Team,
    isa: Isa,
    m: Split<'_>,
    query: &Query<'_>,
    asked: &Asked<'_>,
    most: &mut [f32],
    most_left: usize,
) -> Option<Vec<Likely>> {
    let Asked { count, apart, .. } = *asked;
    let mut found = computed(team, isa, m, query, apart);
    for row in apart {
        most[*row as usize] = f32::NEG_INFINITY;
    }
    let first = highest(isa, most, (count * FIRST).max(FIRST_LEAST));
    let first_found = computed(team, isa, m, query, &first);
    for row in first {
        most[row as usize] = f32::NEG_INFINITY;
    }
    let floor = lowest_of_highest(&first_found, count);
    found.extend(first_found);
    let mut left = Vec::new();
    at_least(isa, most, floor, &mut left);
    if left.len() > most_left {
        return None;
    }
    found.extend(computed(team, isa, m, query, &left));
    found.sort_unstable_by_key(|(row, _)| *row);
    Some(found)
}

/// The bounds of all rows for each token, on all cores: of `STEP` rows for one token after the
/// other, then of the next.
fn all_bounds(team: &Team, isa: Isa, m: Split<'_>, queries: &[Query<'_>]) -> Vec<f32> {
    let mut out = vec![0f32; m.rows() * queries.len()];
    let parts = if team.cores() == 1 { 1 } else { team.cores() * PARTS };
    let run = m.rows().div_ceil(parts * STEP) * STEP;
    team.each_run(&mut out, run * queries.len(), &|part, out| {
        for (step, out) in out.chunks_mut(STEP * queries.len()).enumerate() {
            let rows = out.len() / queries.len();
            let first = part * run + step * STEP;
            for (query, out) in queries.iter().zip(out.chunks_mut(rows)) {
                bounds(isa, m.range(first..first + rows), query, out);
            }
        }
    });
    out
}

/// The products of some rows, on all cores.
fn computed(team: &Team, isa: Isa, m: Split<'_>, query: &Query<'_>, rows: &[u32]) -> Vec<Likely> {
    let mut out = vec![0f32; rows.len()];
    team.each_run(&mut out, BATCH, &|part, out| {
        exact(isa, m, query, &rows[part * BATCH..][..out.len()], out)
    });
    rows.iter().copied().zip(out).collect()
}

/// The `count`-th highest product, or minus infinity where there are fewer.
fn lowest_of_highest(found: &[Likely], count: usize) -> f32 {
    let mut values: Vec<f32> = found.iter().map(|(_, value)| *value).collect();
    if values.len() < count {
        return f32::NEG_INFINITY;
    }
    let (_, value, _) = values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    *value
}

/// Rows with the highest bounds, `count` of them or all that have one.
fn highest(isa: Isa, most: &[f32], count: usize) -> Vec<u32> {
    let mut kept = Vec::with_capacity(2 * count + RUN);
    let mut floor = f32::NEG_INFINITY;
    let mut from = 0;
    while from < most.len() {
        above(isa, most, floor, &mut from, 2 * count, &mut kept);
        if kept.len() >= 2 * count {
            kept.select_nth_unstable_by(count - 1, |a: &u32, b: &u32| {
                most[*b as usize].total_cmp(&most[*a as usize])
            });
            kept.truncate(count);
            floor = most[kept[count - 1] as usize];
        }
    }
    if kept.len() > count {
        kept.select_nth_unstable_by(count - 1, |a, b| {
            most[*b as usize].total_cmp(&most[*a as usize])
        });
        kept.truncate(count);
    }
    kept
}

#[inline(always)]
fn above_body(most: &[f32], floor: f32, from: &mut usize, enough: usize, kept: &mut Vec<u32>) {
    while *from < most.len() && kept.len() < enough {
        let run = &most[*from..most.len().min(*from + RUN)];
        let is_any = match run.first_chunk::<RUN>() {
            Some(run) => any(run, |bound| bound > floor),
            None => true,
        };
        if is_any {
            kept.extend(
                (*from as u32..).zip(run).filter(|(_, bound)| **bound > floor).map(|(row, _)| row),
            );
        }
        *from += RUN;
    }
}

per_isa! {
    /// Rows from `from` on whose bounds are above `floor`, until there are `enough`.
    fn above(most: &[f32], floor: f32, from: &mut usize, enough: usize, kept: &mut Vec<u32>) = above_body;
}

#[inline(always)]
fn at_least_body(most: &[f32], floor: f32, kept: &mut Vec<u32>) {
    let mut keep = |run: usize, bounds: &[f32]| {
        let rows = ((run * RUN) as u32..).zip(bounds);
        kept.extend(
            rows.filter(|(_, bound)| **bound >= floor && **bound > f32::NEG_INFINITY)
                .map(|(row, _)| row),
        );
    };
    let (runs, rest) = most.as_chunks::<RUN>();
    for (run, bounds) in runs.iter().enumerate() {
        if any(bounds, |bound| bound >= floor) {
            keep(run, bounds);
        }
    }
    keep(runs.len(), rest);
}

/// Whether any of a run is such; all are looked at, which takes several at a time.
#[inline(always)]
fn any(run: &[f32; RUN], is_such: impl Fn(f32) -> bool) -> bool {
    run.iter().fold(0u32, |any, bound| any | u32::from(is_such(*bound))) != 0
}

per_isa! {
    /// Rows that can reach `floor`, but those at minus infinity.
    fn at_least(most: &[f32], floor: f32, kept: &mut Vec<u32>) = at_least_body;
}
