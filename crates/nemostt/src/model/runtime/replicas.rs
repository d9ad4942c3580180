// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies of something that one stream uses at a time, so that many streams do not wait for each other.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use crate::sync::lock;

/// At least one replica. Each user keeps one; further ones are created as users come, and kept.
#[derive(Debug)]
pub(super) struct Replicas<T> {
    first: Arc<T>,
    others: Mutex<Vec<Arc<T>>>,
    limits: Limits,
    /// Whether one could not be created. It would fail again, for each user.
    has_failed: AtomicBool,
}

/// When replicas are created.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Replicas.
    pub(super) max: usize,
    /// Users of a replica, while there are fewer replicas than that.
    pub(super) users: usize,
}

impl<T> Replicas<T> {
    pub(super) fn new(first: T, limits: Limits) -> Self {
        Self {
            first: Arc::new(first),
            others: Mutex::default(),
            limits,
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn first(&self) -> &T {
        &self.first
    }

    /// A replica for another user, who drops it at the end: the one with the fewest users, or one that `create` returns if
    /// that has enough. `create` returns `None` if there is to be no further one.
    pub(super) fn acquire(&self, create: impl FnOnce() -> Option<T>) -> Arc<T> {
        // Held while a replica is created, a matter of milliseconds: others who come at the same time need it, too, and would
        // all keep the first one if they did not wait.
        let mut others = lock(&self.others);
        let replicas = || std::iter::once(&self.first).chain(others.iter());
        // A use can only begin under the lock; one that ends meanwhile is counted, which does not matter.
        let users = |replica: &&Arc<T>| Arc::strong_count(replica) - 1;
        let least = replicas().min_by_key(users).unwrap_or(&self.first);
        let is_free = users(&least) < self.limits.users;
        let least = least.clone();
        if is_free || others.len() + 1 >= self.limits.max || self.has_failed.load(Ordering::Relaxed) {
            return least;
        }
        match create() {
            Some(created) => {
                let created = Arc::new(created);
                others.push(created.clone());
                created
            }
            None => {
                self.has_failed.store(true, Ordering::Relaxed);
                least
            }
        }
    }
}

#[cfg(test)]
impl<T> Replicas<T> {
    pub(super) fn set_max(&mut self, max: usize) {
        self.limits.max = max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acquires a replica for each of `count` users; the replicas are numbered.
    fn acquire(replicas: &Replicas<usize>, count: usize) -> Vec<Arc<usize>> {
        let create = || Some(lock(&replicas.others).len() + 1);
        // The lock is held while a replica is created, so its number is found out before.
        (0..count)
            .map(|_| {
                let number = create();
                replicas.acquire(|| number)
            })
            .collect()
    }

    fn numbers(users: &[Arc<usize>]) -> Vec<usize> {
        users.iter().map(|replica| **replica).collect()
    }

    #[test]
    fn replicas_are_created_as_users_come() {
        let replicas = Replicas::new(0, Limits { max: 3, users: 2 });
        let users = acquire(&replicas, 9);
        assert_eq!(numbers(&users), [0, 0, 1, 1, 2, 2, 0, 1, 2]);
    }

    #[test]
    fn places_of_users_that_have_gone_are_taken_first() {
        let replicas = Replicas::new(0, Limits { max: 3, users: 2 });
        let mut users = acquire(&replicas, 4);
        users.remove(1);
        users.remove(0);
        let more = acquire(&replicas, 3);
        assert_eq!(numbers(&more), [0, 0, 2]);
    }

    #[test]
    fn existing_replicas_are_shared_if_none_can_be_created() {
        let replicas = Replicas::new(0, Limits { max: 3, users: 1 });
        let mut attempts = 0;
        let mut create = || {
            attempts += 1;
            None
        };
        let users: Vec<_> = (0..3).map(|_| replicas.acquire(&mut create)).collect();
        assert_eq!(numbers(&users), [0, 0, 0]);
        assert_eq!(attempts, 1);
    }
}
