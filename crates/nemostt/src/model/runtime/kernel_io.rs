// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inputs, outputs and threads of a custom operator, through ONNX Runtime's C API.
//!
//! `ort`'s wrappers allocate a value with type and shape on the heap for each tensor: 600 per step, at half a
//! microsecond each. Nothing is allocated here.

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

/// Shape of a tensor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TensorShape {
    dims: [i64; MAX_RANK],
    rank: usize,
}

impl TensorShape {
    /// The shape \[rows, width\].
    pub(super) fn of_rows(rows: usize, width: usize) -> Self {
        let mut dims = [0; MAX_RANK];
        dims[..2].copy_from_slice(&[rows as i64, width as i64]);
        Self { dims, rank: 2 }
    }

    /// The same shape with another size of the last axis.
    pub(super) fn with_last(mut self, size: usize) -> Self {
        if let Some(last) = self.dims[..self.rank].last_mut() {
            *last = size as i64;
        }
        self
    }

    fn dims(&self) -> &[i64] {
        &self.dims[..self.rank]
    }

    /// Size of the last axis.
    pub(super) fn last(&self) -> usize {
        self.dims().last().map_or(0, |&last| last.max(0) as usize)
    }

    /// Number of elements.
    fn element_count(&self) -> usize {
        self.dims().iter().map(|&size| size.max(0) as usize).product()
    }
}

/// Inputs and outputs of one run of an operator.
pub(super) struct Tensors<'a> {
    context: &'a ComputeContext,
    /// The first output that was not returned yet.
    next: Cell<usize>,
}

impl<'a> Tensors<'a> {
    /// The tensors of the run of `context`.
    ///
    /// # Safety
    /// May be called once per run, because each output is returned once. All outputs of the operator must be declared as
    /// float32.
    pub(super) unsafe fn of(context: &'a ComputeContext) -> Self {
        Self {
            context,
            next: Cell::new(0),
        }
    }

    /// Shape and values of input `index`. An error if it is not float32, which ONNX Runtime checks only for some
    /// operators.
    pub(super) fn input(&self, index: usize) -> ort::Result<(TensorShape, *const [f32])> {
        let value = self.value(index)?;
        // SAFETY: a live tensor of float32, as `shape_of` checks.
        let (shape, start) = unsafe {
            let shape = shape_of(value, Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)?;
            (shape, data::<f32>(value)?)
        };
        Ok((shape, slice_from_raw_parts(start, shape.element_count())))
    }

    /// The single value of input `index`. An error if it is not int64.
    pub(super) fn scalar(&self, index: usize) -> ort::Result<i64> {
        let value = self.value(index)?;
        // SAFETY: as in `input`.
        let (shape, start) = unsafe {
            let shape = shape_of(value, Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)?;
            (shape, data::<i64>(value)?)
        };
        match shape.element_count() {
            // SAFETY: there is one value.
            1 => Ok(unsafe { *start }),
            _ => Err(ort::Error::new("a scalar input must have exactly one element")),
        }
    }

    fn value(&self, index: usize) -> ort::Result<*mut OrtValue> {
        let api = ort::api();
        let mut value: *const OrtValue = null_mut();
        // SAFETY: ONNX Runtime's context lives as long as the borrow.
        unsafe { check((api.KernelContext_GetInput)(self.context.ptr(), index, &mut value))? };
        match value.is_null() {
            true => Err(ort::Error::new("an operator lacks an input")),
            false => Ok(value.cast_mut()),
        }
    }

    /// Values of output `index`, to be written. Outputs must be requested in order: an error if this or a later one was
    /// requested before.
    pub(super) fn output(&self, index: usize, shape: TensorShape) -> ort::Result<*mut [f32]> {
        if index < self.next.get() {
            return Err(ort::Error::new("an operator requests an output twice"));
        }
        self.next.set(index + 1);
        let (api, dims) = (ort::api(), shape.dims());
        let mut value: *mut OrtValue = null_mut();
        // SAFETY: as for inputs; ONNX Runtime updates its record of the output.
        unsafe {
            let context = self.context.ptr().cast_mut();
            check((api.KernelContext_GetOutput)(
                context,
                index,
                dims.as_ptr(),
                dims.len(),
                &mut value,
            ))?;
        }
        if value.is_null() {
            return Err(ort::Error::new("an operator lacks an output"));
        }
        // SAFETY: a live tensor of float32, as `of` requires.
        let start = unsafe { data::<f32>(value)? };
        Ok(slice_from_raw_parts_mut(start, shape.element_count()))
    }

