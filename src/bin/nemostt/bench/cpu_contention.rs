// SPDX-License-Identifier: MIT OR Apache-2.0

//! CPU contention: whether other programs used the processor during a measurement, which makes all times longer.

/// Times are accurate to a few percent while other programs use the processor for less than this share of the time.
const BUSY: f64 = 0.05;

/// A line for the report if other programs used the processor for too large a `share` of the time, 0 to 1; else empty.
pub fn warning(share: Option<f64>) -> String {
    share.filter(|&share| share > BUSY).map_or(String::new(), |share| {
        format!(
            "The machine was busy: other programs used the processor for {:.0} % of the time. Measure again when it is idle.\n",
            100.0 * share
        )
    })
}

/// Nanoseconds that this thread ran and waited for a processor.
#[derive(Debug, Clone, Copy)]
pub struct SchedStats {
    ran: u64,
    waited: u64,
}

impl SchedStats {
    /// Up to now, as Linux reports it (Documentation/scheduler/sched-stats.rst); `None` on other systems.
    pub fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some(Self {
            ran: numbers.next()?.ok()?,
            waited: numbers.next()?.ok()?,
        })
    }

    /// Share of the time since `then` that was waiting, 0 to 1.
    pub fn waiting_since(self, then: Self) -> f64 {
        let (ran, waited) = (
            self.ran.saturating_sub(then.ran),
            self.waited.saturating_sub(then.waited),
        );
        match ran + waited {
            0 => 0.0,
            all => waited as f64 / all as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_a_share_of_the_time_since_then() {
        let at = |ran, waited| SchedStats { ran, waited };
        assert_eq!(at(400, 150).waiting_since(at(100, 50)), 0.25);
        assert_eq!(at(100, 50).waiting_since(at(100, 50)), 0.0);
    }
}
