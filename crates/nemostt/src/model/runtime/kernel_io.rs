// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inputs and outputs of an operation of ours, and the threads it runs on, by ONNX Runtime's C interface.
//!
//! `ort` has them, too, but makes a value with its type and shape on the heap for each: 600 of them in a step, at half a
//! microsecond. Here nothing is allocated.

#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{CStr, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{null_mut, slice_from_raw_parts, slice_from_raw_parts_mut},
    sync::atomic::{AtomicBool, Ordering},
};

use ort::{
    AsPointer,
    operator::ComputeContext,
    sys::{ONNXTensorElementDataType as Type, OrtStatusPtr, OrtTensorTypeAndShapeInfo, OrtValue},
};

/// More axes than any tensor of an encoder has.
pub(super) const MAX_RANK: usize = 8;

/// Sizes of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorShape {
    sizes: [i64; MAX_RANK],
    axes: usize,
}

impl TensorShape {
    /// Those of `rows` rows of `width` values.
    pub(super) fn of_rows(rows: usize, width: usize) -> Self {
        let mut sizes = [0; MAX_RANK];
        sizes[..2].copy_from_slice(&[rows as i64, width as i64]);
        Self { sizes, axes: 2 }
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut i64> {
        self.sizes[..self.axes].last_mut()
    }

    fn all(&self) -> &[i64] {
        &self.sizes[..self.axes]
    }

    /// Values along the last axis.
    pub(super) fn last(&self) -> usize {
        self.all().last().map_or(0, |&last| last.max(0) as usize)
    }

    /// Values of a tensor of these sizes.
    fn values(&self) -> usize {
        self.all().iter().map(|&size| size.max(0) as usize).product()
    }
}

/// What a run of an operation reads and writes.
pub(super) struct Tensors<'a> {
    context: &'a ComputeContext,
    /// The first output that was not handed out yet.
    next: Cell<usize>,
}

impl<'a> Tensors<'a> {
    /// Those of the run of `context`.
    ///
    /// # Safety
    /// A run may have them once: they hand out each output once. All outputs of the operation must be declared to be of
    /// float32, and no input or output may have values in common with an output, but for those whose
    /// [places](Self::output_place) are asked for.
    pub(super) unsafe fn of(context: &'a ComputeContext) -> Self {
        Self {
            context,
            next: Cell::new(0),
        }
    }

    /// Sizes and values of input `index`; an error where they are not float32, which ONNX Runtime checks of some operations
    /// only.
    pub(super) fn input(&self, index: usize) -> ort::Result<(TensorShape, &'a [f32])> {
        let (sizes, place) = self.input_place(index)?;
        // SAFETY: they last as long as the run, and no output is in the same place, as `of` demands.
        Ok((sizes, unsafe { &*place }))
    }

    /// As [`input`](Self::input), where an output may be in the same place.
    pub(super) fn input_place(&self, index: usize) -> ort::Result<(TensorShape, *const [f32])> {
        let value = self.value(index)?;
        // SAFETY: it is a tensor that lives, of float32, which `sizes_of` sees to.
        let (sizes, start) = unsafe {
            let sizes = sizes_of(value, Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)?;
            (sizes, data::<f32>(value)?)
        };
        Ok((sizes, slice_from_raw_parts(start, sizes.values())))
    }

    /// The one value of input `index`; an error where it is not of int64.
    pub(super) fn scalar(&self, index: usize) -> ort::Result<i64> {
        let value = self.value(index)?;
        // SAFETY: as for floats.
        let (sizes, start) = unsafe {
            let sizes = sizes_of(value, Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)?;
            (sizes, data::<i64>(value)?)
        };
        match sizes.values() {
            // SAFETY: there is one.
            1 => Ok(unsafe { *start }),
            _ => Err(ort::Error::new("an input of one number has another size")),
        }
    }

    pub(super) fn input_count(&self) -> ort::Result<usize> {
        self.context.num_inputs()
    }

    fn value(&self, index: usize) -> ort::Result<*mut OrtValue> {
        let api = ort::api();
        let mut value: *const OrtValue = null_mut();
        // SAFETY: ONNX Runtime gives the context of a run that lasts as long as the borrow.
        unsafe { check((api.KernelContext_GetInput)(self.context.ptr(), index, &mut value))? };
        match value.is_null() {
            true => Err(ort::Error::new("an operation has not all inputs")),
            false => Ok(value.cast_mut()),
        }
    }

