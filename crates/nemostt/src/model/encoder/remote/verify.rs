// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compares the model on a server with the local one.

use nemostt_triton::{DataType, ModelInfo, TensorSpec, printable};

use super::RemoteEncoder;
use crate::{
    error::{Error, Result},
    model::{Difference, ServedTensor},
};
use nemostt_compiler::ElementType;

impl RemoteEncoder {
    /// Checks that `info`, of `server`, is the local model's encoder.
    ///
    /// # Errors
    /// [`Error::OtherRemoteModel`], which names all differences.
    pub(super) fn verify(&self, server: usize, info: &ModelInfo) -> Result<()> {
        let mut differences = of_tensors("input", &self.tensors.inputs, &info.inputs);
        differences.extend(of_tensors("output", &self.tensors.outputs, &info.outputs));
        let parameters = self.identity.differences(&info.parameters);
        differences.extend(parameters.iter().map(Difference::to_string));
        if !differences.is_empty() {
            return Err(Error::OtherRemoteModel {
                server: self.client.address().servers[server].to_string(),
                model: self.name.clone(),
                differences: differences.iter().map(|text| printable(text)).collect(),
            });
        }
        self.servers[server].set_verified();
        Ok(())
    }
}

/// In what the tensors of a role differ. The local model needs all of its own; of inputs, there must be no others.
fn of_tensors(role: &str, local: &[ServedTensor], remote: &[TensorSpec]) -> Vec<String> {
    let missing = local.iter().filter_map(|tensor| {
        let (name, expected) = (&tensor.name, expected(tensor));
        let Some(remote) = remote.iter().find(|remote| remote.name == *name) else {
            return Some(format!("{role} {name} is missing there"));
        };
        let found = (remote.data_type.as_str(), remote.shape.as_slice());
        let (data_type, shape) = &expected;
        (found != (data_type.name(), shape)).then(|| {
            format!(
                "{role} {name} is {} {:?} there, and {} {shape:?} here",
                remote.data_type,
                remote.shape,
                data_type.name()
            )
        })
    });
    let unknown = remote
        .iter()
        .filter(|remote| role == "input" && local.iter().all(|local| local.name != remote.name));
    let unknown: Vec<&str> = unknown.map(|remote| remote.name.as_str()).collect();
    let unknown = (!unknown.is_empty()).then(|| format!("{role} {} is unknown here", unknown.join(", ")));
    missing.chain(unknown).collect()
}

/// Type and shape of `tensor` in the server's metadata: any batch, and a number has one element.
pub(super) fn expected(tensor: &ServedTensor) -> (DataType, Vec<i64>) {
    let data_type = match tensor.element {
        ElementType::I64 => DataType::Int64,
        _ => DataType::Fp32,
    };
    let dims = match tensor.dims.is_empty() {
        true => vec![1],
        false => tensor.dims.iter().map(|&dim| dim as i64).collect(),
    };
    (data_type, [vec![-1], dims].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_tensors_name_both_sides() {
        let tensor = |name: &str, element, dims: &[usize]| ServedTensor {
            name: name.into(),
            element,
            dims: dims.into(),
        };
        let spec = |name: &str, data_type: &str, shape: &[i64]| TensorSpec {
            name: name.into(),
            data_type: data_type.into(),
            shape: shape.into(),
        };
        let local = [
            tensor("audio_signal", ElementType::F32, &[80, 25]),
            tensor("length", ElementType::I64, &[]),
        ];
        let same = [
            spec("length", "INT64", &[-1, 1]),
            spec("audio_signal", "FP32", &[-1, 80, 25]),
        ];
        assert!(of_tensors("input", &local, &same).is_empty());
        let other = [
            spec("audio_signal", "FP32", &[-1, 80, 121]),
            spec("extra", "BOOL", &[-1]),
            spec("more", "BOOL", &[-1]),
        ];
        let found = of_tensors("input", &local, &other);
        assert_eq!(
            found,
            [
                "input audio_signal is FP32 [-1, 80, 121] there, and FP32 [-1, 80, 25] here",
                "input length is missing there",
                "input extra, more is unknown here"
            ]
        );
        assert_eq!(of_tensors("output", &local, &other).len(), 2);
    }
}
