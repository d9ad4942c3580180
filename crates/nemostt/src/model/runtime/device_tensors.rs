// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tensors in the memory of a session's device, and their copies in host memory.

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    value::PrimitiveTensorElementType,
};

use super::{Session, Tensor, enter, exit::Owned, failed};
use crate::{device::Device, error::Result, sync::lock};

/// A tensor that the host writes and the device reads, or the other way round.
#[derive(Debug)]
pub(crate) struct StagedTensor<T: PrimitiveTensorElementType + std::fmt::Debug> {
    host: Tensor<T>,
    /// `None` if the device uses host memory.
    device: Option<Tensor<T>>,
}

impl<T: PrimitiveTensorElementType + std::fmt::Debug> StagedTensor<T> {
    /// Values in host memory, in row-major order.
    pub(crate) fn data(&self) -> &[T] {
        self.host.data()
    }

    /// Values in host memory, in row-major order.
    pub(crate) fn data_mut(&mut self) -> &mut [T] {
        self.host.data_mut()
    }

    /// What runs read.
    pub(crate) fn on_device(&self) -> &Tensor<T> {
        self.device.as_ref().unwrap_or(&self.host)
    }

    /// What runs write.
    pub(crate) fn on_device_mut(&mut self) -> &mut Tensor<T> {
        self.device.as_mut().unwrap_or(&mut self.host)
    }

    /// Copies the values to the device.
    pub(crate) fn upload(&mut self) -> Result<()> {
        match &mut self.device {
            Some(device) => self.host.copy_to(device),
            None => Ok(()),
        }
    }

    /// Copies the values from the device.
    pub(crate) fn download(&mut self) -> Result<()> {
        match &self.device {
            Some(device) => device.copy_to(&mut self.host),
            None => Ok(()),
        }
    }
}

impl<T: PrimitiveTensorElementType + std::fmt::Debug> Tensor<T> {
    /// Copies all values to a tensor of the same shape, on whichever device, and waits for it.
    fn copy_to(&self, target: &mut Self) -> Result<()> {
        let _inside = enter()?;
        let copied = self.0.copy_into(&mut *target.0);
        copied.map_err(|error| failed("copy a tensor between devices", error))
    }
}

impl Session {
    /// A tensor of zeros in the memory of the device.
    pub(crate) fn device_tensor<T>(&self, shape: &[usize]) -> Result<Tensor<T>>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        Ok(match self.uninitialized(shape)? {
            None => Tensor::zeros(shape)?,
            Some(mut tensor) => {
                // Device memory is not initialized.
                Tensor::zeros(shape)?.copy_to(&mut tensor)?;
                tensor
            }
        })
    }

    /// A tensor of zeros in host memory, with one of the same shape on the device.
    pub(crate) fn staged_tensor<T>(&self, shape: &[usize]) -> Result<StagedTensor<T>>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        Ok(StagedTensor {
            host: Tensor::zeros(shape)?,
            device: self.uninitialized(shape)?,
        })
    }

    /// A tensor in the memory of the device; `None` if that is host memory.
    fn uninitialized<T>(&self, shape: &[usize]) -> Result<Option<Tensor<T>>>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let Device::Cuda(index) = self.device else {
            return Ok(None);
        };
        let _inside = enter()?;
        let shape: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        let allocate = || {
            let memory = MemoryInfo::new(
                AllocationDevice::CUDA,
                index as i32,
                AllocatorType::Device,
                MemoryType::Default,
            )?;
            let allocator = Allocator::new(&lock(self.first()), memory)?;
            ort::value::Tensor::new(&allocator, shape)
        };
        let tensor = allocate().map_err(|error| failed("allocate a tensor on the device", error))?;
        Ok(Some(Tensor(Owned::new(tensor))))
    }
}
