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
}

impl Binding {
    /// Reads input `name` from `tensor`.
    pub(crate) fn input<T>(&mut self, name: &str, tensor: &Tensor<T>) -> Result<()>
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
