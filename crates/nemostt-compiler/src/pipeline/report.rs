// SPDX-License-Identifier: MIT OR Apache-2.0

//! The outcome of a pass.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a pass changed, or why it changed nothing.
pub type Outcome = Result<Applied, NotApplied>;

/// What a pass changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Number of rewrites.
    pub count: usize,
    /// How many there should be; `None` if there may be any number.
    pub expected: Option<usize>,
    /// What was rewritten, in the plural.
    pub what: String,
}

/// Why a pass changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotApplied {
    /// There was nothing to rewrite.
    Nothing,
    /// The target rules it out, for this reason.
    Disabled(String),
    /// What every export of this family contains was not found, or has an unknown form: why.
    Unsupported(String),
}

/// The outcome of one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassReport {
    /// Name of the pass.
    pub pass: String,
    /// What it changed, or why it changed nothing.
    pub outcome: Outcome,
    /// Number of nodes of the graph, before and after.
    pub nodes: [usize; 2],
}

impl PassReport {
    /// A line for the log, if a part of the graph is slower than it could be.
    pub fn diagnostic(&self) -> Option<String> {
        let is_partial = |applied: &Applied| applied.expected.is_some_and(|expected| applied.count < expected);
        match &self.outcome {
            Ok(applied) if is_partial(applied) => Some(format!("{}: {applied}, the rest stays as exported", self.pass)),
            Err(NotApplied::Unsupported(reason)) => Some(format!("{}: {reason}", self.pass)),
            _ => None,
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(expected) => write!(f, "{} of {expected} {}", self.count, self.what),
            None if self.count == 1 => write!(f, "1 {}", self.what.trim_end_matches('s')),
            None => write!(f, "{} {}", self.count, self.what),
        }
    }
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to do"),
            Self::Disabled(reason) | Self::Unsupported(reason) => f.write_str(reason),
        }
    }
}

/// `count` rewrites of any number; 0: there was nothing to do.
pub fn some(count: usize, what: &str) -> Outcome {
    match count {
        0 => Err(NotApplied::Nothing),
        count => Ok(Applied {
            count,
            expected: None,
            what: what.into(),
        }),
    }
}

/// `count` rewrites; there are `expected` places in every export.
pub(super) fn all_of(count: usize, expected: usize, what: &str) -> Outcome {
    Ok(Applied {
        count,
        expected: Some(expected),
        what: what.into(),
    })
}

/// `count` rewrites; there are `expected` places in every export, and more in some.
pub(super) fn at_least(count: usize, expected: usize, what: &str) -> Outcome {
    all_of(count, expected.max(count), what)
}
