// SPDX-License-Identifier: MIT OR Apache-2.0

//! Instruction sets that these kernels have code for.

use crate::gemm::{has_byte_planes, has_i24, vector_columns};

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet {
    /// `avx2`, `avx512`, `amx` or `neon`.
    pub name: &'static str,
    /// What uses it.
    pub used_by: &'static str,
    /// Whether this processor has it, and the kernels use it here.
    pub is_used: bool,
}

/// Those that there is code for, on any processor. A processor with AVX-512 uses that in place of AVX2, so `avx2` is not used
/// there.
pub fn instruction_sets() -> [InstructionSet; 4] {
    let is_x86 = cfg!(target_arch = "x86_64");
    // Two vectors of a micro-tile: 16 lanes are 256 bits, 32 are 512.
    let vectors = |columns: usize| is_x86 && vector_columns() == columns;
    [
        InstructionSet {
            name: "avx2",
            used_by: "weight format f32, all other kernels",
            is_used: vectors(16),
        },
        InstructionSet {
            name: "avx512",
            used_by: "weight formats f32 and i24, all other kernels",
            is_used: vectors(32) && has_i24(),
        },
        InstructionSet {
            name: "amx",
            used_by: "weight format byte planes",
            is_used: has_byte_planes(),
        },
        InstructionSet {
            name: "neon",
            used_by: "weight format f32, all other kernels",
            is_used: cfg!(target_arch = "aarch64"),
        },
    ]
}
