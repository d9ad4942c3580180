// SPDX-License-Identifier: MIT OR Apache-2.0

//! Left-hand sides as 24-bit integers in three planes of signed bytes, in the order in which [`amx`](super::amx) loads
//! tiles: groups of up to [`TILE_ROWS`] rows, and for every 64 values of `k`, the lowest bytes of all rows of the group,
//! then the middle ones, then the highest.
//!
//! See [`fixed_point`](super::fixed_point) for the precision; the accumulation is exact. The bytes of a number, the lowest
//! first, range from -128 to 127: `n = b0 + 256·b1 + 65536·b2`.
//!
//! Each row has a scale of its own, so several threads can pack different rows at the same time.

use std::{marker::PhantomData, ops::Range};

use super::amx;

/// Bytes of a number, and number of planes.
pub(super) const PLANES: usize = 3;

/// `(n + SIGN_BIAS) ^ SIGN_BIAS` has the signed bytes of `n`.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) const SIGN_BIAS: i32 = 0x80_80_80;

/// A tile row: 64 bytes of one plane, which are one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct TileRow(pub(super) [u8; TILE_ROW_BYTES]);

/// Bytes of a tile row.
pub(super) const TILE_ROW_BYTES: usize = 64;

/// Maximum rows of a tile.
pub(super) const TILE_ROWS: usize = 16;

/// Tile rows per row of `k` values.
fn tile_rows_per_row(k: usize) -> usize {
    k.div_ceil(TILE_ROW_BYTES) * PLANES
}

/// The byte planes of rows \[rows, k\].
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by tiles alone
pub struct BytePlanes<'a> {
    tile_rows: &'a [TileRow],
    /// Dequantization factor of each row.
    scales: &'a [f32],
}

impl<'a> BytePlanes<'a> {
    /// Quantizes rows of `k` values. Allocates only if `dst` is too small.
    ///
    /// # Panics
    /// If the byte planes do not fit in memory, or this processor does not support AVX-512.
    pub(super) fn pack(lhs: &[f32], k: usize, dst: &'a mut BytePlanesBuffer) -> Self {
        let rows = lhs.len() / k;
        assert!(dst.reserve(rows, k), "{rows} rows of {k} values do not fit in memory");
        let planes = dst.planes(rows, k);
        // SAFETY: the buffer is mutably borrowed for the lifetime of the result, and the part is gone when it is read.
        #[allow(unsafe_code)]
        unsafe {
            planes.rows_mut(0..rows).put(lhs);
            planes.read()
        }
    }

    /// Groups of up to [`TILE_ROWS`] rows: the first row, the tile rows, and the dequantization factors of the rows.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn row_groups(self, k: usize) -> impl Iterator<Item = (usize, &'a [TileRow], &'a [f32])> {
        let size = TILE_ROWS * tile_rows_per_row(k);
        let row_groups = self.tile_rows.chunks(size).zip(self.scales.chunks(TILE_ROWS));
        (0..)
            .step_by(TILE_ROWS)
            .zip(row_groups)
            .map(|(row, (tile_rows, scales))| (row, tile_rows, scales))
    }

    /// Number of rows.
    pub(super) fn rows(self) -> usize {
        self.scales.len()
    }
}

/// Memory for byte planes. It only grows.
#[derive(Debug, Default)]
pub(crate) struct BytePlanesBuffer {
    tile_rows: Vec<TileRow>,
    scales: Vec<f32>,
}

impl BytePlanesBuffer {
    /// Makes room for rows of `k` values. Returns `false` if their size overflows.
    pub(crate) fn reserve(&mut self, rows: usize, k: usize) -> bool {
        let tile_rows = rows.checked_mul(tile_rows_per_row(k));
        let Some(tile_rows) = tile_rows.filter(|&count| count <= isize::MAX as usize / TILE_ROW_BYTES) else {
            return false;
        };
        if self.tile_rows.len() < tile_rows {
            self.tile_rows.resize(tile_rows, TileRow([0; TILE_ROW_BYTES]));
        }
        if self.scales.len() < rows {
            self.scales.resize(rows, 0.0);
        }
        true
    }

    /// The byte planes of rows of `k` values, for which there is [room](Self::reserve).
    ///
    /// # Panics
    /// If there is not.
    pub(crate) fn planes(&mut self, rows: usize, k: usize) -> RawBytePlanes {
        assert!(self.scales.len() >= rows && self.tile_rows.len() / tile_rows_per_row(k).max(1) >= rows);
        RawBytePlanes {
            tile_rows: self.tile_rows.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            rows,
            k,
        }
    }
}

/// Where the byte planes of rows \[rows, k\] are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawBytePlanes {
    tile_rows: *mut TileRow,
    scales: *mut f32,
    rows: usize,
    k: usize,
}

