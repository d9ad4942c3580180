// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory for weights that are read sequentially in each step, in huge pages where available.
//!
//! With 4 kB pages the processor translates an address every 4 kB, and hardware prefetching stops at page boundaries:
//! two cores read 23 GB/s, and 28 GB/s with pages of 2 MB (`docs/performance-design.md`). Linux provides huge pages on
//! `madvise(MADV_HUGEPAGE)`, unless the administrator disabled them (`never`).

use std::io;

#[cfg(not(miri))]
use memmap2::{Mmap, MmapMut};

#[cfg(miri)]
use self::interpreted::{Mmap, MmapMut};

/// Size of a huge page on x86-64, and on aarch64 with 4 kB base pages.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;
#[cfg(not(target_os = "linux"))]
const HUGE_PAGE: usize = 0;

/// Minimum size for huge pages, because the rest of the last one is wasted. The weights of a joint with 1024 tokens
/// take half of one and nearly one, and are read in each step: with huge pages, a step of the 114M model at lookahead
/// 80 ms takes 0.95 of the time.
const MIN_HUGE_PAGE_BYTES: usize = HUGE_PAGE / 4;

/// Zero bytes after the end, so that whole vectors can be read.
pub(super) const TAIL_PADDING: usize = 64;

/// A writable buffer, to be [frozen](Self::freeze) once it is filled.
#[derive(Debug)]
pub(super) struct PageBuffer {
    map: MmapMut,
    /// Offset of the first huge page.
    start: usize,
    bytes: usize,
}

impl PageBuffer {
    /// Zero-initialized memory.
    ///
    /// # Errors
    /// The system's error if there is not enough memory.
    pub(super) fn zeroed(bytes: usize) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        // A buffer that would leave most of a huge page empty uses small pages.
        let alignment = if bytes < MIN_HUGE_PAGE_BYTES { 0 } else { HUGE_PAGE };
        let size = bytes.checked_next_multiple_of(alignment.max(1)).ok_or_else(too_large)?;
        let length = size.checked_add(alignment + TAIL_PADDING).ok_or_else(too_large)?;
        let map = MmapMut::map_anon(length)?;
        // Old kernels do not align mappings, and a huge page must be aligned.
        let start = match alignment {
            0 => 0,
            alignment => map.as_ptr().align_offset(alignment).min(alignment),
        };
        // Best effort: small pages work as well, only slower.
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, start, bytes })
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.bytes]
    }

    /// Makes the buffer read-only.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn freeze(self) -> io::Result<FrozenPages> {
        Ok(FrozenPages {
            map: self.map.make_read_only()?,
            start: self.start,
            bytes: self.bytes,
        })
    }
}

/// A read-only buffer, aligned to a page.
#[derive(Debug)]
pub(super) struct FrozenPages {
    map: Mmap,
    start: usize,
    bytes: usize,
}

impl FrozenPages {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.with_padding()[..self.bytes]
    }

    /// The buffer followed by [`TAIL_PADDING`] zero bytes.
    pub(super) fn with_padding(&self) -> &[u8] {
        &self.map[self.start..][..self.bytes + TAIL_PADDING]
    }
}

/// Heap memory with the interface of the memory map, because Miri does not support `mprotect`.
#[cfg(miri)]
mod interpreted {
    use std::{
        io,
        ops::{Deref, DerefMut},
    };

    #[derive(Debug)]
    pub(super) struct MmapMut {
        words: Vec<u64>,
        bytes: usize,
    }

    pub(super) type Mmap = MmapMut;

    impl MmapMut {
        pub(super) fn map_anon(bytes: usize) -> io::Result<Self> {
            let mut words = Vec::new();
            let count = bytes.div_ceil(size_of::<u64>());
            words.try_reserve_exact(count).map_err(io::Error::other)?;
            words.resize(count, 0);
            Ok(Self { words, bytes })
        }

        pub(super) fn make_read_only(self) -> io::Result<Mmap> {
            Ok(self)
        }
    }

    impl Deref for MmapMut {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &bytemuck::cast_slice(&self.words)[..self.bytes]
        }
    }

    impl DerefMut for MmapMut {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_are_read_back() {
        // Under Miri each of the large ones takes a minute.
        let large = [HUGE_PAGE / 2, 3 * HUGE_PAGE + 4].into_iter().filter(|_| !cfg!(miri));
        for bytes in [0, 1, 5].into_iter().chain(large) {
            let mut pages = PageBuffer::zeroed(bytes).unwrap();
            assert!(pages.bytes_mut().iter().all(|&value| value == 0));
            for (index, value) in pages.bytes_mut().iter_mut().enumerate() {
                *value = index as u8;
            }
            let frozen = pages.freeze().unwrap();
            assert_eq!(frozen.bytes().len(), bytes);
            assert!(frozen.bytes().iter().enumerate().all(|(i, &value)| value == i as u8));
            assert_eq!(frozen.with_padding()[bytes..], [0; TAIL_PADDING]);
            let is_large = HUGE_PAGE > 0 && bytes >= MIN_HUGE_PAGE_BYTES;
            assert!(!is_large || frozen.bytes().as_ptr().addr().is_multiple_of(HUGE_PAGE));
        }
    }

    #[test]
    fn oversized_allocation_is_an_error() {
        assert!(PageBuffer::zeroed(usize::MAX).is_err());
        assert!(PageBuffer::zeroed(usize::MAX / 4).is_err());
    }
}
