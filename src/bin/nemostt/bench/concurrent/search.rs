// SPDX-License-Identifier: MIT OR Apache-2.0

//! The search for the largest number of streams.

use crate::Result;

/// The result is smaller than the largest number by at most this part of it.
const PRECISION: f64 = 0.03;

/// The largest number up to `limit` for which `holds`, or 0: doubles it until it does not hold, then bisects.
pub fn largest(limit: usize, mut holds: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut kept, mut missed) = (0, None);
    let mut count = 1;
    loop {
        match holds(count)? {
            true => kept = count,
            false => missed = Some(count),
        }
        count = match missed {
            None if kept >= limit => return Ok(kept),
            None => (2 * kept).min(limit),
            Some(missed) if missed - kept <= tolerance(kept) => return Ok(kept),
            Some(missed) => kept.midpoint(missed),
        };
    }
}

fn tolerance(kept: usize) -> usize {
    ((kept as f64 * PRECISION) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found if a machine holds `capacity` streams, and what was tried.
    fn found(capacity: usize, limit: usize) -> (usize, Vec<usize>) {
        let mut tried = Vec::new();
        let found = largest(limit, |count| {
            tried.push(count);
            Ok(count <= capacity)
        });
        (found.unwrap(), tried)
    }

    #[test]
    fn doubles_then_bisects() {
        assert_eq!(found(11, 1000), (11, vec![1, 2, 4, 8, 16, 12, 10, 11]));
        assert_eq!(found(1, 1000), (1, vec![1, 2]));
        assert_eq!(found(0, 1000), (0, vec![1]));
    }

    #[test]
    fn is_precise_to_three_percent() {
        for capacity in 1..3000 {
            let (found, tried) = found(capacity, 10_000);
            assert!(
                found <= capacity && capacity - found <= capacity * 3 / 100,
                "{found} of {capacity}"
            );
            assert!(tried.len() <= 20, "{tried:?}");
        }
    }

    #[test]
    fn ends_at_the_limit() {
        assert_eq!(found(5000, 100), (100, vec![1, 2, 4, 8, 16, 32, 64, 100]));
    }

    #[test]
    fn an_error_ends_the_search() {
        let result = largest(10, |count| match count {
            4 => Err("no memory".into()),
            _ => Ok(true),
        });
        assert_eq!(result.unwrap_err().to_string(), "no memory");
    }
}
