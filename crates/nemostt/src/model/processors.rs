// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which processors this process may use.

use std::thread::available_parallelism;
#[cfg(target_os = "linux")]
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// How many threads can run at the same time.
///
/// On Linux, std returns the smaller of:
/// * the affinity of the calling thread, which the threads that it starts inherit: `taskset`, `pthread_setaffinity_np`,
///   cpusets (`docker run --cpuset-cpus`), offline processors;
/// * the lowest quota of the control group and its ancestors, as far as they are mounted here, rounded down to whole
///   processors but at least 1: `cpu.cfs_quota_us / cpu.cfs_period_us` of version 1, wherever it is mounted, `cpu.max`
///   of version 2 below `/sys/fs/cgroup` (`docker run --cpus`, `CPUQuota=`).
///
/// Not covered: version 2 mounted elsewhere, and weights (`cpu.shares`, `cpu.weight`), which are not limits.
pub(super) fn usable() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// How many threads can run at the same time until a quota is used up: the processors that the calling thread may run
/// on.
pub(super) fn allowed_processors() -> usize {
    #[cfg(target_os = "linux")]
    if let Some(allowed) = allowed() {
        return allowed.len().max(1);
    }
    usable()
}

/// How many of [`usable`] are cores, not counting further hardware threads of a core.
pub(super) fn cores() -> usize {
    let usable = usable();
    #[cfg(target_os = "linux")]
    if let Some(allowed) = allowed() {
        return cores_of(&allowed, Path::new("/sys/devices/system/cpu")).clamp(1, usable);
    }
    usable
}

/// Processors that share a last-level cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheGroup {
    pub(super) processors: Vec<usize>,
    /// How many cores they belong to.
    pub(super) cores: usize,
}

/// The processors that this thread may run on, by groups that share a last-level cache.
pub(super) fn cache_groups() -> Vec<CacheGroup> {
    #[cfg(target_os = "linux")]
    if let Some(allowed) = allowed() {
        return cache_groups_of(&allowed, Path::new("/sys/devices/system/cpu"));
    }
    Vec::new()
}

/// Restricts this thread to these processors. Without effect where that is not supported.
pub(super) fn pin_thread(processors: &[usize]) {
    #[cfg(target_os = "linux")]
    // SAFETY: a set is a bit array, for which all zeros are valid; `CPU_SET` ignores what is out of range.
    #[allow(unsafe_code)]
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &processor in processors
            .iter()
            .filter(|&&processor| processor < 8 * size_of::<libc::cpu_set_t>())
        {
            libc::CPU_SET(processor, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processors;
}

/// The processors that the calling thread may run on, without offline ones. `None` if the kernel supports more than a
/// `cpu_set_t` (1024).
#[cfg(target_os = "linux")]
fn allowed() -> Option<Vec<usize>> {
    // SAFETY: a set is a bit array, for which all zeros are valid; the kernel writes at most the given size.
    #[allow(unsafe_code)]
    let (set, status) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let status = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (set, status)
    };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: the index is within the set.
    #[allow(unsafe_code)]
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (status == 0).then(|| (0..bits).filter(is_set).collect())
}

/// Number of cores that the `allowed` processors belong to, according to a directory like `/sys/devices/system/cpu`. A
/// processor without topology counts as a core.
#[cfg(target_os = "linux")]
fn cores_of(allowed: &[usize], directory: &Path) -> usize {
    let core = |&cpu: &usize| {
        let siblings = directory.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        fs::read_to_string(siblings).unwrap_or_else(|_| cpu.to_string())
    };
    let cores: BTreeSet<String> = allowed.iter().map(|cpu| core(cpu).trim().to_owned()).collect();
    cores.len()
}

/// The `allowed` processors by groups that share the last of their caches, according to a directory like
/// `/sys/devices/system/cpu`. Those without a description of their caches are one group.
#[cfg(target_os = "linux")]
fn cache_groups_of(allowed: &[usize], directory: &Path) -> Vec<CacheGroup> {
    let last_cache = |&cpu: &usize| {
        let shared = |index: usize| {
            let file = directory.join(format!("cpu{cpu}/cache/index{index}/shared_cpu_list"));
            fs::read_to_string(file).ok()
        };
        // The caches of a processor are numbered from the first level on.
        (0..8).map_while(shared).last().unwrap_or_default()
    };
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for cpu in allowed {
        groups.entry(last_cache(cpu)).or_default().push(*cpu);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort();
    let group = |processors: Vec<usize>| CacheGroup {
        cores: cores_of(&processors, directory),
        processors,
    };
    groups.into_iter().map(group).collect()
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
    fn processors_that_share_the_last_cache_are_a_group() {
        let directory = tempfile::tempdir().unwrap();
        for cpu in 0..6 {
            // The last level is the third; the first two belong to a core. 1 and 2 are hardware threads of one.
            let own = if cpu == 1 || cpu == 2 {
                "1-2\n".into()
            } else {
                format!("{cpu}\n")
            };
            let last = if cpu < 3 { "0-2\n" } else { "3-5\n" };
            let topology = directory.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), &own).unwrap();
            for (index, shared) in [&own[..], &own, &own, last].into_iter().enumerate() {
                let cache = directory.path().join(format!("cpu{cpu}/cache/index{index}"));
                fs::create_dir_all(&cache).unwrap();
                fs::write(cache.join("shared_cpu_list"), shared).unwrap();
            }
        }
        let groups = |allowed: &[usize]| {
            let groups = cache_groups_of(allowed, directory.path()).into_iter();
            groups.map(|group| (group.processors, group.cores)).collect::<Vec<_>>()
        };
        assert_eq!(groups(&[0, 1, 2, 3, 4, 5]), [(vec![0, 1, 2], 2), (vec![3, 4, 5], 3)]);
        assert_eq!(groups(&[1, 4, 5]), [(vec![1], 1), (vec![4, 5], 2)]);
        assert_eq!(groups(&[8, 9]), [(vec![8, 9], 2)]);
        let allowed: usize = cache_groups().iter().map(|group| group.processors.len()).sum();
        assert_eq!(allowed, allowed_processors());
    }

    #[test]
    fn a_pinned_thread_may_only_use_its_processors() {
        let first = allowed().unwrap()[0];
        let pinned = std::thread::spawn(move || {
            pin_thread(&[first, 1 << 20]);
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [first]);
    }

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        // Four cores with two threads each, numbered as Intel and as AMD do.
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
    fn offline_processors_are_not_counted() {
        // 1 and 5 are offline: their directories exist, without topology.
        let directory = topology(&[(0, "0,4"), (2, "2,6"), (3, "3,7"), (4, "0,4"), (6, "2,6"), (7, "3,7")]);
        fs::create_dir_all(directory.path().join("cpu1")).unwrap();
        assert_eq!(cores_of(&[0, 2, 3, 4, 6, 7], directory.path()), 3);
        assert_eq!(cores_of(&[6, 7], directory.path()), 2);
        // A thread of a core whose other thread is offline.
        let directory = topology(&[(0, "0"), (2, "2-3"), (3, "2-3")]);
        assert_eq!(cores_of(&[0, 2, 3], directory.path()), 2);
    }

    #[test]
    fn processors_without_topology_count_as_cores() {
        let directory = topology(&[]);
        assert_eq!(cores_of(&[0, 1, 5], directory.path()), 3);
    }

    #[test]
    fn pinned_thread_has_one_core() {
        let allowed = allowed().unwrap();
        assert!(cores() <= usable() && usable() <= allowed.len());
        std::thread::spawn(move || {
            let first = allowed[0];
            // SAFETY: a zeroed set is valid, and the kernel reads at most its size.
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