// SAFETY: these are only addresses and sizes. Whoever dereferences them guarantees that no other thread writes there.
#[allow(unsafe_code)]
unsafe impl Send for RawBytePlanes {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for RawBytePlanes {}

impl RawBytePlanes {
    /// All rows.
    ///
    /// # Safety
    /// The [buffer](BytePlanesBuffer) must exist and not grow, and nothing may write it, while the result exists.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn read<'a>(self) -> BytePlanes<'a> {
        let tile_rows = self.rows * tile_rows_per_row(self.k);
        // SAFETY: the buffer has room for these, and nothing writes it.
        unsafe {
            BytePlanes {
                tile_rows: std::slice::from_raw_parts(self.tile_rows, tile_rows),
                scales: std::slice::from_raw_parts(self.scales, self.rows),
            }
        }
    }

    /// Some of the rows, to write them.
    ///
    /// # Panics
    /// If the rows are out of range.
    ///
    /// # Safety
    /// The [buffer](BytePlanesBuffer) must exist and not grow, and these rows must not be accessed in any other way, while
    /// the result exists.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn rows_mut<'a>(self, rows: Range<usize>) -> BytePlanesMut<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        BytePlanesMut {
            planes: self,
            rows,
            values: PhantomData,
        }
    }
}

/// Some rows of byte planes, with exclusive access.
#[derive(Debug)]
pub(crate) struct BytePlanesMut<'a> {
    planes: RawBytePlanes,
    rows: Range<usize>,
    values: PhantomData<&'a mut [TileRow]>,
}