    /// Room for output `index`. They are asked for in their order: an error, if this one or one behind it was.
    pub(super) fn output(&self, index: usize, sizes: TensorShape) -> ort::Result<&'a mut [f32]> {
        let place = self.output_place(index, sizes)?;
        // SAFETY: it lasts as long as the run, and nobody else has it: it is handed out once, and to a run that `of` demands
        // to be the only one.
        Ok(unsafe { &mut *place })
    }

    /// As [`output`](Self::output), where an input may be in the same place.
    pub(super) fn output_place(&self, index: usize, sizes: TensorShape) -> ort::Result<*mut [f32]> {
        if index < self.next.get() {
            return Err(ort::Error::new("an operation asks for an output twice"));
        }
        self.next.set(index + 1);
        let (api, all) = (ort::api(), sizes.all());
        let mut value: *mut OrtValue = null_mut();
        // SAFETY: as for inputs; ONNX Runtime wants to write what it notes of the output.
        unsafe {
            let context = self.context.ptr().cast_mut();
            let (sizes, axes) = (all.as_ptr(), all.len());
            check((api.KernelContext_GetOutput)(context, index, sizes, axes, &mut value))?;
        }
        if value.is_null() {
            return Err(ort::Error::new("an operation has not all outputs"));
        }
        // SAFETY: a tensor that lives, of float32, as `of` demands.
        let start = unsafe { data::<f32>(value)? };
        Ok(slice_from_raw_parts_mut(start, sizes.values()))
    }

    /// Calls `work` with each number below `task_count` once, on the threads of the session. A panic in it is an error.
    pub(super) fn parallel_for<F: Fn(usize) + Sync>(&self, task_count: usize, work: F) -> ort::Result<()> {
        struct Pieces<F> {
            work: F,
            has_panicked: AtomicBool,
        }
        unsafe extern "C" fn call<F: Fn(usize) + Sync>(task_count: *mut c_void, task: usize) {
            // SAFETY: it is the `task_count` below, which waits until all calls are done.
            let task_count = unsafe { &*task_count.cast::<Pieces<F>>() };
            // It must not unwind through ONNX Runtime. What is half written is not read: the run ends.
            if catch_unwind(AssertUnwindSafe(|| (task_count.work)(task))).is_err() {
                task_count.has_panicked.store(true, Ordering::Relaxed);
            }
        }
        let api = ort::api();
        let all = Pieces {
            work,
            has_panicked: AtomicBool::new(false),
        };
        // SAFETY: `all` lives until the call returns, and is only read.
        unsafe {
            let all = (&raw const all).cast_mut().cast();
            check((api.KernelContext_ParallelFor)(
                self.context.ptr(),
                call::<F>,
                task_count,
                task_count,
                all,
            ))?;
        }
        match all.has_panicked.into_inner() {
            true => Err(super::custom_ops::panicked()),
            false => Ok(()),
        }
    }
}

/// An error where `value` is not of `expected`.
///
/// # Safety
/// `value` must be a value that lives.
unsafe fn sizes_of(value: *const OrtValue, expected: Type) -> ort::Result<TensorShape> {
    let api = ort::api();
    let mut info: *mut OrtTensorTypeAndShapeInfo = null_mut();
    let mut sizes = TensorShape {
        sizes: [0; MAX_RANK],
        axes: 0,
    };
    // SAFETY: the caller's promise; no more is written than there is room for.
    unsafe {
        check((api.GetTensorTypeAndShape)(value, &mut info))?;
        // As a number: a later release may have types that this enumeration has not.
        let mut found = 0_i32;
        let typed = check((api.GetTensorElementType)(info, (&raw mut found).cast()));
        let read = typed.and_then(|()| check((api.GetDimensionsCount)(info, &mut sizes.axes)));
        let read = read.and_then(|()| {
            if found != expected as i32 {
                return Err(ort::Error::new(
                    "an input of an operation is of another element type than it takes",
                ));
            }
            if sizes.axes > MAX_RANK {
                return Err(ort::Error::new("an input of an operation has too many axes"));
            }
            check((api.GetDimensions)(info, sizes.sizes.as_mut_ptr(), sizes.axes))
        });
        (api.ReleaseTensorTypeAndShapeInfo)(info);
        read.map(|()| sizes)
    }
}

/// # Safety
/// `value` must be a tensor of `T`.
unsafe fn data<T>(value: *mut OrtValue) -> ort::Result<*mut T> {
    let mut data: *mut c_void = null_mut();
    // SAFETY: the caller's promise.
    unsafe { check((ort::api().GetTensorMutableData)(value, &mut data))? };
    // A tensor without values may have no place.
    Ok(match data.is_null() {
        true => std::ptr::NonNull::<T>::dangling().as_ptr(),
        false => data.cast(),
    })
}

/// An error, if `status` is one.
///
/// # Safety
/// `status` must come from a call of ONNX Runtime, and not have been released.
pub(super) unsafe fn check(status: OrtStatusPtr) -> ort::Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: the caller's promise; the message lives until the release.
    unsafe {
        let message = CStr::from_ptr((api.GetErrorMessage)(status.0))
            .to_string_lossy()
            .into_owned();
        (api.ReleaseStatus)(status.0);
        Err(ort::Error::new(message))
    }
}
