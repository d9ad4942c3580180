// SPDX-License-Identifier: MIT OR Apache-2.0

//! Floats to digits and back, with the vectors that every processor with tiles has.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    super::{
        Columns,
        avx512::{LANES, end as end_row, largest_of_columns, load, without_sign},
        epilogue::Column,
        fixed_point::Scale,
    },
    COLUMNS, Sums, TILE,
    byte_planes::{DIGITS, LINE, Line, MIDDLES},
};

/// The largest of `values`, without their signs; not finite, if one of them is not: see [`largest_of_columns`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut largest = _mm512_setzero_si512();
    for values in values.chunks(LANES) {
        largest = _mm512_max_epu32(largest, without_sign(load(values)));
    }
    f32::from_bits(_mm512_reduce_max_epu32(largest))
}

/// Puts the digits of `values` into `lines`: those of 64 values into one line for each digit, `rows` lines from each other,
/// and so on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn split(values: &[f32], scale: Scale, lines: &mut [Line], rows: usize) {
    for (step, values) in values.chunks(LINE).enumerate() {
        for digit in 0..DIGITS {
            // What the last values leave over; the rest is written now.
            if values.len() < LINE {
                lines[(step * DIGITS + digit) * rows].0 = [0; LINE];
            }
        }
        for (part, values) in values.chunks(LANES).enumerate() {
            let numbers = numbers(load(values), _mm512_set1_ps(scale.to_number));
            let bytes = [
                _mm512_cvtepi32_epi8(numbers),
                _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(numbers)),
                _mm512_cvtepi32_epi8(_mm512_srli_epi32::<16>(numbers)),
            ];
            for (digit, bytes) in bytes.into_iter().enumerate() {
                let line = &mut lines[(step * DIGITS + digit) * rows].0;
                let room = &mut line.as_chunks_mut::<LANES>().0[part];
                // SAFETY: there is room for 16 bytes.
                unsafe { _mm_storeu_si128(room.as_mut_ptr().cast(), bytes) };
            }
        }
    }
}

/// See [`super::pack`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(values: &[[f32; COLUMNS]], room: &mut [u8]) -> [Scale; COLUMNS] {
    let scales = largest_of_columns(values).map(Scale::of);
    let to_number = load(&scales.map(|scale| scale.to_number));
    for (values, tiles) in values.chunks(LINE).zip(room.chunks_exact_mut(DIGITS * TILE)) {
        for (quad, values) in values.chunks(4).enumerate() {
            let mut words = [_mm512_setzero_si512(); DIGITS];
            // The first of four values is the lowest byte.
            for row in values.iter().rev() {
                let numbers = numbers(load(row), to_number);
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
                let line = &mut tiles[digit * TILE + quad * LINE..][..LINE];
                // SAFETY: there is room for 64 bytes.
                unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), word) };
            }
        }
    }
    scales
}

/// Ends a panel: puts the four sums of each row and column together, adds the bias, does what follows, and writes the result
/// to `output` from row and column `place` on. `more`, if there is any, is as large as `output` and is added.
///
/// # Panics
/// If rows or columns lie beyond the output, or there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn end(
    sums: &Sums,
    row_scales: &[f32],
    column: &Column<'_>,
    more: Option<&[f32]>,
    output: &mut Columns<'_>,
    place: (usize, usize),
) {
    /// What a sum is of the next one.
    const PART: f32 = 1.0 / 256.0;
    /// What the last sum is of.
    const WHOLE: f32 = 4_294_967_296.0;
    assert!(column.scales.len() == COLUMNS && column.bias.len() == COLUMNS);
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
        end_row(value, column.ending, more, output, (place.0 + index, place.1));
    }
}

/// The digits of floats, in the three lower bytes of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn numbers(values: __m512, to_number: __m512) -> __m512i {
    let middles = _mm512_set1_epi32(MIDDLES);
    let numbers = _mm512_cvtps_epi32(_mm512_mul_ps(values, to_number));
    _mm512_xor_si512(_mm512_add_epi32(numbers, middles), middles)
}
