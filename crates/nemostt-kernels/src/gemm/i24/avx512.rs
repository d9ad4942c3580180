// SPDX-License-Identifier: MIT OR Apache-2.0

//! Integers to floats and back, and the innermost loop.

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

/// Vectors in a row of a panel.
const VECTORS: usize = PANEL_WIDTH / LANES;

/// Bytes of a vector's numbers.
const VECTOR_BYTES: usize = LANES * BYTES;

/// Bytes of a row of a panel.
const ROW_BYTES: usize = VECTORS * VECTOR_BYTES;

/// Rows of a panel in one turn of the loop: together they fill whole lines of the processor's cache.
const UNROLL: usize = 2;

/// Bytes of a line of the processor's cache.
const CACHE_LINE: usize = 64;

/// How far ahead of its use a panel is asked for, in bytes: 2 and 4 kB are equally fast for 1 to 14 rows, 1 and 8 slower.
const PREFETCH_BYTES: usize = 2048;

/// Four numbers of 3 bytes to each of four parts of a vector, by words of 4 bytes; the last word of each part is not used.
const SPREAD: [i32; LANES] = [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11];

/// In each part, the bytes of its numbers to the three upper bytes of words. A zero is their lowest byte: so what comes of it
/// is 256 times the number, with its sign.
const TO_WORDS: [i8; 16] = [-1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11];

/// The way back: what [`TO_WORDS`] and [`SPREAD`] undo.
const TO_BYTES: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1];
const GATHER: [i32; LANES] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15];

/// What a number is of what [`unpack`] makes of it.
const PART: f32 = 1.0 / 256.0;

/// See [`super::pack`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [Scale; PANEL_WIDTH] {
    let scales = column_abs_max(values).map(Scale::from_abs_max);
    let quantize = scales.map(|scale| scale.quantize);
    let (to_bytes, gather) = (broadcast_lanes(TO_BYTES), words(GATHER));
    for (values, dst) in values.iter().zip(dst.chunks_exact_mut(ROW_BYTES)) {
        for (vector, dst) in dst.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let values = load(&values[vector * LANES..]);
            let numbers = _mm512_cvtps_epi32(_mm512_mul_ps(values, load(&quantize[vector * LANES..])));
            let packed = _mm512_permutexvar_epi32(gather, _mm512_shuffle_epi8(numbers, to_bytes));
            let mut bytes = [0; CACHE_LINE];
            // SAFETY: there is room for 64 bytes.
            unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), packed) };
            dst.copy_from_slice(&bytes[..VECTOR_BYTES]);
        }
    }
    scales
}

/// 256 times the 16 numbers at `at`, as floats.
///
/// # Safety
/// 64 bytes can be read there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack(at: *const u8, spread: __m512i, to_words: __m512i) -> __m512 {
    // SAFETY: as this function demands.
    let bytes = unsafe { _mm512_loadu_si512(at.cast()) };
    _mm512_cvtepi32_ps(_mm512_shuffle_epi8(_mm512_permutexvar_epi32(spread, bytes), to_words))
}

/// `sum + weights · value`.
///
/// With `asm!`, for the compiler would put the value into a register of its own first, and with 14 rows there is none: it
/// then keeps sums in memory, and takes three times as long.
///
/// # Safety
/// `value` can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn multiply_add(weights: __m512, value: *const f32, mut sum: __m512) -> __m512 {
    // SAFETY: one value is read, as this function demands.
    unsafe {
        asm!(
            "vfmadd231ps {sum}, {weights}, dword ptr [{value}]{{1to16}}",
            sum = inout(zmm_reg) sum,
            weights = in(zmm_reg) weights,
            value = in(reg) value,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    sum
}

/// Sums of the products of `lhs`, which lies value by value and then row by row, and of `panel`, behind which lie
/// [`TAIL_PADDING`] more bytes.
///
/// # Panics
/// If they are not of the same depth, or that is odd.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn micro_kernel<const ROWS: usize>(lhs: &[f32], panel: &[u8], sums: &mut [[f32; PANEL_WIDTH]; ROWS]) {
    let depth = lhs.len() / ROWS;
    assert!(depth.is_multiple_of(UNROLL) && panel.len() == depth * ROW_BYTES + TAIL_PADDING);
    let (spread, to_words) = (words(SPREAD), broadcast_lanes(TO_WORDS));
    let mut all = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let (mut values, mut weights) = (lhs.as_ptr(), panel.as_ptr());
    for _ in 0..depth / UNROLL {
        for line in 0..UNROLL * ROW_BYTES / CACHE_LINE {
            // A hint, which fails nowhere, wherever it points.
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH_BYTES + line * CACHE_LINE).cast());
        }
        for _ in 0..UNROLL {
            // SAFETY: there are as many values and weights as turns of the loop, and `TAIL_PADDING` bytes behind them.
            unsafe {
                let vectors = [
                    unpack(weights, spread, to_words),
                    unpack(weights.add(VECTOR_BYTES), spread, to_words),
                ];
                for (row, sums) in all.iter_mut().enumerate() {
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = multiply_add(vector, values.add(row), *sum);
                    }
                }
                weights = weights.add(ROW_BYTES);
                values = values.add(ROWS);
            }
        }
    }
    for (dst, sums) in sums.iter_mut().zip(all) {
        for (dst, sum) in dst.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            // SAFETY: there is room for 16 floats.
            unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), sum) };
        }
    }
}

