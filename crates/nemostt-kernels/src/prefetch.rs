// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking memory for what will be read soon. The processor does so by itself, but ends at each page's end and starts late.

/// Bytes that memory delivers together.
pub(super) const CACHE_LINE: usize = 64;

/// What will be read soon, as far as it was not asked for yet.
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

    /// `count` values, wherever they are: nothing is read.
    pub(super) fn from_ptr(values: *const f32, count: usize) -> Self {
        Self {
            next: values.cast(),
            lines: (count * size_of::<f32>()).div_ceil(CACHE_LINE),
        }
    }

    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// Lines of all of it.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Asks for the next `lines` lines: to be near, but not so near that they push out what is at work.
    #[inline(always)]
    pub(super) fn advance(&mut self, lines: usize) {
        let now = lines.min(self.lines);
        for line in 0..now {
            prefetch_l2(self.next.wrapping_add(line * CACHE_LINE));
        }
        self.next = self.next.wrapping_add(now * CACHE_LINE);
        self.lines -= now;
    }
}

/// To the first cache.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch_l1(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and fails nowhere, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// To the second cache.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch_l2(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}
