// SPDX-License-Identifier: MIT OR Apache-2.0

//! AVX-512 helpers shared by [`i24`](super::i24) and [`amx`](super::amx).

#![allow(unsafe_code)]

use std::{arch::x86_64::*, mem::transmute, sync::LazyLock};

use super::{ColumnsMut, epilogue::Epilogue};

/// Floats per vector.
pub(super) const LANES: usize = 16;

/// Whether this processor supports all features that AVX-512 code is compiled for here: those that `pulp` requires.
pub(super) fn is_supported() -> bool {
    static IS_SUPPORTED: LazyLock<bool> = LazyLock::new(|| pulp::x86::V4::try_new().is_some());
    *IS_SUPPORTED
}

/// Up to 16 values, padded with zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load(values: &[f32]) -> __m512 {
    // SAFETY: the mask limits the read to `values`.
    unsafe { _mm512_maskz_loadu_ps(lane_mask(values.len()), values.as_ptr()) }
}

/// Stores as many of `values` as fit into `dst`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn store(dst: &mut [f32], values: __m512) {
    match dst.len() {
        // SAFETY: `dst` has at least 16 floats.
        LANES.. => unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), values) },
        // SAFETY: the mask limits the write to `dst`.
        few => unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lane_mask(few), values) },
    }
}

/// Selects the first `count` lanes.
fn lane_mask(count: usize) -> u16 {
    match count {
        LANES.. => u16::MAX,
        few => (1 << few) - 1,
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn abs_bits(values: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(i32::MAX))
}

/// The largest absolute value of each column of `rows`, not finite if one of them is not. Floats without sign are
/// compared as integers, which gives the same order and places infinity and NaN above all finite values.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn column_abs_max<const PANEL_WIDTH: usize>(rows: &[[f32; PANEL_WIDTH]]) -> [f32; PANEL_WIDTH] {
    let mut abs_max = [0.0; PANEL_WIDTH];
    for first in (0..PANEL_WIDTH).step_by(LANES) {
        let mut abs_max_bits = _mm512_setzero_si512();
        for row in rows {
            abs_max_bits = _mm512_max_epu32(abs_max_bits, abs_bits(load(&row[first..])));
        }
        let lanes = PANEL_WIDTH.min(first + LANES) - first;
        // SAFETY: the mask limits the write to these columns.
        unsafe {
            _mm512_mask_storeu_epi32(abs_max[first..].as_mut_ptr().cast(), lane_mask(lanes), abs_max_bits);
        }
    }
    abs_max
}

/// Applies `epilogue`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn activate(value: __m512, epilogue: Epilogue) -> __m512 {
    if epilogue == Epilogue::Identity {
        return value;
    }
    // SAFETY: this function is compiled with all features that `pulp` requires beyond the x86-64 baseline; both types
    // are 16 floats.
    unsafe {
        let simd = pulp::x86::V4::new_unchecked();
        let value = transmute::<__m512, pulp::f32x16>(value);
        transmute::<pulp::f32x16, __m512>(epilogue.apply(simd, value))
    }
}

/// Finishes up to 16 columns of a row: applies the epilogue, adds `residual`, which has the shape of `output`, and
/// stores the result at `row` and `column`, up to the end of the columns of `output`.
///
/// # Panics
/// If the position is out of range, or `residual` has another size.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store_row(
    value: __m512,
    epilogue: Epilogue,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    (row, column): (usize, usize),
) {
    let mut value = activate(value, epilogue);
    let output_size = output.rows() * output.width();
    let start = row * output.width() + column;
    let dst = output.row_from(row, column);
    let width = LANES.min(dst.len());
    if let Some(residual) = residual {
        assert!(residual.len() == output_size);
        value = _mm512_add_ps(value, load(&residual[start..start + width]));
    }
    // SAFETY: the mask limits the write to `dst`.
    unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lane_mask(width), value) };
}
