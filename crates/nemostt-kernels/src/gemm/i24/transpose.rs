// SPDX-License-Identifier: MIT OR Apache-2.0

//! Transposing rows for [`PackedLhs`](super::PackedLhs).

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    super::avx512::{LANES, load, store},
    avx512::words,
};

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
