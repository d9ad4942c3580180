// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long something took, of any number of times, in a fixed amount of memory.
//!
//! Prometheus needs bounds that never change, so that histograms of several processes and instants can be added and
//! subtracted. HdrHistogram, whose quantiles are closer, has some thousand counters for the same range, which each lane
//! would have to copy under its lock.

use std::{array, time::Duration};

const BUCKETS: usize = 16;

/// Upper bounds of all buckets but the last, which has none: 1, 2 and 5 of each decade from 100 µs, below which no step of a
/// model is, to 10 s, after which a live stream is lost.
const BOUNDS_US: [u64; BUCKETS] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];

/// Counts times by size. Recording one allocates nothing.
///
/// Bounds are inclusive, as those of Prometheus are: 100, 200 and 500 µs, 1, 2 and 5 ms, and so on up to 10 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS + 1],
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// The upper bounds of all buckets but the last, which has none.
    pub fn bounds() -> [Duration; BUCKETS] {
        BOUNDS_US.map(Duration::from_micros)
    }

    /// Counts `time`.
    pub fn record(&mut self, time: Duration) {
        let bucket = BOUNDS_US.partition_point(|&bound| Duration::from_micros(bound) < time);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(time);
        self.max = self.max.max(time);
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many times are in each bucket, those beyond the last [bound](Self::bounds) last.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All times together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest time; zero without any.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The mean; zero without any.
    pub fn mean(&self) -> Duration {
        match self.count() {
            0 => Duration::ZERO,
            count => self.sum.div_f64(count as f64),
        }
    }

    /// An estimate of the time that a `share` of all times, 0 to 1, does not exceed; zero without any.
    ///
    /// It is in the same bucket as that time, at most [`max`](Self::max), and as far into the bucket as if its times were
    /// evenly spread, like `histogram_quantile` of Prometheus.
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut before = 0;
        for (bucket, &here) in self.counts.iter().enumerate() {
            if before + here >= rank {
                let lower = bucket.checked_sub(1).map_or(Duration::ZERO, bound);
                let upper = bound(bucket).min(self.max);
                let part = (rank - before) as f64 / here as f64;
                return lower + upper.saturating_sub(lower).mul_f64(part);
            }
            before += here;
        }
        Duration::ZERO
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts = array::from_fn(|bucket| self.counts[bucket] + other.counts[bucket]);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What was recorded since this histogram was as `earlier`. If none of that is the longest time so far, `max` is only a
    /// bound: the upper one of the last bucket with a time.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts: [u64; BUCKETS + 1] =
            array::from_fn(|bucket| self.counts[bucket].saturating_sub(earlier.counts[bucket]));
        let last = counts.iter().rposition(|&count| count > 0);
        let max = match last {
            Some(bucket) if self.max == earlier.max => bound(bucket).min(self.max),
            Some(_) => self.max,
            None => Duration::ZERO,
        };
        Self {
            counts,
            sum: self.sum.saturating_sub(earlier.sum),
            max,
        }
    }
}

/// The upper bound of a bucket.
fn bound(bucket: usize) -> Duration {
    BOUNDS_US
        .get(bucket)
        .map_or(Duration::MAX, |&bound| Duration::from_micros(bound))
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[Duration]) -> Histogram {
        let mut histogram = Histogram::default();
        times.iter().for_each(|&time| histogram.record(time));
        histogram
    }

    /// Times of all sizes, and often exactly those of a bound.
    fn time() -> impl Strategy<Value = Duration> {
        let bounds = prop::sample::select(BOUNDS_US.to_vec()).prop_map(Duration::from_micros);
        let any = (0_u32..36, any::<u64>()).prop_map(|(bits, number)| Duration::from_nanos(number >> (63 - bits)));
        prop_oneof![1 => bounds, 4 => any]
    }

    fn times() -> impl Strategy<Value = Vec<Duration>> {
        prop::collection::vec(time(), 0..60)
    }

    #[test]
    fn bounds_are_inclusive() {
        let us = Duration::from_micros;
        let histogram = of(&[us(0), us(100), us(101), us(200), us(10_000_000), us(10_000_001)]);
        let mut expected = [0; BUCKETS + 1];
        (expected[0], expected[1], expected[15], expected[16]) = (2, 2, 1, 1);
        assert_eq!(histogram.counts(), expected);
        assert_eq!(histogram.count(), 6);
        assert!(Histogram::bounds().is_sorted());
    }

    #[test]
    fn without_times_all_is_zero() {
        let none = Histogram::default();
        assert_eq!((none.mean(), none.quantile(0.99), none.max()), Default::default());
    }

    #[test]
    fn quantiles_are_spread_over_their_bucket() {
        let ms = Duration::from_millis;
        // Half of them are in 1 to 2 ms, half in 10 to 20 ms.
        let histogram = of(&[[ms(2); 10], [ms(20); 10]].concat());
        assert_eq!(histogram.quantile(0.25), Duration::from_micros(1_500));
        assert_eq!((histogram.quantile(0.5), histogram.quantile(1.0)), (ms(2), ms(20)));
        assert_eq!(histogram.quantile(0.75), ms(15));
        assert_eq!(histogram.mean(), ms(11));
    }

    #[test]
    fn recording_allocates_nothing() {
        let mut histogram = Histogram::default();
        let allocated = measure(|| (0..100).for_each(|time| histogram.record(Duration::from_millis(time * time))));
        assert_eq!((allocated.count_total, histogram.count()), (0, 100));
    }

    proptest! {
        /// A quantile is in the bucket of the time that has this rank, and grows with the share.
        #[test]
        fn quantiles_are_near_those_of_sorted_times(mut times in times(), share in 0.0..=1.0_f64) {
            let histogram = of(&times);
            times.sort_unstable();
            let rank = ((share * times.len() as f64).ceil() as usize).max(1);
            let found = histogram.quantile(share);
            if let (Some(&exact), Some(&max)) = (times.get(rank - 1), times.last()) {
                let bucket = BOUNDS_US.partition_point(|&bound| Duration::from_micros(bound) < exact);
                let lower = bucket.checked_sub(1).map_or(Duration::ZERO, bound);
                prop_assert!(lower <= found && found <= bound(bucket).min(max), "{exact:?} is {found:?}");
                prop_assert_eq!(histogram.max(), max);
                prop_assert!(found <= histogram.quantile((share + 0.1).min(1.0)));
            } else {
                prop_assert_eq!(found, Duration::ZERO);
            }
        }

        #[test]
        fn histograms_are_added_and_subtracted(first in times(), second in times()) {
            let (before, both) = (of(&first), of(&[&first[..], &second[..]].concat()));
            let mut merged = before;
            merged.merge(&of(&second));
            prop_assert_eq!(merged, both);
            let (since, expected) = (both.since(&before), of(&second));
            prop_assert_eq!((since.counts, since.sum), (expected.counts, expected.sum));
            // It may be that of a longer one in the same bucket.
            prop_assert!(since.max >= expected.max && since.quantile(1.0) <= since.max);
            let is_longest = expected.max > before.max;
            prop_assert!(!is_longest || since.max == expected.max);
            prop_assert_eq!(both.since(&both), Histogram::default());
        }
    }
}
