// SPDX-License-Identifier: MIT OR Apache-2.0

//! In place of `tiles`, where processors have none: nobody asks for them.

use super::{Output, ending::Ending};

pub(super) const COLUMNS: usize = 1;

pub(super) fn are_there(_: usize) -> bool {
    false
}

pub(super) fn bytes(_: usize, _: usize) -> Option<usize> {
    None
}

pub(super) fn pack(_: &[[f32; COLUMNS]], _: &mut [u8]) -> [f32; COLUMNS] {
    unreachable!("there are no tiles")
}

#[derive(Debug, Default)]
pub(crate) struct Digits(());

impl Digits {
    pub(super) fn take(&mut self, _: &[f32], _: usize) {}

    pub(super) fn rows(&self) -> usize {
        0
    }
}

#[allow(dead_code)] // nobody makes one
pub(super) struct Column<'a> {
    pub(super) scales: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) ending: Ending,
}

pub(super) fn multiply<'a>(
    _: (&Digits, usize, Option<&[f32]>),
    _: impl Iterator<Item = (&'a [u8], Column<'a>)> + Clone,
    _: usize,
    _: &Output<'_>,
) {
    unreachable!("there are no tiles")
}
