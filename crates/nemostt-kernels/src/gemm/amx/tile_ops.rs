// SPDX-License-Identifier: MIT OR Apache-2.0

//! AMX instructions.
//!
//! Uses `asm!` because Rust's AMX intrinsics are not stable yet.

use std::{arch::asm, cell::Cell, marker::PhantomData};

use super::{
    super::{
        avx512,
        byte_planes::{PLANES, TILE_ROW_BYTES, TILE_ROWS, TileRow},
    },
    Accumulators, TILE_BYTES, has_tiles,
};

/// Whether this processor supports AMX, and Linux permits this process to use it: permission must be requested because
/// tiles add 8 kB to the saved state of a thread (`Documentation/arch/x86/xstate.rst`).
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn request_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    /// Bits of EDX of leaf 7 (Intel's manual, volume 2A, CPUID).
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    let has_tiles = || {
        let has_leaf = std::arch::x86_64::__cpuid(0).eax >= 7;
        has_leaf && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8
    };
    // SAFETY: this system call only takes and returns integers.
    let may_use = || unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 };
    avx512::is_supported() && has_tiles() && may_use()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn request_permission() -> bool {
    false
}

thread_local! {
    /// Whether a [`TileConfigGuard`] exists on this thread.
    static IS_CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// A tile configuration for a number of rows. It is released when dropped, so that the thread's state becomes small
/// again. Only one can exist per thread, and it cannot leave its thread, because the configuration is thread state.
pub(super) struct TileConfigGuard {
    rows: usize,
    /// Neither `Send` nor `Sync`.
    of_thread: PhantomData<*mut ()>,
}

/// Operand of `LDTILECFG` (Intel's manual, volume 1, 18.2).
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes per row.
    widths: [u16; 16],
    rows: [u8; 16],
}

impl TileConfigGuard {
    /// # Panics
    /// If a tile cannot have this many rows, or another guard exists on this thread.
    #[allow(unsafe_code)]
    pub(super) fn with_rows(rows: usize) -> Self {
        assert!(has_tiles() && (1..=TILE_ROWS).contains(&rows) && !IS_CONFIGURED.replace(true));
        let mut configuration = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            widths: [0; 16],
            rows: [0; 16],
        };
        // 0 to 3: accumulators. 4 to 6: byte planes of the left-hand side. 7: a byte plane of the weights.
        configuration.widths[..8].fill(TILE_ROW_BYTES as u16);
        configuration.rows[..7].fill(rows as u8);
        configuration.rows[7] = TILE_ROWS as u8;
        // SAFETY: the processor supports AMX; neither the compiler nor another guard on this thread uses tiles.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &raw const configuration,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
        Self {
            rows,
            of_thread: PhantomData,
        }
    }

    /// Multiplies the byte planes of `tile_rows` by those of `panel`, and stores the accumulator tiles.
    ///
    /// # Panics
    /// If the values of `k` do not match.
    #[allow(unsafe_code)]
    pub(super) fn multiply(&self, tile_rows: &[TileRow], panel: &[u8], acc: &mut Accumulators) {
        /// Prefetches weights 2 kB ahead: of 1, 2, 3, 4, 6 and 8 kB the fastest. All prefetches together at the start
        /// of an iteration would be a third slower.
        macro_rules! prefetch {
            ($($line:literal)*) => { concat!($("prefetcht0 [{w} + 2048 + 64 * ", $line, "]\n",)*) };
        }
        let steps = panel.len() / (PLANES * TILE_BYTES);
        let plane = self.rows * TILE_ROW_BYTES;
        assert!(steps > 0 && tile_rows.len() == steps * PLANES * self.rows);
        // SAFETY: the tiles are configured for this number of rows; each iteration loads three tiles of the left-hand
        // side and three of weights, and both slices are long enough, as asserted; prefetches may be out of bounds.
        // `acc` has four tiles.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloadd tmm5, [{b} + {stride}]",
                "tileloadd tmm6, [{c} + {stride}]",
                "tileloadd tmm7, [{w} + {stride}]",
                prefetch!(0 1 2 3 4 5 6 7),
                "tdpbssd tmm0, tmm5, tmm7",
                prefetch!(8 9 10 11 12 13 14 15),
                "tdpbssd tmm1, tmm6, tmm7",
                "tileloadd tmm7, [{w} + {stride} + 1024]",
                prefetch!(16 17 18 19 20),
                "tdpbssd tmm0, tmm4, tmm7",
                prefetch!(21 22 23 24 25),
                "tdpbssd tmm1, tmm5, tmm7",
                prefetch!(26 27 28 29 30 31),
                "tdpbssd tmm2, tmm6, tmm7",
                "tileloadd tmm7, [{w} + {stride} + 2048]",
                prefetch!(32 33 34 35 36),
                "tdpbssd tmm1, tmm4, tmm7",
                prefetch!(37 38 39 40 41),
                "tdpbssd tmm2, tmm5, tmm7",
                prefetch!(42 43 44 45 46 47),
                "tdpbssd tmm3, tmm6, tmm7",
                "add {a}, {three}", "add {b}, {three}", "add {c}, {three}",
                "add {w}, 3072",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{acc} + {stride}], tmm0",
                "tilestored [{acc} + {stride} + 1024], tmm1",
                "tilestored [{acc} + {stride} + 2048], tmm2",
                "tilestored [{acc} + {stride} + 3072], tmm3",
                a = inout(reg) tile_rows.as_ptr() => _,
                b = inout(reg) tile_rows.as_ptr().byte_add(plane) => _,
                c = inout(reg) tile_rows.as_ptr().byte_add(2 * plane) => _,
                w = inout(reg) panel.as_ptr() => _,
                steps = inout(reg) steps => _,
                stride = in(reg) TILE_ROW_BYTES,
                three = in(reg) PLANES * plane,
                acc = in(reg) acc.as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for TileConfigGuard {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        IS_CONFIGURED.set(false);
        // SAFETY: the guard was created on this thread, with AMX available.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_guard_on_a_thread_panics() {
        if !has_tiles() {
            return;
        }
        let tiles = TileConfigGuard::with_rows(1);
        assert!(std::panic::catch_unwind(|| TileConfigGuard::with_rows(2)).is_err());
        std::thread::spawn(|| drop(TileConfigGuard::with_rows(2)))
            .join()
            .unwrap();
        drop(tiles);
        drop(TileConfigGuard::with_rows(2));
    }
}
