// SPDX-License-Identifier: MIT OR Apache-2.0

//! A task, as an operation sees it: whole inputs, and the part of the outputs that it writes.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{MAX_INPUTS, MAX_OUTPUTS, MAX_SCALARS, Split};
use crate::gemm::{ColumnsMut, Lhs, Output, Target};

/// Address and length of a tensor. A null address stands for a tensor that has not been set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawSlice {
    pub(crate) start: *mut f32,
    pub(crate) length: usize,
}

// SAFETY: it is only an address and a length. Whoever dereferences it guarantees that no other thread writes there.
unsafe impl Send for RawSlice {}
// SAFETY: as above.
unsafe impl Sync for RawSlice {}

impl RawSlice {
    pub(crate) const NULL: Self = Self {
        start: std::ptr::null_mut(),
        length: 0,
    };

    /// Part `index` of `count` parts of the same length, one after the other.
    ///
    /// # Panics
    /// If there is no such part.
    pub(crate) fn part(self, index: usize, count: usize) -> Self {
        assert!(index < count);
        let length = self.length / count;
        Self {
            // Whoever accesses them guarantees that they are valid.
            start: self.start.wrapping_add(index * length),
            length,
        }
    }
}

/// Where an operation writes an output.
#[derive(Debug, Clone)]
pub(crate) struct TaskOutput {
    /// If it is packed, the rows of all streams.
    pub(crate) values: RawSlice,
    pub(crate) width: usize,
    /// If it is packed, the rows to write.
    pub(crate) packed_rows: Option<Range<usize>>,
}

impl TaskOutput {
    const NONE: Self = Self {
        values: RawSlice::NULL,
        width: 0,
        packed_rows: None,
    };
}

/// A task's part of a tensor that is updated.
#[derive(Debug)]
pub struct InPlace<'a> {
    /// The current values; `None` if the next values are written in the same place.
    pub current: Option<&'a [f32]>,
    /// Where to write the next values.
    pub next: &'a mut [f32],
}

/// A task of an operation.
#[derive(Debug)]
pub struct Task<'a> {
    index: usize,
    /// The rows or columns of this task.
    range: Range<usize>,
    split: Split,
    inputs: [RawSlice; MAX_INPUTS],
    input_count: usize,
    scalars: [usize; MAX_SCALARS],
    outputs: [TaskOutput; MAX_OUTPUTS],
    output_count: usize,
    in_place: &'a [(usize, usize)],
    lhs: Option<Lhs<'a>>,
}

impl<'a> Task<'a> {
    /// Task `index` of an operation that is divided by `split`.
    ///
    /// # Safety
    /// As long as the task exists:
    /// * Inputs and outputs are valid, and `index` is below the number of tasks.
    /// * All tasks of the operation on a stream have the same arguments, except for the index, of which each exists once.
    /// * Nothing but these tasks accesses outputs, and nothing writes inputs that are not also outputs. Of a packed output,
    ///   this holds for the rows to write; tasks of other streams write others.
    /// * Outputs do not overlap each other, nor an input, except that a pair of `in_place` may be one tensor.
    pub(crate) unsafe fn new(
        index: usize,
        split: Split,
        inputs: impl IntoIterator<Item = RawSlice>,
        scalars: impl IntoIterator<Item = usize>,
        outputs: impl IntoIterator<Item = TaskOutput>,
        in_place: &'a [(usize, usize)],
        lhs: Option<Lhs<'a>>,
    ) -> Self {
        let mut task = Self {
            index,
            range: 0..0,
            split,
            inputs: [RawSlice::NULL; MAX_INPUTS],
            input_count: 0,
            scalars: [0; MAX_SCALARS],
            outputs: [TaskOutput::NONE; MAX_OUTPUTS],
            output_count: 0,
            in_place,
            lhs,
        };
        for (dst, input) in task.inputs.iter_mut().zip(inputs) {
            *dst = input;
            task.input_count += 1;
        }
        for (dst, scalar) in task.scalars.iter_mut().zip(scalars) {
            *dst = scalar;
        }
        for (dst, output) in task.outputs.iter_mut().zip(outputs) {
            *dst = output;
            task.output_count += 1;
        }
        task.range = split.range(index, task.outputs[0].width);
        task
    }

