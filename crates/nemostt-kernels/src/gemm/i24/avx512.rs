// SPDX-License-Identifier: MIT OR Apache-2.0

//! Packing and unpacking of 24-bit integers, and the micro-kernel.

#![allow(unsafe_code)]

use std::arch::{asm, x86_64::*};

use super::{
    super::{
        ColumnsMut,
        avx512::{LANES, activate, column_abs_max, load, store, store_row},
        epilogue::EpilogueParams,
        huge_pages::TAIL_PADDING,
    },
    BYTES, MicroTile, PANEL_WIDTH, Scale, UnpackedRow,
};

/// Vectors per panel row.
const VECTORS: usize = PANEL_WIDTH / LANES;

/// Packed bytes of one vector.
const VECTOR_BYTES: usize = LANES * BYTES;

/// Packed bytes of a panel row.
const ROW_BYTES: usize = VECTORS * VECTOR_BYTES;

/// Panel rows per iteration of the unrolled loop: together they fill whole cache lines.
const UNROLL: usize = 2;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Prefetch distance in bytes: 2 and 4 kB are equally fast for 1 to 14 rows, 1 and 8 kB slower.
const PREFETCH_BYTES: usize = 2048;

/// First step of unpacking, a permutation of 32-bit words: moves four packed codes, three words, to each 128-bit
/// lane; the last word of a lane is unused.
const SPREAD: [i32; LANES] = [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11];

/// Second step, a shuffle of bytes: moves the three bytes of each number to the upper bytes of a word, and zero to its
/// lowest byte. The result is 256 times the number, sign-extended.
const TO_WORDS: [i8; 16] = [-1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11];

/// The inverse of [`TO_WORDS`] and of [`SPREAD`].
const TO_BYTES: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1];
const GATHER: [i32; LANES] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15];

/// Undoes the factor of [`unpack`].
const UNPACK_FACTOR: f32 = 1.0 / 256.0;

/// See [`super::pack`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [Scale; PANEL_WIDTH] {
    let scales = column_abs_max(values).map(Scale::from_abs_max);
    let quantize = scales.map(|scale| scale.quantize);
    let (to_bytes, gather) = (broadcast_lanes(TO_BYTES), words(GATHER));
    for (values, dst) in values.iter().zip(dst.chunks_exact_mut(ROW_BYTES)) {
        for (vector, dst) in dst.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let values = load(&values[vector * LANES..]);
            let codes = _mm512_cvtps_epi32(_mm512_mul_ps(values, load(&quantize[vector * LANES..])));
            let packed = _mm512_permutexvar_epi32(gather, _mm512_shuffle_epi8(codes, to_bytes));
            let mut bytes = [0; CACHE_LINE];
            // SAFETY: `bytes` has 64 bytes.
            unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), packed) };
            dst.copy_from_slice(&bytes[..VECTOR_BYTES]);
        }
    }
    scales
}

/// The 16 packed codes at `at` as floats, times 256.
///
/// # Safety
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack(at: *const u8, spread: __m512i, to_words: __m512i) -> __m512 {
    // SAFETY: the caller guarantees that 64 bytes are readable.
    let bytes = unsafe { _mm512_loadu_si512(at.cast()) };
    _mm512_cvtepi32_ps(_mm512_shuffle_epi8(_mm512_permutexvar_epi32(spread, bytes), to_words))
}

