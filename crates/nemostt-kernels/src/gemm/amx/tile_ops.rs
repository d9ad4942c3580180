// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tiles themselves: instructions of AMX.
//!
//! Written with `asm!`, for Rust's own functions for tiles are not stable yet.

use std::{arch::asm, cell::Cell, marker::PhantomData};

use super::{
    super::avx512,
    Accumulators, TILE_BYTES,
    byte_planes::{PLANES, TILE_ROW_BYTES, TILE_ROWS, TileRow},
    supports_k,
};

/// Whether this processor has tiles, and Linux lets this process use them: it asks to be asked, for a tile makes what a
/// thread keeps 8 kB larger (`Documentation/arch/x86/xstate.rst`).
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
    // SAFETY: two numbers go in and one comes out.
    let may_use = || unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 };
    avx512::is_supported() && has_tiles() && may_use()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn request_permission() -> bool {
    false
}

thread_local! {
    /// Whether this thread has [`TileConfigGuard`].
    static ARE_TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// Tiles of this thread that are set up for a number of rows; given back when it is dropped, so that the thread need not keep
/// them. There is one at a time, and it stays on its thread: another one would be set up in another way, or not at all.
pub(super) struct TileConfigGuard {
    rows: usize,
    /// Not `Send`, nor `Sync`.
    of_thread: PhantomData<*mut ()>,
}

/// How the tiles of a thread are cut (Intel's manual, volume 1, 18.2).
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row.
    widths: [u16; 16],
    rows: [u8; 16],
}

impl TileConfigGuard {
    /// # Panics
    /// If tiles have not as many rows, or are taken.
    #[allow(unsafe_code)]
    pub(super) fn with_rows(rows: usize) -> Self {
        assert!(supports_k(0) && (1..=TILE_ROWS).contains(&rows) && !ARE_TAKEN.replace(true));
        let mut configuration = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            widths: [0; 16],
            rows: [0; 16],
        };
        // 0 to 3: sums. 4 to 6: digits of the input. 7: digits of weights.
        configuration.widths[..8].fill(TILE_ROW_BYTES as u16);
        configuration.rows[..7].fill(rows as u8);
        configuration.rows[7] = TILE_ROWS as u8;
        // SAFETY: the processor has tiles; no code of the compiler's uses them, and none of ours on this thread right now.
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

    /// Sums of the products of digits of `lines` and of `panel`, row by row.
    ///
    /// # Panics
    /// If they are not of the same depth.
    #[allow(unsafe_code)]
    pub(super) fn multiply(&self, lines: &[TileRow], panel: &[u8], sums: &mut Accumulators) {
        /// How far ahead of their use weights are asked for: of 1, 2, 3, 4, 6 and 8 kB the fastest. All at once, at the
        /// beginning of a step, they would be a third slower.
        macro_rules! request_permission {
            ($($line:literal)*) => { concat!($("prefetcht0 [{w} + 2048 + 64 * ", $line, "]\n",)*) };
        }
        let steps = panel.len() / (PLANES * TILE_BYTES);
        let digit = self.rows * TILE_ROW_BYTES;
        assert!(steps > 0 && lines.len() == steps * PLANES * self.rows);
        // SAFETY: the tiles of this thread are set up for as many rows; in each step, three tiles of them and of weights are read, for
        // which `lines` and `panel` are long enough; what is asked for in advance may lie beyond. `sums` takes four tiles.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm5, [{b} + {line}]",
                "tileloadd tmm6, [{c} + {line}]",
                "tileloadd tmm7, [{w} + {line}]",
                request_permission!(0 1 2 3 4 5 6 7),
                "tdpbssd tmm0, tmm5, tmm7",
                request_permission!(8 9 10 11 12 13 14 15),
                "tdpbssd tmm1, tmm6, tmm7",
                "tileloadd tmm7, [{w} + {line} + 1024]",
                request_permission!(16 17 18 19 20),
                "tdpbssd tmm0, tmm4, tmm7",
                request_permission!(21 22 23 24 25),
                "tdpbssd tmm1, tmm5, tmm7",
                request_permission!(26 27 28 29 30 31),
                "tdpbssd tmm2, tmm6, tmm7",
                "tileloadd tmm7, [{w} + {line} + 2048]",
                request_permission!(32 33 34 35 36),
                "tdpbssd tmm1, tmm4, tmm7",
                request_permission!(37 38 39 40 41),
                "tdpbssd tmm2, tmm5, tmm7",
                request_permission!(42 43 44 45 46 47),
                "tdpbssd tmm3, tmm6, tmm7",
                "add {a}, {three}", "add {b}, {three}", "add {c}, {three}",
                "add {w}, 3072",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + 1024], tmm1",
                "tilestored [{sums} + {line} + 2048], tmm2",
                "tilestored [{sums} + {line} + 3072], tmm3",
                a = inout(reg) lines.as_ptr() => _,
                b = inout(reg) lines.as_ptr().byte_add(digit) => _,
                c = inout(reg) lines.as_ptr().byte_add(2 * digit) => _,
                w = inout(reg) panel.as_ptr() => _,
                steps = inout(reg) steps => _,
                line = in(reg) TILE_ROW_BYTES,
                three = in(reg) PLANES * digit,
                sums = in(reg) sums.as_mut_ptr(),
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
        ARE_TAKEN.set(false);
        // SAFETY: whoever made it has tiles, and on this thread.
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
    fn a_thread_has_tiles_once() {
        if !supports_k(0) {
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