/// Ends a panel: scales its sums, adds the bias, does what follows, and writes the result to `output` from row and column
/// `place` on. `residual`, if there is any, is as large as `output` and is added.
///
/// # Panics
/// If rows or columns lie beyond the output, or there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store_panel(
    sums: &[[f32; PANEL_WIDTH]],
    column: &EpilogueParams<'_>,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    place: (usize, usize),
) {
    assert!(column.scales.len() == PANEL_WIDTH && column.bias.len() == PANEL_WIDTH);
    // The last panel may have columns that the output has not.
    let width = output.width();
    let first_columns = (0..PANEL_WIDTH)
        .step_by(LANES)
        .take_while(|first| place.1 + first < width);
    for first in first_columns {
        let scales = _mm512_mul_ps(load(&column.scales[first..]), _mm512_set1_ps(PART));
        let bias = load(&column.bias[first..]);
        for (row, sums) in sums.iter().enumerate() {
            let value = _mm512_fmadd_ps(load(&sums[first..]), scales, bias);
            store_row(
                value,
                column.epilogue,
                residual,
                output,
                (place.0 + row, place.1 + first),
            );
        }
    }
}

/// Finishes the sums of a panel in place: scales them, adds the bias and does what follows.
///
/// # Panics
/// If there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn apply_epilogue(sums: &mut [[f32; PANEL_WIDTH]], column: &EpilogueParams<'_>) {
    assert!(column.scales.len() == PANEL_WIDTH && column.bias.len() == PANEL_WIDTH);
    for first in (0..PANEL_WIDTH).step_by(LANES) {
        let scales = _mm512_mul_ps(load(&column.scales[first..]), _mm512_set1_ps(PART));
        let bias = load(&column.bias[first..]);
        for sums in &mut *sums {
            let dst = &mut sums[first..first + LANES];
            let value = activate(_mm512_fmadd_ps(load(dst), scales, bias), column.epilogue);
            // SAFETY: there is room for 16 floats.
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
        let few = LANES.min(count - first);
        let mut vectors = [_mm512_setzero_ps(); LANES];
        for (row, vector) in vectors.iter_mut().enumerate().take(rows) {
            *vector = load(&block[row * stride + first..][..few]);
        }
        let dst = &mut dst[first * rows..];
        if rows == 2 {
            let halves = interleave(vectors[0], vectors[1]);
            for (dst, half) in dst.chunks_mut(LANES).zip(halves) {
                store(dst, half);
            }
            continue;
        }
        for (value, vector) in transpose_16x16(vectors).into_iter().enumerate().take(few) {
            // What is too much is written over by the next value, and behind the last one there is no room for it.
            let dst = &mut dst[value * rows..];
            let most = LANES.min(dst.len());
            store(&mut dst[..most], vector);
        }
    }
}

/// Values of `a` and of `b` by turns.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave(a: __m512, b: __m512) -> [__m512; 2] {
    let order = |first: i32| -> [i32; LANES] {
        std::array::from_fn(|lane| first + lane as i32 / 2 + if lane % 2 == 1 { LANES as i32 } else { 0 })
    };
    [0, LANES as i32 / 2].map(|first| _mm512_permutex2var_ps(a, words(order(first)), b))
}

/// Rows become columns.
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
    // `quads[4 q + c]` has, in part p, column 4 p + c of rows 4 q to 4 q + 3.
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
    // SAFETY: 64 bytes are read.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The same 16 bytes in each of the four parts of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast_lanes(bytes: [i8; 16]) -> __m512i {
    // SAFETY: 16 bytes are read.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}
