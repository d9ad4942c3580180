// SPDX-License-Identifier: MIT OR Apache-2.0

//! Floats to digits and back, with the vectors that every processor with tiles has.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    super::{
        ColumnsMut,
        avx512::{LANES, abs_bits, column_abs_max, load, store_row},
        epilogue::EpilogueParams,
        fixed_point::Scale,
    },
    Accumulators, PANEL_WIDTH, TILE_BYTES,
    byte_planes::{PLANES, SIGN_BIAS, TILE_ROW_BYTES, TileRow},
};

/// The largest of `values`, without their signs; not finite, if one of them is not: see [`column_abs_max`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn abs_max(values: &[f32]) -> f32 {
    let mut abs_max = _mm512_setzero_si512();
    for values in values.chunks(LANES) {
        abs_max = _mm512_max_epu32(abs_max, abs_bits(load(values)));
    }
    f32::from_bits(_mm512_reduce_max_epu32(abs_max))
}

/// Puts the digits of `values` into `lines`: those of 64 values into one line for each digit, `rows` lines from each other,
/// and so on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn split_planes(values: &[f32], scale: Scale, lines: &mut [TileRow], rows: usize) {
    for (step, values) in values.chunks(TILE_ROW_BYTES).enumerate() {
        for digit in 0..PLANES {
            // What the last values leave over; the rest is written now.
            if values.len() < TILE_ROW_BYTES {
                lines[(step * PLANES + digit) * rows].0 = [0; TILE_ROW_BYTES];
            }
        }
        for (part, values) in values.chunks(LANES).enumerate() {
            let numbers = to_codes(load(values), _mm512_set1_ps(scale.quantize));
            let bytes = [
                _mm512_cvtepi32_epi8(numbers),
                _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(numbers)),
                _mm512_cvtepi32_epi8(_mm512_srli_epi32::<16>(numbers)),
            ];
            for (digit, bytes) in bytes.into_iter().enumerate() {
                let line = &mut lines[(step * PLANES + digit) * rows].0;
                let dst = &mut line.as_chunks_mut::<LANES>().0[part];
                // SAFETY: there is room for 16 bytes.
                unsafe { _mm_storeu_si128(dst.as_mut_ptr().cast(), bytes) };
            }
        }
    }
}

/// See [`super::pack`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [Scale; PANEL_WIDTH] {
    let scales = column_abs_max(values).map(Scale::from_abs_max);
    let quantize = load(&scales.map(|scale| scale.quantize));
    for (values, tiles) in values
        .chunks(TILE_ROW_BYTES)
        .zip(dst.chunks_exact_mut(PLANES * TILE_BYTES))
    {
        for (quad, values) in values.chunks(4).enumerate() {
            let mut words = [_mm512_setzero_si512(); PLANES];
            // The first of four values is the lowest byte.
            for row in values.iter().rev() {
                let numbers = to_codes(load(row), quantize);
                let digits = [
                    numbers,
                    _mm512_srli_epi32::<8>(numbers),
                    _mm512_srli_epi32::<16>(numbers),
                ];
                for (word, digit) in words.iter_mut().zip(digits) {
                    let digit = _mm512_and_si512(digit, _mm512_set1_epi32(0xff));
                    *word = _mm512_or_si512(_mm512_slli_epi32::<8>(*word), digit);
                }
            }
            for (digit, word) in words.into_iter().enumerate() {
                let line = &mut tiles[digit * TILE_BYTES + quad * TILE_ROW_BYTES..][..TILE_ROW_BYTES];
                // SAFETY: there is room for 64 bytes.
                unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), word) };
            }
        }
    }
    scales
}

/// Ends a panel: puts the four sums of each row and column together, adds the bias, does what follows, and writes the result
/// to `output` from row and column `place` on. `residual`, if there is any, is as large as `output` and is added.
///
/// # Panics
/// If rows or columns lie beyond the output, or there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store_panel(
    sums: &Accumulators,
    row_scales: &[f32],
    column: &EpilogueParams<'_>,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    place: (usize, usize),
) {
    /// What a sum is of the next one.
    const PART: f32 = 1.0 / 256.0;
    /// What the last sum is of.
    const WHOLE: f32 = 4_294_967_296.0;
    assert!(column.scales.len() == PANEL_WIDTH && column.bias.len() == PANEL_WIDTH);
    let (scales, bias) = (load(column.scales), load(column.bias));
    let part = _mm512_set1_ps(PART);
    for (index, row_scale) in row_scales.iter().enumerate() {
        let sums: [__m512; 4] = std::array::from_fn(|sum| {
            // SAFETY: a row of sums is as long as a vector.
            _mm512_cvtepi32_ps(unsafe { _mm512_loadu_si512(sums[sum][index].as_ptr().cast()) })
        });
        let sum = _mm512_fmadd_ps(sums[0], part, sums[1]);
        let sum = _mm512_fmadd_ps(sum, part, sums[2]);
        let sum = _mm512_fmadd_ps(sum, part, sums[3]);
        let scale = _mm512_mul_ps(_mm512_set1_ps(row_scale * WHOLE), scales);
        let value = _mm512_fmadd_ps(sum, scale, bias);
        store_row(value, column.epilogue, residual, output, (place.0 + index, place.1));
    }
}

/// The digits of floats, in the three lower bytes of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn to_codes(values: __m512, quantize: __m512) -> __m512i {
    let middles = _mm512_set1_epi32(SIGN_BIAS);
    let numbers = _mm512_cvtps_epi32(_mm512_mul_ps(values, quantize));
    _mm512_xor_si512(_mm512_add_epi32(numbers, middles), middles)
}