impl BytePlanesMut<'_> {
    /// Quantizes `lhs`, \[rows, k\], into these rows.
    ///
    /// # Panics
    /// If `lhs` is not as many rows as these, or this processor does not support AVX-512.
    pub(crate) fn put(&mut self, lhs: &[f32]) {
        let k = self.planes.k;
        assert!(lhs.len() == self.rows.len() * k);
        for (row, values) in self.rows.clone().zip(lhs.chunks_exact(k.max(1))) {
            self.put_row(row, values);
        }
    }

    fn put_row(&mut self, row: usize, values: &[f32]) {
        let RawBytePlanes {
            tile_rows,
            scales,
            rows,
            k,
        } = self.planes;
        debug_assert!(self.rows.contains(&row) && values.len() == k);
        let scale = amx::row_scale(values);
        let group = row - row % TILE_ROWS;
        let group_rows = TILE_ROWS.min(rows - group);
        let group_start = group * tile_rows_per_row(k);
        for (step, values) in values.chunks(TILE_ROW_BYTES).enumerate() {
            let planes = std::array::from_fn(|plane| {
                let index = group_start + (step * PLANES + plane) * group_rows + row - group;
                // SAFETY: within the tile rows of the group: a step has PLANES times `group_rows` of them, and there are
                // as many steps as chunks of `k` values. It belongs to this row, which is exclusive, and to no other plane
                // or step.
                #[allow(unsafe_code)]
                unsafe {
                    &mut *tile_rows.add(index)
                }
            });
            amx::split_planes(values, scale, planes);
        }
        // SAFETY: there is a scale for each row, and this row is exclusive.
        #[allow(unsafe_code)]
        unsafe {
            *scales.add(row) = scale.dequantize;
        }
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::thread;

    use super::{super::avx512, *};
    use crate::noise;

    fn code(bytes: i32) -> i32 {
        let byte = |index: u32| i32::from((bytes >> (8 * index)) as u8 as i8);
        byte(0) + 256 * byte(1) + 65536 * byte(2)
    }

    #[test]
    fn byte_planes_reconstruct_the_code() {
        for value in (-8_355_704..=8_355_704)
            .step_by(1013)
            .chain([-8_355_704, 8_355_704, 127, 128, -128, -129])
        {
            assert_eq!(code((value + SIGN_BIAS) ^ SIGN_BIAS), value);
        }
    }

    #[test]
    fn lhs_is_packed_in_row_groups() {
        if !avx512::is_supported() {
            return;
        }
        let (rows, k) = (19, 70);
        let lhs: Vec<f32> = (0..rows * k).map(|index| index as f32).collect();
        let mut buffer = BytePlanesBuffer::default();
        for _ in 0..2 {
            let planes = BytePlanes::pack(&lhs, k, &mut buffer);
            assert_eq!(planes.rows(), rows);
            let row_groups: Vec<_> = planes.row_groups(k).collect();
            assert_eq!(row_groups.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 16]);
            for (first, tile_rows, scales) in row_groups {
                for (row, scale) in scales.iter().enumerate() {
                    for i in 0..2 * TILE_ROW_BYTES {
                        let byte = |index| {
                            let tile_row: &TileRow =
                                &tile_rows[(i / TILE_ROW_BYTES * PLANES + index) * scales.len() + row];
                            f64::from(tile_row.0[i % TILE_ROW_BYTES] as i8)
                        };
                        let got = (byte(0) + 256.0 * byte(1) + 65536.0 * byte(2)) * f64::from(*scale);
                        let expected = if i < k { ((first + row) * k + i) as f64 } else { 0.0 };
                        assert!((got - expected).abs() < 2e-4, "{got} for {expected}");
                    }
                }
            }
        }
    }

    /// All bytes and scales.
    fn bits(planes: BytePlanes<'_>) -> (Vec<u8>, Vec<u32>) {
        let bytes = planes.tile_rows.iter().flat_map(|tile_row| tile_row.0);
        (
            bytes.collect(),
            planes.scales.iter().map(|scale| scale.to_bits()).collect(),
        )
    }

    /// A buffer that has been used for other values, which must not show.
    fn used_buffer(rows: usize, k: usize) -> BytePlanesBuffer {
        let mut buffer = BytePlanesBuffer::default();
        assert!(buffer.reserve(rows + 1, k + 64));
        buffer.tile_rows.fill(TileRow([0xa5; TILE_ROW_BYTES]));
        buffer.scales.fill(f32::NAN);
        buffer
    }

    #[test]
    fn rows_packed_by_several_threads_equal_those_packed_by_one() {
        if !avx512::is_supported() {
            return;
        }
        for k in [1, 5, 33, 63, 64, 65, 100, 129] {
            for rows in 1..=40 {
                // Rows of very different magnitudes, one of zeros, one that is not finite.
                let mut lhs = noise(rows * k, (rows * k) as u32);
                for (row, values) in lhs.chunks_exact_mut(k).enumerate() {
                    let factor = if row == 7 { 0.0 } else { 10.0_f32.powi(row as i32 - 20) };
                    values.iter_mut().for_each(|value| *value *= factor);
                }
                if rows > 11 {
                    lhs[11 * k + k / 2] = f32::INFINITY;
                }
                let mut alone = used_buffer(rows, k);
                let expected = bits(BytePlanes::pack(&lhs, k, &mut alone));
                for parts in [2, 3, 5, rows].into_iter().filter(|&parts| parts <= rows) {
                    let mut buffer = used_buffer(rows, k);
                    let planes = buffer.planes(rows, k);
                    let (lhs, part) = (&lhs, |index: usize| index * rows / parts..(index + 1) * rows / parts);
                    let pack = |index: usize| {
                        let rows = part(index);
                        // SAFETY: rows of different parts are disjoint, and nothing reads them before all are written.
                        #[allow(unsafe_code)]
                        let mut rows_mut = unsafe { planes.rows_mut(rows.clone()) };
                        rows_mut.put(&lhs[rows.start * k..rows.end * k]);
                    };
                    match parts {
                        3 => thread::scope(|scope| {
                            (0..parts).for_each(|index| {
                                scope.spawn(move || pack(index));
                            });
                        }),
                        _ => (0..parts).rev().for_each(pack),
                    }
                    // SAFETY: nothing writes them any more.
                    #[allow(unsafe_code)]
                    let got = bits(unsafe { planes.read() });
                    assert!(got == expected, "{rows} rows of {k} in {parts} parts");
                }
            }
        }
    }

    #[test]
    fn only_own_rows_are_written() {
        if !avx512::is_supported() {
            return;
        }
        let (rows, k) = (19, 70);
        let mut buffer = used_buffer(rows, k);
        let planes = buffer.planes(rows, k);
        // SAFETY: nothing else accesses the buffer.
        #[allow(unsafe_code)]
        unsafe {
            planes.rows_mut(14..17).put(&vec![1.0; 3 * k]);
        }
        // SAFETY: nothing writes them any more.
        #[allow(unsafe_code)]
        let planes = unsafe { planes.read() };
        let written = |tile_row: &&TileRow| tile_row.0 != [0xa5; TILE_ROW_BYTES];
        assert_eq!(planes.tile_rows.iter().filter(written).count(), 3 * 2 * PLANES);
        let written: Vec<usize> = (0..rows).filter(|&row| !planes.scales[row].is_nan()).collect();
        assert_eq!(written, [14, 15, 16]);
    }

    #[test]
    fn sizes_that_overflow_are_rejected() {
        let mut buffer = BytePlanesBuffer::default();
        // A row of one value takes three tile rows.
        assert!(!buffer.reserve(usize::MAX / 2, 1));
        assert!(!buffer.reserve(isize::MAX as usize / TILE_ROW_BYTES / PLANES + 1, 1));
        assert!(buffer.reserve(2, 1));
        assert!(std::panic::catch_unwind(move || buffer.planes(3, 1)).is_err());
    }
}
