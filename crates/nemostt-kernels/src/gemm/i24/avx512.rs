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
    BYTES, PANEL_WIDTH, Scale,
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

/// Multiplies `lhs` \[k, ROWS\] by `panel`, which is followed by [`TAIL_PADDING`] more bytes. The results are neither
/// scaled nor biased, and 256 times too large: see [`unpack`].
///
/// # Panics
/// If the values of `k` do not match or are odd.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn micro_kernel<const ROWS: usize>(lhs: &[f32], panel: &[u8], out: &mut [[f32; PANEL_WIDTH]; ROWS]) {
    let k = lhs.len() / ROWS;
    assert!(k.is_multiple_of(UNROLL) && panel.len() == k * ROW_BYTES + TAIL_PADDING);
    let (spread, to_words) = (words(SPREAD), broadcast_lanes(TO_WORDS));
    let mut acc = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let (mut values, mut weights) = (lhs.as_ptr(), panel.as_ptr());
    for _ in 0..k / UNROLL {
        for line in 0..UNROLL * ROW_BYTES / CACHE_LINE {
            // A prefetch never faults, wherever the address points.
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH_BYTES + line * CACHE_LINE).cast());
        }
        for _ in 0..UNROLL {
            // SAFETY: `lhs` and `panel` have as many rows as there are iterations, as asserted, and `TAIL_PADDING`
            // follows.
            unsafe {
                let vectors = [
                    unpack(weights, spread, to_words),
                    unpack(weights.add(VECTOR_BYTES), spread, to_words),
                ];
                for (row, acc) in acc.iter_mut().enumerate() {
                    for (acc, vector) in acc.iter_mut().zip(vectors) {
                        *acc = multiply_add(vector, values.add(row), *acc);
                    }
                }
                weights = weights.add(ROW_BYTES);
                values = values.add(ROWS);
            }
        }
    }
    for (dst, acc) in out.iter_mut().zip(acc) {
        for (dst, vector) in dst.as_chunks_mut::<LANES>().0.iter_mut().zip(acc) {
            // SAFETY: `dst` has 16 floats.
            unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), vector) };
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

/// See [`super::transpose`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn transpose(block: &[f32], stride: usize, (rows, count): (usize, usize), dst: &mut [f32]) {
    assert!((1..=LANES).contains(&rows) && dst.len() == rows * count);
    if rows == 1 {
        dst.copy_from_slice(&block[..count]);
        return;
    }
    for first in (0..count).step_by(LANES) {
        let valid = LANES.min(count - first);
        let mut vectors = [_mm512_setzero_ps(); LANES];
        for (row, vector) in vectors.iter_mut().enumerate().take(rows) {
            *vector = load(&block[row * stride + first..][..valid]);
        }
        let dst = &mut dst[first * rows..];
        if rows == 2 {
            let halves = interleave(vectors[0], vectors[1]);
            for (dst, half) in dst.chunks_mut(LANES).zip(halves) {
                store(dst, half);
            }
            continue;
        }
        for (value, vector) in transpose_16x16(vectors).into_iter().enumerate().take(valid) {
            // The excess lanes are overwritten by the next value; after the last one they do not fit.
            let dst = &mut dst[value * rows..];
            let len = LANES.min(dst.len());
            store(&mut dst[..len], vector);
        }
    }
}

/// Interleaves the lanes of `a` and `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave(a: __m512, b: __m512) -> [__m512; 2] {
    let order = |first: i32| -> [i32; LANES] {
        std::array::from_fn(|lane| first + lane as i32 / 2 + if lane % 2 == 1 { LANES as i32 } else { 0 })
    };
    [0, LANES as i32 / 2].map(|first| _mm512_permutex2var_ps(a, words(order(first)), b))
}

/// Transposes 16 rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_16x16(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    let mut quads = pairs;
    for i in (0..LANES).step_by(4) {
        for half in 0..2 {
            let (a, b) = (_mm512_castps_pd(pairs[i + half]), _mm512_castps_pd(pairs[i + half + 2]));
            quads[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            quads[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // In 128-bit lane p, `quads[4 q + c]` contains column 4 p + c of rows 4 q to 4 q + 3.
    let mut columns = quads;
    for c in 0..4 {
        let [q0, q1, q2, q3] = [quads[c], quads[c + 4], quads[c + 8], quads[c + 12]];
        let even = [
            _mm512_shuffle_f32x4::<0x88>(q0, q1),
            _mm512_shuffle_f32x4::<0x88>(q2, q3),
        ];
        let odd = [
            _mm512_shuffle_f32x4::<0xdd>(q0, q1),
            _mm512_shuffle_f32x4::<0xdd>(q2, q3),
        ];
        columns[c] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
        columns[c + 8] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
        columns[c + 4] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
        columns[c + 12] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(words: [i32; LANES]) -> __m512i {
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
