//! Which known word a mistyped one looks like.

/// The word of `known` that takes the fewest changes to get from `typed`; the first of equals.
pub fn nearest<T>(typed: &str, known: impl Iterator<Item = T>, word: impl Fn(&T) -> &str) -> Option<(T, usize)> {
    let counted = known.map(|item| {
        let changes = changes(typed, word(&item));
        (item, changes)
    });
    counted.min_by_key(|(_, changes)| *changes)
}

/// Characters to add, remove, replace or swap with their neighbour (optimal string alignment).
fn changes(one: &str, other: &str) -> usize {
    // A word of a file may be as long as the file; what makes it unlike any key is known long before.
    let one: Vec<char> = one.chars().take(2 * other.len() + 8).collect();
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut fewest = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                fewest = fewest.min(before[j - 2] + 1);
            }
            row.push(fewest);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_counts_one() {
        for (one, other, count) in
            [("slab", "slab", 0), ("slba", "slab", 1), ("sla", "slab", 1), ("slabb", "slab", 1), ("", "port", 4), ("x", "", 1)]
        {
            assert_eq!(changes(one, other), count, "{one} {other}");
        }
    }
}
