// SPDX-License-Identifier: MIT OR Apache-2.0

//! What Linux reports of this process and of the machine. Unknown on other systems.

use std::{fs, time::Duration};

/// The unit of the machine's times in /proc: USER_HZ, which is 100 per second whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

/// Processor time up to some instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    /// Of the threads that this process has at the time.
    process: Duration,
    /// Of all processors.
    busy: Duration,
    /// Of all processors, with the time in which they were idle.
    all: Duration,
}

impl CpuTime {
    /// Up to now. What threads used that have exited is not in it: `/proc/self/stat` has it, but only in ticks.
    pub fn now() -> Option<Self> {
        let (busy, all) = machine(&fs::read_to_string("/proc/stat").ok()?)?;
        let mut process = Duration::ZERO;
        for thread in fs::read_dir("/proc/self/task").ok()? {
            // It may have exited meanwhile.
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).unwrap_or_default();
            let ran = text.split_whitespace().next().and_then(|ran| ran.parse().ok());
            process += Duration::from_nanos(ran.unwrap_or(0));
        }
        Some(Self { process, busy, all })
    }

    /// Processor time of this process since `then`.
    pub fn process_since(self, then: Self) -> Duration {
        self.process.saturating_sub(then.process)
    }

    /// Share of the processors' time since `then` in which they ran other programs, 0 to 1.
    pub fn others_since(self, then: Self) -> f64 {
        let busy = self.busy.saturating_sub(then.busy);
        let others = busy.saturating_sub(self.process_since(then));
        others.div_duration_f64(self.all.saturating_sub(then.all).max(TICK))
    }
}

/// For how long all processors were busy, and for how long there were processors: from the text of `/proc/stat`.
fn machine(text: &str) -> Option<(Duration, Duration)> {
    let times = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    // user, nice, system, idle, waiting for devices, two kinds of interrupts, other virtual machines. The time of
    // guests of this machine follows, which user has, too.
    let times: Vec<u64> = times.take(8).map_while(|time| time.parse().ok()).collect();
    let all: u64 = times.iter().sum();
    let idle: u64 = times.iter().skip(3).take(2).sum();
    let duration = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK.as_millis() as u64));
    Some((duration(all - idle), duration(all)))
}

/// Threads of this process.
pub fn threads() -> Option<usize> {
    status("Threads:")?.parse().ok()
}

/// The value of `key` in the status of this process.
pub fn status(key: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_machine_are_found() {
        let seconds = Duration::from_secs;
        let text = "cpu  1000 10 200 5000 40 20 22 8 99 99\ncpu0 1 1";
        assert_eq!(machine(text), Some((seconds(12) + TICK * 60, seconds(63))));
        assert_eq!(machine("intr 1"), None);
    }

    #[test]
    fn time_is_ours_or_that_of_others() {
        let at = |process, busy, all| CpuTime {
            process: Duration::from_secs(process),
            busy: Duration::from_secs(busy),
            all: Duration::from_secs(all),
        };
        let (then, now) = (at(100, 1000, 5000), at(160, 1100, 5400));
        assert_eq!(now.process_since(then), Duration::from_secs(60));
        assert_eq!(now.others_since(then), 0.1);
        assert_eq!(then.others_since(then), 0.0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let time = CpuTime::now().unwrap();
        assert!(time.process > Duration::ZERO && time.busy <= time.all, "{time:?}");
        assert!(threads() >= Some(1));
    }
}
