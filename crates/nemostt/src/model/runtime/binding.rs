// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tensors of a run.

use std::sync::Arc;

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::IoBinding,
    value::PrimitiveTensorElementType,
};

use super::{
    Tensor,
    exit::{Owned, enter},
    failed,
    session::Replica,
};
use crate::error::Result;

/// The tensors that a run reads and writes.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(super) binding: Owned<IoBinding>,
    pub(super) replica: Arc<Replica>,
    /// Whether the CPU pretends to be a device of which [`Session::copies_inputs`](super::Session::copies_inputs) is true.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) copies_inputs: bool,
}

impl Binding {
    /// Reads input `name` from `tensor`: in each run, unless the session [copies
    /// inputs](super::Session::copies_inputs).
    pub(crate) fn input<T>(&mut self, name: &str, tensor: &Tensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        #[cfg(any(test, feature = "fuzzing"))]
        if self.copies_inputs {
            return self.memory_input(name, &tensor.copied()?);
        }
        self.memory_input(name, tensor)
    }

    /// Reads input `name` from `tensor`, which is in the memory of the device.
    pub(super) fn memory_input<T>(&mut self, name: &str, tensor: &Tensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let _inside = enter()?;
        let bound = self.binding.bind_input(name, &tensor.0);
        bound.map_err(|error| failed(format!("bind input {name}"), error))
    }

    /// Lets a run allocate output `name`, whose shape is not known.
    pub(super) fn allocate_output(&mut self, name: &str) -> ort::Result<()> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        self.binding.bind_output_to_device(name, &memory)
    }

    /// Writes output `name` to `tensor`.
    pub(crate) fn output<T>(&mut self, name: &str, tensor: &mut Tensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let _inside = enter()?;
        let bound = self.binding.bind_output(name, tensor.0.view_mut());
        bound.map_err(|error| failed(format!("bind output {name}"), error))
    }
}