    /// Calls `work` once for each index below `task_count`, on the session's threads. A panic becomes an error.
    pub(super) fn parallel_for<F: Fn(usize) + Sync>(&self, task_count: usize, work: F) -> ort::Result<()> {
        struct Tasks<F> {
            work: F,
            has_panicked: AtomicBool,
        }
        unsafe extern "C" fn call<F: Fn(usize) + Sync>(tasks: *mut c_void, task: usize) {
            // SAFETY: it points to `tasks` below, which outlives all calls.
            let tasks = unsafe { &*tasks.cast::<Tasks<F>>() };
            // Must not unwind into ONNX Runtime. Partially written outputs are not read, because the run fails.
            if catch_unwind(AssertUnwindSafe(|| (tasks.work)(task))).is_err() {
                tasks.has_panicked.store(true, Ordering::Relaxed);
            }
        }
        let api = ort::api();
        let tasks = Tasks {
            work,
            has_panicked: AtomicBool::new(false),
        };
        // SAFETY: `tasks` lives until the call returns, and is only read.
        unsafe {
            let tasks = (&raw const tasks).cast_mut().cast();
            check((api.KernelContext_ParallelFor)(
                self.context.ptr(),
                call::<F>,
                task_count,
                task_count,
                tasks,
            ))?;
        }
        match tasks.has_panicked.into_inner() {
            true => Err(super::custom_ops::panicked()),
            false => Ok(()),
        }
    }
}

/// The shape of `value`. An error if its element type is not `expected`.
///
/// # Safety
/// `value` must be a live value.
unsafe fn shape_of(value: *const OrtValue, expected: Type) -> ort::Result<TensorShape> {
    let api = ort::api();
    let mut info: *mut OrtTensorTypeAndShapeInfo = null_mut();
    let mut shape = TensorShape {
        dims: [0; MAX_RANK],
        rank: 0,
    };
    // SAFETY: the caller's guarantee; at most `MAX_RANK` dimensions are written.
    unsafe {
        check((api.GetTensorTypeAndShape)(value, &mut info))?;
        // As an integer: a later release may have types that this enum does not know.
        let mut found = 0_i32;
        let typed = check((api.GetTensorElementType)(info, (&raw mut found).cast()));
        let read = typed.and_then(|()| check((api.GetDimensionsCount)(info, &mut shape.rank)));
        let read = read.and_then(|()| {
            if found != expected as i32 {
                return Err(ort::Error::new(
                    "an input of an operator has an unexpected element type",
                ));
            }
            if shape.rank > MAX_RANK {
                return Err(ort::Error::new("an input of an operator has too many axes"));
            }
            check((api.GetDimensions)(info, shape.dims.as_mut_ptr(), shape.rank))
        });
        (api.ReleaseTensorTypeAndShapeInfo)(info);
        read.map(|()| shape)
    }
}

/// # Safety
/// `value` must be a tensor of `T`.
unsafe fn data<T>(value: *mut OrtValue) -> ort::Result<*mut T> {
    let mut data: *mut c_void = null_mut();
    // SAFETY: the caller's guarantee.
    unsafe { check((ort::api().GetTensorMutableData)(value, &mut data))? };
    // An empty tensor may have no memory.
    Ok(match data.is_null() {
        true => std::ptr::NonNull::<T>::dangling().as_ptr(),
        false => data.cast(),
    })
}

/// Converts `status` to a result.
///
/// # Safety
/// `status` must have been returned by ONNX Runtime, and not been released.
pub(super) unsafe fn check(status: OrtStatusPtr) -> ort::Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: the caller's guarantee; the message lives until the release.
    unsafe {
        let message = CStr::from_ptr((api.GetErrorMessage)(status.0))
            .to_string_lossy()
            .into_owned();
        (api.ReleaseStatus)(status.0);
        Err(ort::Error::new(message))
    }
}