    /// Its index among the tasks of the operation.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The rows or columns that it writes.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// An input, in row-major layout.
    ///
    /// # Panics
    /// If there is no such input; if it is updated in place; or if it is the left-hand side of
    /// [weights](super::FusedOp::weights) and not row-major.
    pub fn input(&self, index: usize) -> &'a [f32] {
        let RawSlice { start, length } = self.inputs[..self.input_count][index];
        let mut outputs = self.outputs[..self.output_count].iter();
        assert!(!start.is_null());
        // Tensors without values may have the same address.
        assert!(length == 0 || outputs.all(|output| output.values.start != start));
        // SAFETY: it is valid, and nothing writes it, because it is not one of the outputs.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// As [`input`](Self::input), if there is one.
    pub fn optional_input(&self, index: usize) -> Option<&'a [f32]> {
        (index < self.input_count).then(|| self.input(index))
    }

    /// A scalar.
    pub fn scalar(&self, index: usize) -> usize {
        self.scalars[index]
    }

    /// The first input in the layout of the operation's [weights](super::FusedOp::weights).
    ///
    /// # Panics
    /// If the operation has none.
    pub fn lhs(&self) -> Lhs<'a> {
        match self.lhs {
            Some(lhs) => lhs,
            None => panic!("the operation has no weights"),
        }
    }

    /// Its rows of the first output.
    ///
    /// # Panics
    /// If the operation is not divided by rows.
    pub fn rows_mut(&mut self) -> &mut [f32] {
        let Split::Rows { rows, .. } = self.split else {
            panic!("the operation is not divided by rows");
        };
        let RawSlice { start, length } = self.row_major(0);
        let width = length.checked_div(rows).unwrap_or_default();
        assert!(self.range.end * width <= length);
        // SAFETY: these values are within the output. Ranges of different tasks are disjoint, and this task is borrowed
        // mutably.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.range.start * width), self.range.len() * width) }
    }

    /// Its columns of the first outputs.
    ///
    /// # Panics
    /// If the operation is not divided by columns, has fewer outputs, or they differ in width.
    pub fn columns_mut<const N: usize>(&mut self) -> [ColumnsMut<'_>; N] {
        std::array::from_fn(|index| {
            self.row_major(index);
            let output = self.columns_output(index);
            // SAFETY: ranges of different tasks are disjoint, outputs do not overlap, and this task is borrowed mutably.
            unsafe { output.columns(self.range.clone()) }
        })
    }

    /// Its columns of the first output, in the layout that their readers need: packed only if the operation
    /// [supports it](super::FusedOp::can_pack_output).
    ///
    /// # Panics
    /// If the operation is not divided by columns.
    pub fn target(&mut self) -> Target<'_> {
        self.target_of_first()
    }

    fn target_of_first<'b>(&self) -> Target<'b>
    where
        'a: 'b,
    {
        let output = self.columns_output(0);
        // SAFETY: as in `columns_mut`: callers borrow the task mutably. All tasks write the same layout, those of other
        // streams other rows.
        unsafe {
            match &self.outputs[0].packed_rows {
                Some(rows) => Target::Packed(output.packed(rows.clone(), self.range.clone())),
                None => Target::RowMajor(output.columns(self.range.clone())),
            }
        }
    }

    /// The [target](Self::target), and its part of the tensors that the operation updates [in
    /// place](super::Signature::in_place): each is divided evenly among the tasks.
    ///
    /// # Panics
    /// If the operation updates another number of tensors, or they cannot be divided evenly.
    pub fn target_and_in_place<const N: usize>(&mut self) -> (Target<'_>, [InPlace<'_>; N]) {
        assert_eq!(self.in_place.len(), N);
        let parts = std::array::from_fn(|index| {
            let (input, output) = self.in_place[index];
            self.in_place_part(input, output)
        });
        (self.target_of_first(), parts)
    }

    fn in_place_part<'b>(&self, input: usize, output: usize) -> InPlace<'b> {
        let (current, next) = (self.inputs[..self.input_count][input], self.row_major(output));
        let tasks = self.split.tasks();
        assert!(output > 0 && !current.start.is_null() && current.length == next.length);
        assert!(next.length.is_multiple_of(tasks));
        let size = next.length / tasks;
        // SAFETY: part `index` of the tensors, which have this length. Parts of different tasks are disjoint, no other
        // operation accesses the tensors, and this task is borrowed mutably: see `target_and_in_place`. If both are the same
        // tensor, there is one reference.
        unsafe {
            InPlace {
                current: (current.start != next.start)
                    .then(|| std::slice::from_raw_parts(current.start.add(self.index * size), size)),
                next: std::slice::from_raw_parts_mut(next.start.add(self.index * size), size),
            }
        }
    }

    fn row_major(&self, output: usize) -> RawSlice {
        let output = &self.outputs[..self.output_count][output];
        assert!(!output.values.start.is_null() && output.packed_rows.is_none());
        output.values
    }

    fn columns_output(&self, index: usize) -> Output<'a> {
        let &TaskOutput { values, width, .. } = &self.outputs[..self.output_count][index];
        assert!(matches!(self.split, Split::Columns { .. }) && width == self.outputs[0].width);
        // SAFETY: the output is valid. Its parts do not overlap: see those who create them.
        unsafe { Output::at(values.start, values.length, width) }
    }
}
