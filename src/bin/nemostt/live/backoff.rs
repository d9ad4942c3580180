// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long to wait before a connection is opened again.

use std::time::Duration;

/// Before the first attempt.
const FIRST: Duration = Duration::from_millis(500);
/// Before any attempt at most.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double, so that a server that is down is not flooded.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait: three quarters to all of the nominal one, as `random` (0 to 1) decides, so that many clients of a server
    /// do not come back at the same moment.
    pub fn next(&mut self, random: f64) -> Duration {
        let nominal = self.next;
        self.next = (2 * nominal).min(LONGEST);
        nominal.mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0))
    }

    /// The connection was good.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 375);
    }
}
