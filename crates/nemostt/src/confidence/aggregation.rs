// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the confidence of tokens to that of words.

/// How the confidences of a word's tokens become that of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// Geometric mean: long words are not less confident than short ones.
    #[default]
    GeometricMean,
    /// Arithmetic mean.
    Mean,
    /// The lowest. NeMo's default.
    Min,
    /// The highest.
    Max,
    /// The product.
    Product,
}

/// The confidences of one token's frames or of one word's tokens, in any order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Aggregate {
    count: u32,
    sum: f64,
    product: f64,
    log_sum: f64,
    min: f64,
    max: f64,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            product: 1.0,
            log_sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl Aggregate {
    /// Adds a confidence.
    pub(crate) fn push(&mut self, confidence: f32) {
        let confidence = f64::from(confidence);
        self.count += 1;
        self.sum += confidence;
        self.product *= confidence;
        self.log_sum += confidence.max(0.0).ln();
        self.min = self.min.min(confidence);
        self.max = self.max.max(confidence);
    }

    /// One of a single confidence.
    pub(crate) fn of(confidence: f32) -> Self {
        let mut one = Self::default();
        one.push(confidence);
        one
    }

    /// Adds all that `other` has.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.product *= other.product;
        self.log_sum += other.log_sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The confidence of all, 0 to 1; 0 if there are none.
    pub(crate) fn value(&self, aggregation: Aggregation) -> f32 {
        if self.count == 0 {
            return 0.0;
        }
        let count = f64::from(self.count);
        let value = match aggregation {
            Aggregation::GeometricMean => (self.log_sum / count).exp(),
            Aggregation::Mean => self.sum / count,
            Aggregation::Min => self.min,
            Aggregation::Max => self.max,
            Aggregation::Product => self.product,
        };
        value as f32
    }
}