/// `acc + weights · value`.
///
/// Uses `asm!` because the compiler would broadcast the value into a register of its own, and with 14 rows there is
/// none left: it would spill accumulators, which takes three times as long.
///
/// # Safety
/// `value` must be readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn multiply_add(weights: __m512, value: *const f32, mut acc: __m512) -> __m512 {
    // SAFETY: the caller guarantees that one value is readable.
    unsafe {
        asm!(
            "vfmadd231ps {acc}, {weights}, dword ptr [{value}]{{1to16}}",
            acc = inout(zmm_reg) acc,
            weights = in(zmm_reg) weights,
            value = in(reg) value,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    acc
}

/// Adds `lhs` \[k, ROWS\] times the first k rows of `panel` to the first ROWS rows of `acc`, and writes these rows of the
/// panel to `unpacked`, if there is room: see [`multiply_unpacked`]. The results are neither scaled nor biased, and 256 times
/// too large: see [`unpack`].
///
/// # Panics
/// If k is odd; if `panel` has fewer rows, or fewer than [`TAIL_PADDING`] bytes after them; if `unpacked` is neither empty nor
/// has k rows.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn multiply_packed<const ROWS: usize>(
    lhs: &[f32],
    panel: &[u8],
    unpacked: &mut [UnpackedRow],
    acc: &mut MicroTile,
) {
    let k = lhs.len() / ROWS;
    assert!(k.is_multiple_of(UNROLL) && panel.len() >= k * ROW_BYTES + TAIL_PADDING);
    match unpacked.len() {
        // SAFETY: `panel` has enough rows, as asserted.
        0 => unsafe { multiply_rows::<ROWS, false>((lhs.as_ptr(), k), panel.as_ptr(), std::ptr::null_mut(), acc) },
        rows => {
            assert!(rows == k);
            // SAFETY: as above, and `unpacked` has as many rows.
            unsafe { multiply_rows::<ROWS, true>((lhs.as_ptr(), k), panel.as_ptr(), unpacked.as_mut_ptr(), acc) }
        }
    }
}

/// # Safety
/// `lhs` must have k · ROWS values, `weights` k rows and [`TAIL_PADDING`] more bytes; `unpacked` k rows if UNPACKS.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_rows<const ROWS: usize, const UNPACKS: bool>(
    (mut lhs, k): (*const f32, usize),
    mut weights: *const u8,
    mut unpacked: *mut UnpackedRow,
    acc: &mut MicroTile,
) {
    let (spread, to_words) = (words(SPREAD), broadcast_lanes(TO_WORDS));
    let mut sums = load_accumulators::<ROWS>(acc);
    for _ in 0..k / UNROLL {
        for line in 0..UNROLL * ROW_BYTES / CACHE_LINE {
            // A prefetch never faults, wherever the address points.
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH_BYTES + line * CACHE_LINE).cast());
        }
        // Not a loop: the compiler would not unroll one for 13 rows or more.
        // SAFETY: as the caller guarantees, there are as many rows as iterations, times `UNROLL`.
        unsafe {
            multiply_row::<ROWS, UNPACKS>(lhs, weights, unpacked, (spread, to_words), &mut sums);
            let (lhs, weights) = (lhs.add(ROWS), weights.add(ROW_BYTES));
            multiply_row::<ROWS, UNPACKS>(lhs, weights, unpacked.wrapping_add(1), (spread, to_words), &mut sums);
        }
        lhs = lhs.wrapping_add(UNROLL * ROWS);
        weights = weights.wrapping_add(UNROLL * ROW_BYTES);
        unpacked = unpacked.wrapping_add(UNROLL);
    }
    store_accumulators(sums, acc);
}

/// One row of [`multiply_rows`].
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_row<const ROWS: usize, const UNPACKS: bool>(
    lhs: *const f32,
    weights: *const u8,
    unpacked: *mut UnpackedRow,
    (spread, to_words): (__m512i, __m512i),
    sums: &mut [[__m512; VECTORS]; ROWS],
) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let vectors = [
            unpack(weights, spread, to_words),
            unpack(weights.add(VECTOR_BYTES), spread, to_words),
        ];
        if UNPACKS {
            for (vector, values) in vectors.into_iter().enumerate() {
                _mm512_store_ps(unpacked.cast::<f32>().add(vector * LANES), values);
            }
        }
        multiply_add_row(vectors, lhs, sums);
    }
}

