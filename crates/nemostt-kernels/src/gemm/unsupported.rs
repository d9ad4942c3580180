// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replaces `amx` and `i24` on targets without them; none of it is called.

#![allow(dead_code)] // each of the two modules uses a part

use super::{
    byte_planes::{PLANES, TileRow},
    epilogue::EpilogueParams,
};

/// As `fixed_point` has it.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) dequantize: f32,
}

pub(super) const PANEL_WIDTH: usize = 1;

pub(super) fn is_supported() -> bool {
    false
}

pub(super) fn has_tiles() -> bool {
    false
}

pub(super) fn supports_k(_: usize) -> bool {
    false
}

pub(super) fn packed_size(_: usize, _: usize) -> Option<usize> {
    None
}

pub(super) fn pack(_: &[[f32; PANEL_WIDTH]], _: &mut [u8]) -> [f32; PANEL_WIDTH] {
    unreachable!("this weight format is not supported on this target")
}

pub(super) fn row_scale(_: &[f32]) -> Scale {
    unreachable!("this weight format is not supported on this target")
}

pub(super) fn split_planes(_: &[f32], _: Scale, _: [&mut TileRow; PLANES]) {
    unreachable!("this weight format is not supported on this target")
}

pub(super) fn multiply<'a, Input, Output>(
    _: (Input, usize, Option<&[f32]>),
    _: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    _: usize,
    _: Output,
) {
    unreachable!("this weight format is not supported on this target")
}

pub(super) fn transpose(_: &[f32], _: usize, _: (usize, usize), _: &mut [f32]) {
    unreachable!("there is no vectorized transpose on this target")
}
