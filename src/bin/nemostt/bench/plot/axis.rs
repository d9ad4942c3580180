// SPDX-License-Identifier: MIT OR Apache-2.0

//! The axis of a plot: linear from zero, or logarithmic if the values are too far apart for that.

/// A linear axis cannot show smaller values than this part of the largest one.
const LINEAR_RANGE: f64 = 20.0;
/// Ticks of a linear axis, at most.
const LINEAR_TICKS: f64 = 6.0;
/// With more decades than this, a logarithmic axis has ticks at powers of ten only.
const FINE_DECADES: f64 = 3.0;
/// Ticks are at these multiples of powers of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// Maps values to coordinates.
pub struct Axis {
    from: f64,
    to: f64,
    is_logarithmic: bool,
    /// Values in ascending order.
    ticks: Vec<f64>,
    /// Coordinates of `from` and `to`.
    span: (f64, f64),
}

impl Axis {
    /// An axis with room for all `values`, which must not be negative, from coordinate `start` to `end`.
    pub fn covering(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let largest = values.clone().fold(0.0, f64::max);
        // A logarithmic axis has no zero.
        let smallest = values.filter(|&value| value > 0.0).fold(largest, f64::min);
        let is_logarithmic = largest > LINEAR_RANGE * smallest;
        let ticks = match is_logarithmic {
            true => logarithmic_ticks(smallest, largest),
            false => linear_ticks(largest),
        };
        Self {
            from: ticks.first().copied().unwrap_or(0.0),
            to: ticks.last().copied().unwrap_or(1.0),
            is_logarithmic,
            ticks,
            span: (start, end),
        }
    }

    /// The coordinate of `value`.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        self.span.0 + share * (self.span.1 - self.span.0)
    }

    /// Coordinates of the ticks, with their values as text.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let smallest = self.ticks.iter().copied().find(|&tick| tick > 0.0).unwrap_or(1.0);
        let decimals = (-smallest.log10().floor()).max(0.0) as usize;
        self.ticks.iter().map(move |&tick| {
            let text = format!("{tick:.decimals$}");
            // Ticks of 0.1 and 100 on one axis.
            let text = match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text,
            };
            (self.at(tick), text)
        })
    }
}

/// From zero to `largest` or the first tick above it.
fn linear_ticks(largest: f64) -> Vec<f64> {
    let largest = if largest > 0.0 { largest } else { 1.0 };
    let exponent = (largest / LINEAR_TICKS).log10().floor() as i32;
    let steps = [exponent, exponent + 1]
        .into_iter()
        .flat_map(|exponent| STEPS.map(|step| step * 10_f64.powi(exponent)));
    let step = steps.into_iter().find(|step| largest / step <= LINEAR_TICKS);
    let step = step.unwrap_or(largest);
    let count = (largest / step).ceil() as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// From `smallest` or the last tick below it to `largest` or the first tick above it.
fn logarithmic_ticks(smallest: f64, largest: f64) -> Vec<f64> {
    let exponents = smallest.log10().floor() as i32..=largest.log10().ceil() as i32;
    let steps = if (largest / smallest).log10() > FINE_DECADES {
        &STEPS[..1]
    } else {
        &STEPS[..]
    };
    let all: Vec<f64> = exponents
        .flat_map(|exponent| steps.iter().map(move |step| step * 10_f64.powi(exponent)))
        .collect();
    let first = all.iter().rposition(|&tick| tick <= smallest).unwrap_or(0);
    let last = all.iter().position(|&tick| tick >= largest).unwrap_or(all.len() - 1);
    all[first..=last].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> (Vec<String>, Axis) {
        let axis = Axis::covering(values.iter().copied(), 100.0, 0.0);
        (axis.ticks().map(|(_, text)| text).collect(), axis)
    }

    #[test]
    fn values_of_similar_size_get_a_linear_axis_from_zero() {
        let (ticks, axis) = axis(&[10.0, 31.0]);
        assert_eq!(ticks, ["0", "10", "20", "30", "40"]);
        assert_eq!((axis.at(0.0), axis.at(10.0), axis.at(40.0)), (100.0, 75.0, 0.0));
        assert_eq!(self::axis(&[0.3]).0, ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]);
    }

    #[test]
    fn values_far_apart_get_a_logarithmic_axis() {
        let (ticks, axis) = axis(&[0.7, 60.0, 0.0]);
        assert_eq!(ticks, ["0.5", "1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!((axis.at(0.5), axis.at(100.0)), (100.0, 0.0));
        // Zero has no place on it.
        assert_eq!(axis.at(0.0), 100.0);
        assert_eq!(
            self::axis(&[0.02, 5000.0]).0,
            ["0.01", "0.1", "1", "10", "100", "1000", "10000"]
        );
    }

    #[test]
    fn any_values_have_a_place() {
        for values in [&[][..], &[0.0], &[1.0], &[1e-9, 1e9], &[20.0, 1.0]] {
            let axis = axis(values).1;
            for &value in values {
                assert!((0.0..=100.0).contains(&axis.at(value)), "{value} of {values:?}");
            }
        }
    }
}
