// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tensors in the memory of a session's device, and their copies in host memory.

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    value::PrimitiveTensorElementType,
};

use super::{Binding, Session, Tensor, enter, exit::Owned, failed, graph_capture::shared_use};
use crate::{device::Device, error::Result, sync::lock};

/// A tensor that only runs read and write, in the memory of the device.
#[derive(Debug)]
pub(crate) struct DeviceTensor<T: PrimitiveTensorElementType + std::fmt::Debug> {
    tensor: Tensor<T>,
    device: Device,
}

/// A tensor that the host writes and the device reads, or the other way round.
#[derive(Debug)]
pub(crate) struct StagedTensor<T: PrimitiveTensorElementType + std::fmt::Debug> {
    host: Tensor<T>,
    /// `None` if the device uses host memory.
    device: Option<DeviceTensor<T>>,
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

    /// Copies the values to the device.
    pub(crate) fn upload(&mut self) -> Result<()> {
        match &mut self.device {
            Some(DeviceTensor { tensor, device }) => {
                let _shared = shared_use(*device);
                self.host.copy_to(tensor)
            }
            None => Ok(()),
        }
    }

    /// Copies the values from the device.
    pub(crate) fn download(&mut self) -> Result<()> {
        match &self.device {
            Some(DeviceTensor { tensor, device }) => {
                let _shared = shared_use(*device);
                tensor.copy_to(&mut self.host)
            }
            None => Ok(()),
        }
    }
}

impl Binding {
    /// Lets input `name` be `tensor`, as it is on the device in each run.
    pub(crate) fn staged_input<T>(&mut self, name: &str, tensor: &StagedTensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        match &tensor.device {
            Some(device) => self.memory_input(name, &device.tensor),
            None => self.memory_input(name, &tensor.host),
        }
    }

    /// Lets output `name` be `tensor` on the device.
    pub(crate) fn staged_output<T>(&mut self, name: &str, tensor: &mut StagedTensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        match &mut tensor.device {
            Some(device) => self.output(name, &mut device.tensor),
            None => self.output(name, &mut tensor.host),
        }
    }

    /// Lets `tensor` be both input and output of each run, by these names.
    pub(crate) fn updated<T>(&mut self, [input, output]: [&str; 2], tensor: &mut DeviceTensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        self.memory_input(input, &tensor.tensor)?;
        self.output(output, &mut tensor.tensor)
    }
}

impl<T: PrimitiveTensorElementType + std::fmt::Debug> Tensor<T> {
    /// Another tensor of the same values.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn copied(&self) -> Result<Self> {
        let _inside = enter()?;
        Ok(Self(Owned::new((*self.0).clone())))
    }

    /// Copies all values to a tensor of the same shape, on whichever device, and waits for it.
    fn copy_to(&self, target: &mut Self) -> Result<()> {
        let _inside = enter()?;
        let copied = self.0.copy_into(&mut *target.0);
        copied.map_err(|error| failed("copy a tensor between devices", error))
    }
}

impl Session {
    /// A tensor of zeros in the memory of the device.
    pub(crate) fn device_tensor<T>(&self, shape: &[usize]) -> Result<DeviceTensor<T>>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        Ok(match self.uninitialized(shape)? {
            None => DeviceTensor {
                tensor: Tensor::zeros(shape)?,
                device: self.device,
            },
            Some(mut created) => {
                let _shared = shared_use(self.device);
                // Device memory is not initialized.
                Tensor::zeros(shape)?.copy_to(&mut created.tensor)?;
                created
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
    fn uninitialized<T>(&self, shape: &[usize]) -> Result<Option<DeviceTensor<T>>>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let Device::Cuda(index) = self.device else {
            // Other memory than the host's if the CPU pretends to be a device.
            return match self.copies_inputs() {
                true => Ok(Some(DeviceTensor {
                    tensor: Tensor::zeros(shape)?,
                    device: self.device,
                })),
                false => Ok(None),
            };
        };
        let _inside = enter()?;
        let _shared = shared_use(self.device);
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
        Ok(Some(DeviceTensor {
            tensor: Tensor(Owned::new(tensor)),
            device: self.device,
        }))
    }
}
