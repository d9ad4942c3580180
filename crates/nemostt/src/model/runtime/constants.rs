// SPDX-License-Identifier: MIT OR Apache-2.0

//! The outputs of a graph without inputs.

use super::{Session, enter, failed};
use crate::{error::Result, sync::lock};

/// Shape and values of a constant.
#[derive(Debug, Clone)]
pub(super) enum ConstantTensor {
    Floats(Vec<usize>, Vec<f32>),
    Ints(Vec<usize>, Vec<i64>),
}

impl Session {
    /// Runs a graph without inputs, and returns the outputs `names`, which are float32 or int64.
    pub(super) fn constants(&self, names: &[String]) -> Result<Vec<ConstantTensor>> {
        let doing = "compute constants";
        let mut binding = self.bind()?;
        let _inside = enter()?;
        for name in names {
            let bound = binding.allocate_output(name);
            bound.map_err(|error| failed(doing, error))?;
        }
        let mut session = lock(&binding.replica);
        let outputs = session
            .run_binding(&binding.binding)
            .map_err(|error| failed(doing, error))?;
        let sizes = |shape: &[i64]| shape.iter().map(|&size| size.max(0) as usize).collect();
        let tensor = |name: &String| {
            let value = outputs
                .get(name.as_str())
                .ok_or_else(|| failed(doing, "no such output"))?;
            if let Ok((shape, values)) = value.try_extract_tensor::<f32>() {
                return Ok(ConstantTensor::Floats(sizes(shape), values.to_vec()));
            }
            let ints = value.try_extract_tensor::<i64>();
            let (shape, values) = ints.map_err(|error| failed(doing, error))?;
            Ok(ConstantTensor::Ints(sizes(shape), values.to_vec()))
        };
        names.iter().map(tensor).collect()
    }
}
