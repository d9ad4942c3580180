// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quantiles of times.

use std::time::Duration;

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A quantile in milliseconds: the nearest of the times, 0 if there are none.
pub fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    let nearest = (last as f64 * share).round() as usize;
    sorted.get(nearest).map_or(0.0, |&time| milliseconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let times: Vec<Duration> = (1..=21).rev().map(Duration::from_millis).collect();
        assert_eq!((quantile(&times, 0.5), quantile(&times, 0.95)), (11.0, 20.0));
        assert_eq!((quantile(&times, 0.0), quantile(&times, 1.0)), (1.0, 21.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn one_late_step_in_a_hundred_is_not_in_the_99th_percentile() {
        let times = |late: usize| {
            [
                vec![Duration::from_millis(1); 201 - late],
                vec![Duration::from_secs(1); late],
            ]
            .concat()
        };
        assert_eq!((quantile(&times(2), 0.99), quantile(&times(2), 1.0)), (1.0, 1000.0));
        assert_eq!(quantile(&times(3), 0.99), 1000.0);
    }
}
