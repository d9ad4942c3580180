// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quantization and dequantization for AMX, with AVX-512, which every processor with AMX supports.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    super::{
        ColumnsMut,
        avx512::{LANES, abs_bits, column_abs_max, load, store_row},
        byte_planes::{PLANES, SIGN_BIAS, TILE_ROW_BYTES, TileRow},
        epilogue::EpilogueParams,
        fixed_point::Scale,
    },
    Accumulators, PANEL_WIDTH, TILE_BYTES,
};

/// The largest absolute value, not finite if one of the values is not: see [`column_abs_max`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn abs_max(values: &[f32]) -> f32 {
    let mut abs_max = _mm512_setzero_si512();
    for values in values.chunks(LANES) {
        abs_max = _mm512_max_epu32(abs_max, abs_bits(load(values)));
    }
    f32::from_bits(_mm512_reduce_max_epu32(abs_max))
}

/// See [`super::split_planes`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn split_planes(values: &[f32], scale: Scale, planes: [&mut TileRow; PLANES]) {
    let mut planes = planes.map(|tile_row| &mut tile_row.0);
    // Clear the padding of the last tile row; the rest of it is overwritten.
    if values.len() < TILE_ROW_BYTES {
        planes.iter_mut().for_each(|tile_row| **tile_row = [0; TILE_ROW_BYTES]);
    }
    for (part, values) in values.chunks(LANES).enumerate() {
        let codes = to_codes(load(values), _mm512_set1_ps(scale.quantize));
        let bytes = [
            _mm512_cvtepi32_epi8(codes),
            _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(codes)),
            _mm512_cvtepi32_epi8(_mm512_srli_epi32::<16>(codes)),
        ];
        for (tile_row, bytes) in planes.iter_mut().zip(bytes) {
            let dst = &mut tile_row.as_chunks_mut::<LANES>().0[part];
            // SAFETY: `dst` has 16 bytes.
            unsafe { _mm_storeu_si128(dst.as_mut_ptr().cast(), bytes) };
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
                let codes = to_codes(load(row), quantize);
                let bytes = [codes, _mm512_srli_epi32::<8>(codes), _mm512_srli_epi32::<16>(codes)];
                for (word, byte) in words.iter_mut().zip(bytes) {
                    let byte = _mm512_and_si512(byte, _mm512_set1_epi32(0xff));
                    *word = _mm512_or_si512(_mm512_slli_epi32::<8>(*word), byte);
                }
            }
            for (plane, word) in words.into_iter().enumerate() {
                let tile_row = &mut tiles[plane * TILE_BYTES + quad * TILE_ROW_BYTES..][..TILE_ROW_BYTES];
                // SAFETY: the tile row has 64 bytes.
                unsafe { _mm512_storeu_si512(tile_row.as_mut_ptr().cast(), word) };
            }
        }
    }
    scales
}

/// Combines the four accumulators of each row and column, scales them, adds bias, applies the epilogue, adds
/// `residual`, which has the shape of `output`, and stores the result at (row, column) `origin` of `output`.
///
/// # Panics
/// If the position is out of range, or there are not as many scales and biases as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store_panel(
    accumulators: &Accumulators,
    row_scales: &[f32],
    params: &EpilogueParams<'_>,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    origin: (usize, usize),
) {
    /// Weight of an accumulator relative to the next one.
    const RATIO: f32 = 1.0 / 256.0;
    /// Weight of the last accumulator.
    const LAST_WEIGHT: f32 = 4_294_967_296.0;
    assert!(params.scales.len() == PANEL_WIDTH && params.bias.len() == PANEL_WIDTH);
    let (scales, bias) = (load(params.scales), load(params.bias));
    let ratio = _mm512_set1_ps(RATIO);
    for (row, row_scale) in row_scales.iter().enumerate() {
        let acc: [__m512; 4] = std::array::from_fn(|index| {
            // SAFETY: a row of an accumulator tile is as long as a vector.
            _mm512_cvtepi32_ps(unsafe { _mm512_loadu_si512(accumulators[index][row].as_ptr().cast()) })
        });
        let sum = _mm512_fmadd_ps(acc[0], ratio, acc[1]);
        let sum = _mm512_fmadd_ps(sum, ratio, acc[2]);
        let sum = _mm512_fmadd_ps(sum, ratio, acc[3]);
        let scale = _mm512_mul_ps(_mm512_set1_ps(row_scale * LAST_WEIGHT), scales);
        let value = _mm512_fmadd_ps(sum, scale, bias);
        store_row(value, params.epilogue, residual, output, (origin.0 + row, origin.1));
    }
}

/// Quantizes floats and splits them into signed bytes: the three lower bytes of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn to_codes(values: __m512, quantize: __m512) -> __m512i {
    let sign_bias = _mm512_set1_epi32(SIGN_BIAS);
    let codes = _mm512_cvtps_epi32(_mm512_mul_ps(values, quantize));
    _mm512_xor_si512(_mm512_add_epi32(codes, sign_bias), sign_bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_values_propagate() {
        if !super::super::avx512::is_supported() {
            return;
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 70];
            values[65] = value;
            assert!(super::super::row_scale(&values).dequantize.is_nan());
        }
        assert_eq!(super::super::row_scale(&[-3.0, 2.0]), Scale::from_abs_max(3.0));
    }
}
