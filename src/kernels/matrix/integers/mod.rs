// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products with weights that are integers of 24 bits, on vectors of 512 bits: as exact as in float32, with a quarter less of
//! memory to read.
//!
//! Weights become floats in registers, once for all rows, and are multiplied and summed up as floats; the scale of a column
//! is applied to its sums. How exact that is: [`scale`](super::scale). Inputs stay as they are.
//!
//! A panel is 32 columns, row by row, 3 bytes for each number, the lowest first. Its sums for 14 rows take 28 of the 32
//! registers, so the values of the rows come from memory, each multiplied by two vectors of weights: they lie in the
//! order in which they are needed, value by value and then row by row. (Rows of 2048 values one behind the other have
//! all their values of a column in the same few lines of the cache, which then holds half of them.)

mod avx512;

pub(super) use super::avx512::is_there;
use super::{Output, avx512::LANES, ending::Column, scale::Scale};

/// Columns of a panel.
pub(super) const COLUMNS: usize = 2 * LANES;

/// Bytes of a number.
const BYTES: usize = 3;

/// The most rows that one pass serves.
const MOST_ROWS: usize = 14;

/// Bytes of weights for products of `depth` values and `columns` columns; `None`, if nothing is as large.
pub(super) fn bytes(depth: usize, columns: usize) -> Option<usize> {
    let row = columns.checked_next_multiple_of(COLUMNS)?.checked_mul(BYTES)?;
    row.checked_mul(depth)
}

/// Puts the numbers of a panel into `room`, from `values`: rows of [`COLUMNS`] values. Gives what the numbers of each column
/// are multiplied by.
///
/// # Panics
/// If this processor has no such vectors, or there is no room.
pub(super) fn pack(values: &[[f32; COLUMNS]], room: &mut [u8]) -> [f32; COLUMNS] {
    assert!(is_there());
    // SAFETY: the processor has these vectors.
    #[allow(unsafe_code)]
    let scales = unsafe { avx512::pack(values, room) };
    scales.map(|scale| scale.to_float)
}

/// Rows of an input in groups, each value by value and then row by row.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// Behind the last one is room for a vector.
    values: Vec<f32>,
    rows: usize,
}

impl Input {
    /// Takes over rows of `depth` values. Nothing is allocated if there were as many before.
    ///
    /// # Panics
    /// If this processor has no such vectors.
    pub(super) fn take(&mut self, input: &[f32], depth: usize) {
        assert!(is_there());
        self.rows = input.len() / depth;
        self.values.resize(input.len() + LANES, 0.0);
        for rows in groups(self.rows) {
            let count = rows.len();
            let input = &input[rows.start * depth..rows.end * depth];
            let turned = &mut self.values[rows.start * depth..][..count * depth + LANES];
            // SAFETY: the processor has these vectors.
            #[allow(unsafe_code)]
            unsafe {
                avx512::turn(input, count, turned);
            }
        }
    }

    /// How many there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}

/// Rows that are served together: no more than a pass can serve, in equal shares.
fn groups(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let share = rows.div_ceil(rows.div_ceil(MOST_ROWS).max(1)).max(1);
    (0..rows)
        .step_by(share)
        .map(move |first| first..rows.min(first + share))
}

/// `input`, rows of `depth` values, times `panels`, each with what lies [behind](super::pages::BEYOND) it. They go to `output`
/// from column `first` on; `more`, if there is any, is as large as `output` and is added to it.
///
/// # Panics
/// If a panel is not as deep as the input, or this processor has no such vectors.
pub(super) fn multiply<'a>(
    (input, depth, more): (&Input, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], Column<'a>)> + Clone,
    first: usize,
    output: &Output<'_>,
) {
    assert!(is_there());
    for rows in groups(input.rows) {
        let values = &input.values[rows.start * depth..rows.end * depth];
        for (column, (panel, ends)) in (first..).step_by(COLUMNS).zip(panels.clone()) {
            macro_rules! pass {
                ($($rows:literal)*) => {
                    match rows.len() {
                        $($rows => {
                            let mut sums = [[0.0; COLUMNS]; $rows];
                            // SAFETY: the processor has these vectors.
                            #[allow(unsafe_code)]
                            unsafe {
                                avx512::sum(values, panel, &mut sums);
                                avx512::end(&sums, &ends, more, output, (rows.start, column));
                            }
                        })*
                        _ => debug_assert!(rows.is_empty(), "no pass serves so many rows"),
                    }
                };
            }
            pass!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_turned_in_groups() {
        if !is_there() {
            return;
        }
        let mut turned = Input::default();
        for (rows, depth) in [
            (1, 5),
            (2, 40),
            (3, 64),
            (14, 33),
            (15, 20),
            (19, 70),
            (40, 16),
            (14, 17),
        ] {
            let input: Vec<f32> = (0..rows * depth).map(|index| index as f32).collect();
            turned.take(&input, depth);
            assert_eq!(turned.rows(), rows);
            let mut seen = 0;
            for group in groups(rows) {
                assert!(group.start == seen && group.len() <= MOST_ROWS);
                seen = group.end;
                let values = &turned.values[group.start * depth..];
                for (k, row) in (0..depth).flat_map(|k| group.clone().map(move |row| (k, row))) {
                    let got = values[k * group.len() + row - group.start];
                    assert_eq!(got, input[row * depth + k], "{rows} rows of {depth}: {row}, {k}");
                }
            }
            assert_eq!(seen, rows);
        }
    }
}
