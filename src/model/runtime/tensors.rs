// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inputs and outputs of an operation of ours, and the threads it runs on, by ONNX Runtime's C interface.
//!
//! `ort` has them, too, but makes a value with its type and shape on the heap for each: 600 of them in a step, at half a
//! microsecond. Here nothing is allocated.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_void},
    ptr::null_mut,
    slice,
};

use ort::{
    AsPointer,
    operator::ComputeContext,
    sys::{OrtStatusPtr, OrtTensorTypeAndShapeInfo, OrtValue},
};

/// More axes than any tensor of an encoder has.
pub(super) const MOST_AXES: usize = 8;

/// Sizes of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    sizes: [i64; MOST_AXES],
    axes: usize,
}

impl Sizes {
    /// Those of `rows` rows of `width` values.
    pub(super) fn of_rows(rows: usize, width: usize) -> Self {
        let mut sizes = [0; MOST_AXES];
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

/// Sizes and values of input `index`, which must be declared to be of float32.
pub(super) fn input(context: &ComputeContext, index: usize) -> ort::Result<(Sizes, &[f32])> {
    let value = value_of(context, index)?;
    // SAFETY: it is a tensor of float32, else ONNX Runtime would not have taken the graph; it lasts as long as the borrow.
    unsafe {
        let sizes = sizes_of(value)?;
        Ok((sizes, slice::from_raw_parts(data(value)?, sizes.values())))
    }
}

/// The one value of input `index`, which must be declared to be of int64.
pub(super) fn number(context: &ComputeContext, index: usize) -> ort::Result<i64> {
    let value = value_of(context, index)?;
    // SAFETY: as for floats.
    unsafe {
        match sizes_of(value)?.values() {
            1 => Ok(*data::<i64>(value)?),
            _ => Err(ort::Error::new("an input of one number has another size")),
        }
    }
}

fn value_of(context: &ComputeContext, index: usize) -> ort::Result<*mut OrtValue> {
    let api = ort::api();
    let mut value: *const OrtValue = null_mut();
    // SAFETY: ONNX Runtime gives the context of a run that lasts as long as the borrow.
    unsafe { check((api.KernelContext_GetInput)(context.ptr(), index, &mut value))? };
    match value.is_null() {
        true => Err(ort::Error::new("an operation has not all inputs")),
        false => Ok(value.cast_mut()),
    }
}

/// Room for output `index`, which must be declared to be of float32 and asked for once.
// The context hands out each output once, to a kernel that alone runs on it.
#[allow(clippy::mut_from_ref)]
pub(super) fn output(context: &ComputeContext, index: usize, sizes: Sizes) -> ort::Result<&mut [f32]> {
    let api = ort::api();
    let mut value: *mut OrtValue = null_mut();
    // SAFETY: as for inputs; nobody else writes an output while its kernel runs.
    unsafe {
        let context = context.ptr().cast_mut();
        let all = sizes.all();
        check((api.KernelContext_GetOutput)(
            context,
            index,
            all.as_ptr(),
            all.len(),
            &mut value,
        ))?;
        if value.is_null() {
            return Err(ort::Error::new("an operation has not all outputs"));
        }
        Ok(slice::from_raw_parts_mut(data(value)?, sizes.values()))
    }
}

/// Calls `work` with each number below `pieces` once, on the threads of the session.
pub(super) fn for_each_piece<F: Fn(usize) + Sync>(context: &ComputeContext, pieces: usize, work: F) -> ort::Result<()> {
    unsafe extern "C" fn call<F: Fn(usize) + Sync>(work: *mut c_void, piece: usize) {
        // SAFETY: it is the `work` below, which waits until all calls are done.
        unsafe { (*work.cast::<F>())(piece) }
    }
    let api = ort::api();
    // SAFETY: `work` lives until the call returns, and is only read.
    unsafe {
        let work = (&raw const work).cast_mut().cast();
        check((api.KernelContext_ParallelFor)(
            context.ptr(),
            call::<F>,
            pieces,
            pieces,
            work,
        ))
    }
}

/// # Safety
/// `value` must be a tensor.
unsafe fn sizes_of(value: *const OrtValue) -> ort::Result<Sizes> {
    let api = ort::api();
    let mut info: *mut OrtTensorTypeAndShapeInfo = null_mut();
    let mut sizes = Sizes {
        sizes: [0; MOST_AXES],
        axes: 0,
    };
    // SAFETY: the caller's promise; no more is written than there is room for.
    unsafe {
        check((api.GetTensorTypeAndShape)(value, &mut info))?;
        let read = check((api.GetDimensionsCount)(info, &mut sizes.axes)).and_then(|()| {
            if sizes.axes > MOST_AXES {
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
