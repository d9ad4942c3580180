// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done with a product's sums while they are at hand.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::{super::simd_math::silu, ColumnsMut};

/// What becomes of a product's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Epilogue {
    /// Nothing.
    Identity,
    /// `x · sigmoid(x)`.
    Silu,
    /// `x`, or zero where that is less.
    Relu,
}

/// What the columns of a panel are besides its numbers.
pub(super) struct EpilogueParams<'a> {
    /// What the numbers of each column are multiplied by.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // no form there has numbers
    pub(super) scales: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) epilogue: Epilogue,
}

impl Epilogue {
    /// What becomes of `sums`.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, sums: S::f32s) -> S::f32s {
        match self {
            Self::Identity => sums,
            Self::Silu => silu(simd, sums),
            // In this order, what is not a number stays so.
            Self::Relu => simd.max_f32s(simd.splat_f32s(0.0), sums),
        }
    }
}

/// Rows of sums of which each fills whole vectors.
struct Activate<'a>(Epilogue, &'a mut [f32]);

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for sum in S::as_mut_simd_f32s(self.1).0 {
            *sum = self.0.apply(simd, *sum);
        }
    }
}

/// Ends `sums`, whose first value belongs to row and column `place` of `output` and which has `columns` columns in each of
/// its rows. `residual`, if there is any, is as large as `output` and is added.
pub(super) fn store_with_epilogue<const WIDTH: usize>(
    epilogue: Epilogue,
    sums: &mut [[f32; WIDTH]],
    columns: usize,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    place: (usize, usize),
) {
    if epilogue != Epilogue::Identity {
        Arch::new().dispatch(Activate(epilogue, sums.as_flattened_mut()));
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        let (row, column) = (place.0 + row, place.1);
        if let Some(residual) = residual {
            let residual = &residual[row * output.width() + column..(row + 1) * output.width()];
            sums.iter_mut()
                .zip(residual)
                .for_each(|(sum, residual)| *sum += residual);
        }
        output.put(row, column, &sums[..columns]);
    }
}
