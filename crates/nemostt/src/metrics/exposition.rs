// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prometheus' text format, version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>):
//!
//! > Lines are separated by a line feed character (`\n`). The last line must end with a line feed character. […] All lines
//! > for a given metric must be provided as one single group, with the optional `HELP` and `TYPE` lines first (in no
//! > particular order). […] Each line must have a unique combination of a metric name and labels.
//!
//! The crate `prometheus-client` writes OpenMetrics instead, in which counters are declared without `_total`: the textfile
//! collector of node_exporter, which reads 0.0.4 only, would not know their type. The crate `prometheus` comes with a registry,
//! its locks and four more crates.

use std::{
    borrow::Cow,
    fmt::{Display, Write},
};

/// A text that families are added to.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// What a metric is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels as they stand in braces.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels(String);

impl Labels {
    /// Adds a label. The value may be any text:
    ///
    /// > `label_value` can be any sequence of UTF-8 characters, but the backslash (`\`), double-quote (`"`), and line feed
    /// > (`\n`) characters have to be escaped as `\\`, `\"`, and `\n`, respectively.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Display) -> Self {
        let separator = if self.0.is_empty() { "" } else { "," };
        let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{separator}{name}=\"{}\"", value.replace('\n', "\\n"));
        self
    }

    fn in_braces(&self) -> Cow<'_, str> {
        match self.0.is_empty() {
            true => "".into(),
            false => format!("{{{}}}", self.0).into(),
        }
    }
}

/// Counts of a histogram.
pub(super) struct Buckets<'a> {
    /// Inclusive upper bounds of all buckets but the last, in increasing order.
    pub(super) bounds: &'a [f64],
    /// Values in each bucket; those above all bounds are in one more.
    pub(super) counts: &'a [u64],
    /// All values together.
    pub(super) sum: f64,
}

impl Exposition {
    /// Begins a family. All of its samples follow. `help` is one line without backslashes, which would have to be escaped.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    /// Adds a sample of a counter or gauge.
    pub(super) fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        self.line(format_args!("{name}{} {value}", labels.in_braces()));
    }

    /// Adds the samples of a histogram.
    ///
    /// > A histogram must have a bucket with `{le="+Inf"}`. Its value must be identical to the value of `x_count`.
    pub(super) fn histogram(&mut self, name: &str, labels: &Labels, buckets: &Buckets<'_>) {
        let mut count = 0;
        let bucket = format!("{name}_bucket");
        for (bound, in_bucket) in buckets.bounds.iter().zip(buckets.counts) {
            count += in_bucket;
            self.sample(&bucket, &labels.clone().with("le", bound), count);
        }
        let count: u64 = buckets.counts.iter().sum();
        self.sample(&bucket, &labels.clone().with("le", "+Inf"), count);
        self.sample(&format!("{name}_sum"), labels, buckets.sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let labels = Labels::default().with("path", "C:\\a \"b\"\nc").with("number", 7);
        let mut text = Exposition::default();
        text.sample("x", &labels, 1.5);
        assert_eq!(
            text.into_text(),
            r#"x{path="C:\\a \"b\"\nc",number="7"} 1.5"#.to_owned() + "\n"
        );
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut text = Exposition::default();
        text.family("t_seconds", Kind::Histogram, "Times.");
        let buckets = Buckets {
            bounds: &[0.001, 0.5],
            counts: &[2, 0, 1],
            sum: 7.25,
        };
        text.histogram("t_seconds", &Labels::default(), &buckets);
        text.family("n_total", Kind::Counter, "Count.");
        text.sample("n_total", &Labels::default(), 3);
        text.family("g", Kind::Gauge, "Now.");
        let expected = "\
# HELP t_seconds Times.
# TYPE t_seconds histogram
t_seconds_bucket{le=\"0.001\"} 2
t_seconds_bucket{le=\"0.5\"} 2
t_seconds_bucket{le=\"+Inf\"} 3
t_seconds_sum 7.25
t_seconds_count 3
# HELP n_total Count.
# TYPE n_total counter
n_total 3
# HELP g Now.
# TYPE g gauge
";
        assert_eq!(text.into_text(), expected);
    }
}
