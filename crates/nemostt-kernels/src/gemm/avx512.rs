// SPDX-License-Identifier: MIT OR Apache-2.0

//! What [`i24`](super::i24) and [`amx`](super::amx) both do with vectors of 512 bits.

#![allow(unsafe_code)]

use std::{arch::x86_64::*, mem::transmute, sync::LazyLock};

use super::{ColumnsMut, epilogue::Epilogue};

/// Floats in a vector.
pub(super) const LANES: usize = 16;

/// Whether this processor has all that code for vectors of 512 bits is compiled for: what `pulp` asks for.
pub(super) fn is_supported() -> bool {
    static IS_SUPPORTED: LazyLock<bool> = LazyLock::new(|| pulp::x86::V4::try_new().is_some());
    *IS_SUPPORTED
}

/// Up to 16 values, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load(values: &[f32]) -> __m512 {
    // SAFETY: no more is read than there are.
    unsafe { _mm512_maskz_loadu_ps(lane_mask(values.len()), values.as_ptr()) }
}

/// As many of the first of `values` as there is room for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn store(dst: &mut [f32], values: __m512) {
    match dst.len() {
        // SAFETY: there is room for 16 floats.
        LANES.. => unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), values) },
        // SAFETY: no more is written than there is room for.
        few => unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lane_mask(few), values) },
    }
}

/// That of the first `count` of a vector.
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

/// The largest of each column of `rows`, without signs, and what is not finite above all. Floats are compared by their bits,
/// which lie in the order of the numbers; what is not a number lies above all of them.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn column_abs_max<const PANEL_WIDTH: usize>(rows: &[[f32; PANEL_WIDTH]]) -> [f32; PANEL_WIDTH] {
    let mut abs_max = [0.0; PANEL_WIDTH];
    for first in (0..PANEL_WIDTH).step_by(LANES) {
        let mut most = _mm512_setzero_si512();
        for row in rows {
            most = _mm512_max_epu32(most, abs_bits(load(&row[first..])));
        }
        let lanes = PANEL_WIDTH.min(first + LANES) - first;
        // SAFETY: no more is written than there is room for.
        unsafe {
            _mm512_mask_storeu_epi32(abs_max[first..].as_mut_ptr().cast(), lane_mask(lanes), most);
        }
    }
    abs_max
}

/// What `epilogue` makes of sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn activate(value: __m512, epilogue: Epilogue) -> __m512 {
    if epilogue == Epilogue::Identity {
        return value;
    }
    // SAFETY: this function is compiled for all that `pulp` asks for beyond what every x86-64 has; both are 16 floats.
    unsafe {
        let simd = pulp::x86::V4::new_unchecked();
        let value = transmute::<__m512, pulp::f32x16>(value);
        transmute::<pulp::f32x16, __m512>(epilogue.apply(simd, value))
    }
}

/// Ends the sums of up to 16 columns of a row: does what follows, adds `residual`, which is as large as `output`, and writes them to
/// row and column `place`, as far as the row goes.
///
/// # Panics
/// If that lies beyond the output, or `residual` is of another size.
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
    let whole = output.rows() * output.width();
    let start = row * output.width() + column;
    let dst = output.row_from(row, column);
    let width = LANES.min(dst.len());
    if let Some(residual) = residual {
        assert!(residual.len() == whole);
        value = _mm512_add_ps(value, load(&residual[start..start + width]));
    }
    // SAFETY: no more is written than there is room for.
    unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lane_mask(width), value) };
}
