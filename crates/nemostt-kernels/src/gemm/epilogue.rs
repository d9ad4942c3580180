// SPDX-License-Identifier: MIT OR Apache-2.0

//! Element-wise operations applied to a GEMM's result while it is in registers.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::{super::simd_math::silu, ColumnsMut};

/// Activation applied to a GEMM's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Epilogue {
    /// No activation.
    Identity,
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// Per-column parameters of a panel.
pub(super) struct EpilogueParams<'a> {
    /// Dequantization factor of each column.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // other targets have no quantized formats
    pub(super) scales: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) epilogue: Epilogue,
}

impl Epilogue {
    /// Applies the activation.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, acc: S::f32s) -> S::f32s {
        match self {
            Self::Identity => acc,
            Self::Silu => silu(simd, acc),
            // With the operands in this order, NaN propagates.
            Self::Relu => simd.max_f32s(simd.splat_f32s(0.0), acc),
        }
    }
}

/// Rows of accumulators, each of which fills whole vectors.
struct Activate<'a>(Epilogue, &'a mut [f32]);

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for value in S::as_mut_simd_f32s(self.1).0 {
            *value = self.0.apply(simd, *value);
        }
    }
}

/// Applies the epilogue to `acc`, adds `residual`, which has the shape of `output`, and stores the first `columns`
/// values of each row at (row, column) `origin` of `output`.
pub(super) fn store_with_epilogue<const WIDTH: usize>(
    epilogue: Epilogue,
    acc: &mut [[f32; WIDTH]],
    columns: usize,
    residual: Option<&[f32]>,
    output: &mut ColumnsMut<'_>,
    origin: (usize, usize),
) {
    if epilogue != Epilogue::Identity {
        Arch::new().dispatch(Activate(epilogue, acc.as_flattened_mut()));
    }
    for (row, acc) in acc.iter_mut().enumerate() {
        let (row, column) = (origin.0 + row, origin.1);
        if let Some(residual) = residual {
            let residual = &residual[row * output.width() + column..(row + 1) * output.width()];
            acc.iter_mut()
                .zip(residual)
                .for_each(|(value, residual)| *value += residual);
        }
        output.put(row, column, &acc[..columns]);
    }
}
