// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which slots are free. A slot is a row of each cache's tensor.

use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// Slots that belong to no stream: one is always zero, and is where streams begin; the last one takes what padding writes.
const SHARED: usize = 2;

/// The slots of an encoder.
#[derive(Debug)]
pub(super) struct SlotPool {
    free: Mutex<Vec<usize>>,
    slots: usize,
}

/// A slot in use. It is free again when the last stream or snapshot drops it.
///
/// A stream may write its slot only while it is the only owner; otherwise, it goes on in another one. So a snapshot is only
/// another owner, and is taken and restored without copying anything.
#[derive(Debug)]
pub(in crate::model::encoder) struct Slot {
    index: usize,
    pool: Arc<SlotPool>,
}

impl SlotPool {
    /// A pool of slots, all of which are free.
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            // The lowest first.
            free: Mutex::new((0..slots).rev().collect()),
            slots,
        })
    }

    /// A slot whose caches are undefined; `None` if all are in use.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = lock(&self.free).pop()?;
        Some(Slot {
            index,
            pool: self.clone(),
        })
    }

    /// Rows of the tensors.
    pub(super) fn rows(&self) -> usize {
        self.slots + SHARED
    }

    /// The slot that is always zero.
    pub(super) fn zeros(&self) -> usize {
        self.slots
    }

    /// The slot that padding writes.
    pub(super) fn padding(&self) -> usize {
        self.slots + 1
    }
}

impl Slot {
    /// Its row.
    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.pool.free).push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_free_after_its_last_owner() {
        let pool = SlotPool::new(2);
        assert_eq!((pool.rows(), pool.zeros(), pool.padding()), (4, 2, 3));
        let first = Arc::new(pool.take().unwrap());
        let second = pool.take().unwrap();
        assert_eq!((first.index(), second.index()), (0, 1));
        let snapshot = first.clone();
        drop(first);
        assert!(pool.take().is_none());
        drop(snapshot);
        assert_eq!(pool.take().unwrap().index(), 0);
    }
}
