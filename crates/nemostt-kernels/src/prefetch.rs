// SPDX-License-Identifier: MIT OR Apache-2.0

//! Software prefetch of data that will be read soon. Hardware prefetchers stop at page boundaries and start late.

/// Bytes of a cache line.
pub(super) const CACHE_LINE: usize = 64;

/// The rest of a range to prefetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefetchStream {
    next: *const u8,
    lines: usize,
}

impl Default for PrefetchStream {
    fn default() -> Self {
        Self::of_slice(&[])
    }
}

impl PrefetchStream {
    pub(super) fn of_slice(values: &[f32]) -> Self {
        Self::from_ptr(values.as_ptr(), values.len())
    }

    /// `count` values at any address, which is not dereferenced.
    pub(super) fn from_ptr(values: *const f32, count: usize) -> Self {
        Self {
            next: values.cast(),
            lines: (count * size_of::<f32>()).div_ceil(CACHE_LINE),
        }
    }

    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// Cache lines that are left.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Prefetches the next `lines` lines into L2, so that they do not evict the current working set address L1.
    #[inline(always)]
    pub(super) fn advance(&mut self, lines: usize) {
        let count = lines.min(self.lines);
        for line in 0..count {
            prefetch_l2(self.next.wrapping_add(line * CACHE_LINE));
        }
        self.next = self.next.wrapping_add(count * CACHE_LINE);
        self.lines -= count;
    }
}

/// Prefetches a cache line into L1.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch_l1(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint, which never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches a cache line into L2.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch_l2(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
