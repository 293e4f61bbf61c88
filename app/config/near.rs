//! Finds the known word that a mistyped one most resembles.

use strsim::osa_distance;

/// The word of `known` that takes the fewest changes to reach from `typed`, and how many. Swapping
/// two neighbours is one change. The first of equals wins.
pub(crate) fn nearest<T>(
    typed: &str,
    known: impl Iterator<Item = T>,
    word: impl Fn(&T) -> &str,
) -> Option<(T, usize)> {
    let counted = known.map(|item| {
        let word = word(&item);
        // A word may be as long as the file. Its first letters suffice to show that it is unlike
        // any key.
        let begin: String = typed.chars().take(2 * word.len() + 8).collect();
        let changes = osa_distance(&begin, word);
        (item, changes)
    });
    counted.min_by_key(|(_, changes)| *changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_counts_one_and_a_long_word_is_cut() {
        let keys = ["port", "slab"];
        let near = |typed: &str| nearest(typed, keys.into_iter(), |word| word);
        for typed in ["slba", "sla", "slabb", "slob"] {
            assert_eq!(near(typed), Some(("slab", 1)), "{typed}");
        }
        assert_eq!(near("port"), Some(("port", 0)));
        assert_eq!(near(""), Some(("port", 4)));
        assert!(near(&"x".repeat(1 << 20)).is_some_and(|(_, changes)| changes < 32));
    }
}
