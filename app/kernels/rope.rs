//! Rotary position embedding as in Hugging Face's Gemma 3, in f32: the pair (i, i + d/2) is rotated
//! by `position · inverse_frequency[i]`, where `inverse_frequency[i] = 1 / base^(2i/d) / factor`.
//!
//! Powers, sines and cosines come from the crate `libm` in f64, rounded to f32: the same on every
//! machine, and equal to a correctly rounded f32 library.

/// Cosines and sines for a run of positions.
#[derive(Clone, Debug)]
pub(crate) struct RopeTable {
    half: usize,
    /// positions × d/2 of (cosine, sine).
    turns: Vec<(f32, f32)>,
}

impl RopeTable {
    /// The rotations of `count` positions starting at `first`, for heads of `head_dim`
    /// values (even).
    pub(crate) fn new(
        base: f32,
        factor: f32,
        head_dim: usize,
        first: usize,
        count: usize,
    ) -> RopeTable {
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(2),
            "heads of {head_dim} values have no pairs"
        );
        let half = head_dim / 2;
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            1.0 / libm::pow(f64::from(base), f64::from(exponent)) as f32 / factor
        };
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let turn = |position: usize, frequency: f32| {
            let angle = f64::from(position as f32 * frequency);
            (libm::cos(angle) as f32, libm::sin(angle) as f32)
        };
        let turns = (first..first + count)
            .flat_map(|p| frequencies.iter().map(move |f| turn(p, *f)))
            .collect();
        RopeTable { half, turns }
    }

    /// The number of positions.
    pub(crate) fn positions(&self) -> usize {
        self.turns.len() / self.half
    }
}

/// Rotates every head of every token in place, then multiplies by `scale`.
///
/// # Shapes
/// x: positions × heads × head_dim.
pub(crate) fn rotate(table: &RopeTable, heads: usize, scale: f32, x: &mut [f32]) {
    let half = table.half;
    assert_eq!(
        x.len(),
        table.positions() * heads * half * 2,
        "{heads} heads of {} values",
        half * 2
    );
    for (token, turns) in x.chunks_exact_mut(heads * half * 2).zip(table.turns.chunks_exact(half)) {
        for head in token.chunks_exact_mut(half * 2) {
            let (low, high) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
                let (x, y) = (*a, *b);
                *a = (x * cos - y * sin) * scale;
                *b = (y * cos + x * sin) * scale;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what is right is computed another way")]
mod tests {
    use super::*;

    #[test]
    fn position_zero_turns_nothing() {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rotate(&RopeTable::new(1e4, 1.0, 4, 0, 1), 1, 1.0, &mut x);
        assert_eq!(x, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn pairs_are_half_a_head_apart_and_turn_by_position_over_factor() {
        let mut x = [1.0, 0.0, 0.0, 1.0];
        rotate(&RopeTable::new(1e4, 8.0, 4, 40, 1), 1, 0.5, &mut x);
        let (fast, slow) = (5.0f32, 0.05f32);
        let expected = [fast.cos(), -slow.sin(), fast.sin(), slow.cos()];
        for (x, expected) in x.iter().zip(expected) {
            assert!((x - 0.5 * expected).abs() < 1e-6, "{x} {expected}");
        }
    }

    #[test]
    fn a_table_is_the_same_wherever_it_starts() {
        let whole = RopeTable::new(1e6, 1.0, 20, 0, 50);
        let part = RopeTable::new(1e6, 1.0, 20, 30, 20);
        assert_eq!(part.turns[..], whole.turns[30 * 10..]);
        assert_eq!(part.positions(), 20);
    }
}