/// As [`multiply_packed`], with rows that it has unpacked. They are read once more for each group of rows of the left-hand
/// side, which takes less time than to unpack them again.
///
/// # Panics
/// If the values of k do not match.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn multiply_unpacked<const ROWS: usize>(lhs: &[f32], unpacked: &[UnpackedRow], acc: &mut MicroTile) {
    assert!(lhs.len() == unpacked.len() * ROWS);
    let mut sums = load_accumulators::<ROWS>(acc);
    let mut values = lhs.as_ptr();
    for UnpackedRow(row) in unpacked {
        let (vectors, _) = row.as_chunks::<LANES>();
        let vectors = std::array::from_fn(|vector| load(&vectors[vector]));
        // SAFETY: `lhs` has ROWS values for each row, as asserted.
        unsafe {
            multiply_add_row(vectors, values, &mut sums);
            values = values.add(ROWS);
        }
    }
    store_accumulators(sums, acc);
}

/// # Safety
/// ROWS values must be readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn multiply_add_row<const ROWS: usize>(
    weights: [__m512; VECTORS],
    values: *const f32,
    sums: &mut [[__m512; VECTORS]; ROWS],
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            // SAFETY: the caller's guarantee.
            *sum = unsafe { multiply_add(weights, values.add(row), *sum) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_accumulators<const ROWS: usize>(acc: &MicroTile) -> [[__m512; VECTORS]; ROWS] {
    std::array::from_fn(|row| std::array::from_fn(|vector| load(&acc[row].as_chunks::<LANES>().0[vector])))
}

/// Indexed: an iterator over `sums` by value may have them copied through memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(clippy::needless_range_loop)]
fn store_accumulators<const ROWS: usize>(sums: [[__m512; VECTORS]; ROWS], acc: &mut MicroTile) {
    for row in 0..ROWS {
        for vector in 0..VECTORS {
            store(&mut acc[row].as_chunks_mut::<LANES>().0[vector], sums[row][vector]);
        }
    }
}

/// Scales the accumulators of a panel, adds bias, applies the epilogue, adds `residual`, which has the shape of
/// `output`, and stores the result at (row, column) `origin` of `output`.
///
/// # Panics
/// If the position is out of range, or there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store_panel(
    acc: &[[f32; PANEL_WIDTH]],
    params: &EpilogueParams<'_>,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    origin: (usize, usize),
) {
    assert!(params.scales.len() == PANEL_WIDTH && params.bias.len() == PANEL_WIDTH);
    // The last panel may be wider than the rest of the output.
    let width = output.width();
    let first_columns = (0..PANEL_WIDTH)
        .step_by(LANES)
        .take_while(|first| origin.1 + first < width);
    for first in first_columns {
        let scales = _mm512_mul_ps(load(&params.scales[first..]), _mm512_set1_ps(UNPACK_FACTOR));
        let bias = load(&params.bias[first..]);
        for (row, acc) in acc.iter().enumerate() {
            let value = _mm512_fmadd_ps(load(&acc[first..]), scales, bias);
            store_row(
                value,
                params.epilogue,
                residual,
                output,
                (origin.0 + row, origin.1 + first),
            );
        }
    }
}

/// Scales the accumulators of a panel, adds bias and applies the epilogue, in origin.
///
/// # Panics
/// If there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn apply_epilogue(acc: &mut [[f32; PANEL_WIDTH]], params: &EpilogueParams<'_>) {
    assert!(params.scales.len() == PANEL_WIDTH && params.bias.len() == PANEL_WIDTH);
    for first in (0..PANEL_WIDTH).step_by(LANES) {
        let scales = _mm512_mul_ps(load(&params.scales[first..]), _mm512_set1_ps(UNPACK_FACTOR));
        let bias = load(&params.bias[first..]);
        for acc in &mut *acc {
            let dst = &mut acc[first..first + LANES];
            let value = activate(_mm512_fmadd_ps(load(dst), scales, bias), params.epilogue);
            // SAFETY: `dst` has 16 floats.
            unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), value) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn words(words: [i32; LANES]) -> __m512i {
    // SAFETY: `words` has 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The same 16 bytes in each 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_lanes(bytes: [i8; 16]) -> __m512i {
    // SAFETY: `bytes` has 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}
