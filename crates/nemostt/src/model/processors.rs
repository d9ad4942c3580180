// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which processors this process may use.

use std::thread::available_parallelism;
#[cfg(target_os = "linux")]
use std::{collections::BTreeSet, fs, path::Path};

/// How many threads of ours can run at the same time.
///
/// On Linux std takes the smaller of two numbers:
/// * the affinity of the calling thread, which threads that it starts inherit: `taskset`, `pthread_setaffinity_np`, cpusets
///   (`docker run --cpuset-cpus`), processors that are offline;
/// * the least quota of the control group and all those around it, as far as they are mounted here, rounded down to whole
///   processors but 1 at least: `cpu.cfs_quota_us / cpu.cfs_period_us` of version 1, wherever it is mounted, `cpu.max` of version
///   2 below `/sys/fs/cgroup` (`docker run --cpus`, `CPUQuota=`).
///
/// Not covered: version 2 mounted elsewhere, and weights (`cpu.shares`, `cpu.weight`), which are no limits.
pub(super) fn usable() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// How many threads of ours can run at the same time until a quota is spent: the processors that the calling thread may run on.
pub(super) fn allowed_processors() -> usize {
    #[cfg(target_os = "linux")]
    if let Some(allowed) = allowed() {
        return allowed.len().max(1);
    }
    usable()
}

/// How many of [`usable`] are cores, without their second hardware threads.
pub(super) fn cores() -> usize {
    let usable = usable();
    #[cfg(target_os = "linux")]
    if let Some(allowed) = allowed() {
        return cores_of(&allowed, Path::new("/sys/devices/system/cpu")).clamp(1, usable);
    }
    usable
}

/// The processors that the calling thread may run on; those that are offline are not among them. `None` where the kernel knows
/// of more than the C library's set has room for (1024).
#[cfg(target_os = "linux")]
fn allowed() -> Option<Vec<usize>> {
    // SAFETY: a set is an array of bits, of which all zeros are a value; the kernel writes no more than the size it is told.
    #[allow(unsafe_code)]
    let (set, status) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let status = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (set, status)
    };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: no bit behind the last one is asked for.
    #[allow(unsafe_code)]
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (status == 0).then(|| (0..bits).filter(is_set).collect())
}

/// How many cores the `allowed` processors are of, as a directory like `/sys/devices/system/cpu` says. One of which it says nothing is
/// a core of its own.
#[cfg(target_os = "linux")]
fn cores_of(allowed: &[usize], directory: &Path) -> usize {
    let core = |&cpu: &usize| {
        let siblings = directory.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        fs::read_to_string(siblings).unwrap_or_else(|_| cpu.to_string())
    };
    let cores: BTreeSet<String> = allowed.iter().map(|cpu| core(cpu).trim().to_owned()).collect();
    cores.len()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// A directory in which processors have these siblings.
    fn topology(cpus: &[(usize, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (cpu, siblings) in cpus {
            let topology = directory.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
        }
        directory
    }

    #[test]
    fn hardware_threads_of_a_core_count_once_and_only_where_they_are_allowed() {
        // Four cores of two threads, numbered as Intel's are, and as AMD's.
        for siblings in [
            ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"],
            ["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"],
        ] {
            let cpus: Vec<_> = siblings.into_iter().enumerate().collect();
            let directory = topology(&cpus);
            let cores = |allowed: &[usize]| cores_of(allowed, directory.path());
            assert_eq!(cores(&[0, 1, 2, 3, 4, 5, 6, 7]), 4);
            assert_eq!(cores(&[3]), 1);
            let pair: Vec<usize> = (0..8).filter(|&cpu| siblings[cpu] == siblings[2]).collect();
            assert_eq!((pair.len(), cores(&pair)), (2, 1));
            assert_eq!(cores(&[0, 3, 6]), 3);
        }
    }

    #[test]
    fn processors_that_are_offline_leave_holes() {
        // 1 and 5 are offline: their directories are there, without a topology.
        let directory = topology(&[(0, "0,4"), (2, "2,6"), (3, "3,7"), (4, "0,4"), (6, "2,6"), (7, "3,7")]);
        fs::create_dir_all(directory.path().join("cpu1")).unwrap();
        assert_eq!(cores_of(&[0, 2, 3, 4, 6, 7], directory.path()), 3);
        assert_eq!(cores_of(&[6, 7], directory.path()), 2);
        // A thread of a core whose other one is offline.
        let directory = topology(&[(0, "0"), (2, "2-3"), (3, "2-3")]);
        assert_eq!(cores_of(&[0, 2, 3], directory.path()), 2);
    }

    #[test]
    fn processors_without_a_topology_are_cores() {
        let directory = topology(&[]);
        assert_eq!(cores_of(&[0, 1, 5], directory.path()), 3);
    }

    #[test]
    fn a_thread_that_is_pinned_to_one_processor_has_one_core() {
        let allowed = allowed().unwrap();
        assert!(cores() <= usable() && usable() <= allowed.len());
        std::thread::spawn(move || {
            let first = allowed[0];
            // SAFETY: a set of zeros is one, and has this bit; the kernel reads no more than its size.
            #[allow(unsafe_code)]
            let status = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(first, &mut set);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
            };
            assert_eq!(status, 0);
            assert_eq!((super::allowed(), usable(), cores()), (Some(vec![first]), 1, 1));
        })
        .join()
        .unwrap();
    }
}
