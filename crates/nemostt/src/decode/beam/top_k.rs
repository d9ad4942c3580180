// SPDX-License-Identifier: MIT OR Apache-2.0

//! The highest of a row of scores.

/// Fills `found` with the `count` highest of `scores` and their indices, the highest first, and the first of equals first.
pub(super) fn top_k(scores: &[f32], count: usize, found: &mut Vec<(usize, f32)>) {
    found.clear();
    if count == 0 {
        return;
    }
    for (index, &score) in scores.iter().enumerate() {
        if found.len() == count {
            match found.last() {
                Some(&(_, lowest)) if score > lowest => found.pop(),
                _ => continue,
            };
        }
        let place = found.partition_point(|&(_, other)| other >= score);
        found.insert(place, (index, score));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_come_first_and_first_of_equals() {
        let mut found = Vec::new();
        top_k(&[1.0, 5.0, 3.0, 5.0, 0.0, 3.0], 4, &mut found);
        assert_eq!(found, [(1, 5.0), (3, 5.0), (2, 3.0), (5, 3.0)]);
        top_k(&[1.0, 2.0], 5, &mut found);
        assert_eq!(found, [(1, 2.0), (0, 1.0)]);
        top_k(&[1.0, 2.0], 0, &mut found);
        assert!(found.is_empty());
    }
}
