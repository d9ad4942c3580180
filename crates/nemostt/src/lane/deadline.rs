// SPDX-License-Identifier: MIT OR Apache-2.0

//! When a job is due, which is all the lane knows of its urgency.

use std::time::Duration;

/// How much longer than a live job the job of a file may take: the second in the documentation of [`Class`].
pub(super) const FILE_SLACK: Duration = Duration::from_secs(1);

/// When a job is due, in nanoseconds of a clock that the caller chooses. The lane does not read that clock: it only compares.
///
/// All deadlines of a lane must be of the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Deadline(pub(crate) u64);

impl From<Duration> for Deadline {
    /// The time since the clock started; what does not fit is as late as can be.
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// How urgent the jobs of a stream are among those of other streams.
///
/// There are no priorities, only deadlines. A file has no audience that waits for the next word, so its jobs are due
/// one second later than those of a live stream: they fill batches that live streams leave room in, and give way to
/// live jobs otherwise. This is also the ageing that keeps them from starving. A deadline stays as it is while the
/// clock goes on, so a file's job is overtaken only by live jobs that arrive less than a second after it (with the same
/// period). Later ones are due after it, however many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A listener is waiting: the result is due before the next job arrives.
    Live,
    /// As fast as possible, but behind live streams.
    File,
}

impl Class {
    /// The deadline of a job that arrives `now`, of a stream that has one each `period`.
    pub(crate) fn deadline(self, now: Duration, period: Duration) -> Deadline {
        let slack = match self {
            Self::Live => Duration::ZERO,
            Self::File => FILE_SLACK,
        };
        now.saturating_add(period).saturating_add(slack).into()
    }
}
